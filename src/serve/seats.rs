//! Who holds the open connections. A connection that waits for its peer (for a head, a body, or the next request) yields
//! to a newcomer, the oldest first: idle and slow peers shut nobody out. Not responsible for: reading connections
//! (`connections`), requests in flight (`slots`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Connections that are open at once; one more is held for questions about health alone.
const ALL_MOST: usize = 1024;
/// Connections of one account that wait for their peer.
const WAITING_MOST: usize = 128;
/// Connections beyond [`ALL_MOST`].
const SPARE_MOST: usize = 32;
/// How long a new connection may say nothing.
const GREETING_BOUND: Duration = Duration::from_secs(10);
/// How long a connection may say nothing between two requests.
const IDLE_BOUND: Duration = Duration::from_secs(75);
/// How long a head may take from its first byte.
const HEAD_BOUND: Duration = Duration::from_secs(10);

/// Whose a connection or a request is: the token's holder, else the address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Account {
    /// Nobody has shown a token on it yet. An IPv6 network counts as one address.
    Address(IpAddr),
    /// The name of the token.
    Token(String),
    /// A user of this machine, on the socket file.
    Local,
}

impl Account {
    /// The account of an address.
    pub fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Says nothing, until this bound is over.
    Idle(Duration),
    /// Sends a head.
    Head,
    /// Sends a body.
    Body,
    /// Its request is worked on.
    Work,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It said nothing.
    Silent,
    /// It did not end its head.
    Head,
}

struct Entry {
    account: Account,
    phase: Phase,
    since: Instant,
    turn: u64,
    leave: Arc<watch::Sender<bool>>,
    spare: bool,
}

impl Entry {
    /// Whether the connection waits for its peer, and can be closed for a newcomer.
    fn waits(&self) -> bool {
        self.phase != Phase::Work && !*self.leave.borrow()
    }
}

#[derive(Default)]
struct Open {
    turns: u64,
    entries: BTreeMap<u64, Entry>,
}

/// All open connections.
#[derive(Default)]
pub(super) struct Seats(Mutex<Open>);

/// One open connection, until it is dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    id: u64,
    leave: watch::Receiver<bool>,
}

impl Seats {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a new connection. There is always room: another one leaves where there is none.
    pub fn take(self: &Arc<Self>, account: Account) -> Arc<Seat> {
        let mut open = self.open();
        let id = open.turn();
        let (leave, left) = watch::channel(false);
        let mut spare = false;
        if open.staying(|entry| !entry.spare) >= ALL_MOST {
            spare = !open.yield_one();
        }
        if spare && open.staying(|entry| entry.spare) >= SPARE_MOST {
            open.dismiss_oldest(|entry| entry.spare);
        }
        let phase = Phase::Idle(GREETING_BOUND);
        let entry =
            Entry { account: account.clone(), phase, since: Instant::now(), turn: id, leave: leave.into(), spare };
        open.entries.insert(id, entry);
        open.bound(&account);
        Arc::new(Seat { seats: Arc::clone(self), id, leave: left })
    }
}

impl Open {
    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn staying(&self, of: impl Fn(&Entry) -> bool) -> usize {
        self.entries.values().filter(|entry| !*entry.leave.borrow() && of(entry)).count()
    }

    /// Dismisses whoever waits the longest among these. False if none waits.
    fn dismiss_oldest(&self, of: impl Fn(&Entry) -> bool) -> bool {
        let waiting = self.entries.values().filter(|entry| entry.waits() && of(entry));
        let oldest = waiting.min_by_key(|entry| entry.turn);
        oldest.is_some_and(|entry| !entry.leave.send_replace(true))
    }

    /// Dismisses a waiting connection of the account that has most of them; those beyond the limit do not count.
    fn yield_one(&self) -> bool {
        let mut waiting: BTreeMap<&Account, usize> = BTreeMap::new();
        for entry in self.entries.values().filter(|entry| entry.waits() && !entry.spare) {
            *waiting.entry(&entry.account).or_default() += 1;
        }
        let most = waiting.into_iter().max_by_key(|(_, count)| *count).map(|(account, _)| account);
        most.is_some_and(|account| self.dismiss_oldest(|entry| entry.account == *account && !entry.spare))
    }

    /// Holds an account to its number of waiting connections.
    fn bound(&self, account: &Account) {
        let of = |entry: &Entry| entry.account == *account && entry.waits();
        if self.entries.values().filter(|entry| of(entry)).count() > WAITING_MOST {
            self.dismiss_oldest(of);
        }
    }
}

impl Seat {
    fn change<T>(&self, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.seats.open().entries.get_mut(&self.id).map(change)
    }

    fn enter(&self, next: impl FnOnce(Phase) -> Option<Phase>) {
        let mut open = self.seats.open();
        let turn = open.turn();
        let Some(entry) = open.entries.get_mut(&self.id) else { return };
        let Some(phase) = next(entry.phase) else { return };
        let was_waiting = entry.waits();
        (entry.phase, entry.since) = (phase, Instant::now());
        if !was_waiting || matches!(phase, Phase::Body) {
            entry.turn = turn;
        }
        let account = entry.account.clone();
        open.bound(&account);
    }

    /// Bytes came.
    pub fn heard(&self) {
        self.enter(|phase| matches!(phase, Phase::Idle(_)).then_some(Phase::Head));
    }

    /// A head is complete; its body comes.
    pub fn called(&self) {
        self.enter(|_| Some(Phase::Body));
    }

    /// A request is complete.
    pub fn works(&self) {
        self.enter(|_| Some(Phase::Work));
    }

    /// A request is answered.
    pub fn answered(&self) {
        self.enter(|_| Some(Phase::Idle(IDLE_BOUND)));
    }

    /// The connection is of this account from now on.
    pub fn belongs(&self, account: &Account) {
        self.change(|entry| entry.account.clone_from(account));
    }

    /// Whether there was no room for this connection: it may ask for health alone.
    pub fn is_spare(&self) -> bool {
        self.change(|entry| entry.spare).unwrap_or(false)
    }

    /// Whether a request is being answered.
    pub fn is_called(&self) -> bool {
        self.change(|entry| matches!(entry.phase, Phase::Body | Phase::Work)).unwrap_or(false)
    }

    /// Whether a whole request is worked on.
    pub fn is_working(&self) -> bool {
        self.change(|entry| entry.phase == Phase::Work).unwrap_or(false)
    }

    /// Whether its peer has let it wait for too long.
    pub fn overdue(&self) -> Option<Overdue> {
        self.change(|entry| match entry.phase {
            Phase::Idle(bound) if entry.since.elapsed() > bound => Some(Overdue::Silent),
            Phase::Head if entry.since.elapsed() > HEAD_BOUND => Some(Overdue::Head),
            _ => None,
        })
        .flatten()
    }

    /// Waits until the connection is to make room for another one.
    pub async fn dismissed(&self) {
        // The sender lives as long as the entry, and the entry as long as the seat.
        let _ = self.leave.clone().wait_for(|leave| *leave).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.open().entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dismissed(seat: &Seat) -> bool {
        *seat.leave.borrow()
    }

    fn address(last: u8) -> Account {
        Account::of(IpAddr::from([127, 0, 0, last]))
    }

    #[tokio::test]
    async fn the_oldest_waiting_one_of_the_same_account_makes_room() {
        let seats = Arc::new(Seats::default());
        let other = seats.take(address(2));
        let worker = seats.take(address(1));
        worker.works();
        let idle: Vec<_> = (0..=WAITING_MOST).map(|_| seats.take(address(1))).collect();
        assert!(dismissed(&idle[0]) && !dismissed(&idle[1]));
        assert!(!dismissed(&worker) && !dismissed(&other), "somebody else made room");
        // Whoever shows a token leaves the address's account.
        idle[1].belongs(&Account::Token("t".to_owned()));
        drop(seats.take(address(1)));
        assert!(!dismissed(&idle[1]) && !dismissed(&idle[2]));
    }

    #[tokio::test]
    async fn the_account_with_most_waiting_ones_makes_room_for_all() {
        let seats = Arc::new(Seats::default());
        let mut held = Vec::new();
        for number in 0..ALL_MOST {
            let seat = seats.take(address(u8::try_from(number / 120).expect("few")));
            held.push(seat);
        }
        let one = seats.take(address(200));
        assert!(!one.is_spare() && !dismissed(&one));
        assert_eq!(held.iter().filter(|seat| dismissed(seat)).count(), 1);
        // Nobody waits any more: what comes now is for health alone.
        held.iter().for_each(|seat| seat.works());
        one.works();
        let spares: Vec<_> = (0..=SPARE_MOST).map(|_| seats.take(address(201))).collect();
        assert!(spares.iter().all(|seat| seat.is_spare()));
        assert!(dismissed(&spares[0]) && !dismissed(&spares[1]) && !dismissed(spares.last().expect("some")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_and_silence_come_to_an_end() {
        let seats = Arc::new(Seats::default());
        let seat = seats.take(address(1));
        tokio::time::advance(GREETING_BOUND / 2).await;
        assert_eq!(seat.overdue(), None);
        seat.heard();
        for _ in 0..3 {
            // More bytes of the same head give no more time.
            tokio::time::advance(HEAD_BOUND / 3).await;
            assert_eq!(seat.overdue(), None);
            seat.heard();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(seat.overdue(), Some(Overdue::Head));
        seat.works();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(seat.overdue(), None, "who waits for a machine is not late");
        seat.answered();
        tokio::time::advance(IDLE_BOUND + Duration::from_millis(1)).await;
        assert_eq!(seat.overdue(), Some(Overdue::Silent));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| Account::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:127.0.0.1"), of("127.0.0.1"));
    }
}

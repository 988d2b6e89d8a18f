//! Text on its way to a reader who may be slow or stuck: a thread of its own writes it, so that nobody waits for the
//! reader unless they ask to. Text that does not fit is left out and counted. Not responsible for: what is said.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Text that may wait, in bytes. One text may be longer.
const MOST: usize = 16 * 1024 * 1024;
/// Whoever waits for room waits until no more than this is left, in bytes.
const LITTLE: usize = 64 * 1024;
/// The longest write, in bytes: a reader that takes something is told from one that is stuck. A pipe takes as much in
/// one piece.
const PIECE: usize = 4096;

/// Takes text, and writes it in order.
#[derive(Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    texts: VecDeque<Vec<u8>>,
    /// Bytes that wait or are being written.
    bytes: usize,
    /// Whether text is left out until half of what waits is written: gaps are few and long.
    full: bool,
    /// Texts left out since that was last told.
    left_out: u64,
    /// Texts handed in and texts written, since the beginning.
    queued: u64,
    written: u64,
    /// Pieces written: they show that somebody reads.
    pieces: u64,
    /// The pieces that were written when somebody last gave up waiting.
    stuck_at: Option<u64>,
    /// The reader went away, or there is no thread.
    gone: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    /// Waits until `is_over`, while the reader takes something: not for longer than `patience` without that. Returns
    /// whether it is over.
    fn wait(&self, patience: Option<Duration>, is_over: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state();
        let (mut pieces, mut since) = (state.pieces, Instant::now());
        while !state.gone && !is_over(&state) {
            let Some(patience) = patience else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if pieces != state.pieces {
                (pieces, since) = (state.pieces, Instant::now());
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                state.stuck_at = Some(pieces);
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Outlet {
    /// An outlet that writes to `out`, and calls `gap` with the number of texts left out once there is room again.
    pub fn start(out: impl Write + Send + 'static, gap: fn(u64)) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let started = std::thread::Builder::new().name("outlet".to_owned()).spawn(move || write_out(&own, out, gap));
        // A process that has no room for a thread has none for words.
        shared.change(|state| state.gone |= started.is_err());
        Self { shared }
    }

    /// Hands in text. Waits for nobody.
    pub fn push(&self, text: &str) {
        self.shared.change(|state| {
            if state.gone || text.is_empty() {
                return;
            }
            state.full |= state.bytes >= MOST;
            if state.full {
                state.left_out += 1;
                return;
            }
            state.bytes += text.len();
            state.queued += 1;
            state.texts.push_back(text.into());
        });
    }

    /// Whether text still waits.
    pub fn is_behind(&self) -> bool {
        let state = self.shared.state();
        !state.gone && state.written < state.queued
    }

    /// Waits until there is room for much more: for whoever may be held up by the reader.
    pub fn wait_for_room(&self) {
        self.shared.wait(None, |state| state.bytes <= LITTLE);
    }

    /// Waits until what was handed in so far is written, as long as the reader takes something: not for longer than
    /// `patience` without that. One that was given up is waited for again once it has taken something.
    pub fn wait_in_order(&self, patience: Option<Duration>) {
        let (queued, is_stuck) = {
            let state = self.shared.state();
            (state.queued, state.stuck_at == Some(state.pieces))
        };
        if patience.is_none() || !is_stuck {
            self.shared.wait(patience, |state| state.written >= queued);
        }
    }

    /// Waits until everything is written, or until the reader has taken nothing for as long as `patience`.
    pub fn end(&self, patience: Option<Duration>) {
        self.shared.wait(patience, |state| state.written >= state.queued && state.left_out == 0);
    }

    /// Texts left out since that was last told.
    #[cfg(test)]
    fn left_out(&self) -> u64 {
        self.shared.state().left_out
    }
}

/// Writes until the reader goes away, or the process ends.
fn write_out(shared: &Shared, mut out: impl Write, gap: fn(u64)) {
    loop {
        let mut state = shared.state();
        let text = loop {
            match state.texts.pop_front() {
                Some(text) => break text,
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        if write_text(shared, &mut out, &text).is_err() {
            shared.change(|state| *state = State { gone: true, ..State::default() });
            return;
        }
        let left_out = shared.change(|state| {
            state.bytes -= text.len();
            state.full &= state.bytes > MOST / 2;
            if state.full { 0 } else { state.left_out }
        });
        if left_out > 0 {
            gap(left_out);
        }
        shared.change(|state| {
            state.left_out -= left_out;
            state.written += 1;
        });
    }
}

/// Writes a text. An error means that nobody will ever read; what a full disk does not take is lost.
fn write_text(shared: &Shared, out: &mut impl Write, mut text: &[u8]) -> std::io::Result<()> {
    while !text.is_empty() {
        match out.write(&text[..text.len().min(PIECE)]) {
            Ok(written) if written > 0 => text = &text[written..],
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(error),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return Ok(()),
        }
        shared.change(|state| state.pieces += 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(600));
    const SHORT: Option<Duration> = Some(Duration::from_millis(1));

    /// Takes as many pieces as it is let.
    struct Reader {
        may: Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.may.recv().map_err(|_| std::io::Error::from(ErrorKind::BrokenPipe))?;
            self.read.lock().expect("a lock").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn reader(gap: fn(u64)) -> (Outlet, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (let_read, may) = channel();
        let read = Arc::default();
        (Outlet::start(Reader { may, read: Arc::clone(&read) }, gap), let_read, read)
    }

    #[test]
    fn a_slow_reader_gets_all_in_order_and_is_waited_for_while_it_takes_something() {
        let (outlet, let_read, read) = reader(|count| panic!("{count} are left out"));
        let texts: Vec<String> = (0..300).map(|number| format!("{number}:{}\n", "x".repeat(5000))).collect();
        texts.iter().for_each(|text| outlet.push(text));
        // Each text is two pieces.
        let waited = std::thread::spawn(move || {
            outlet.end(LONG);
            outlet.is_behind()
        });
        (0..600).for_each(|_| let_read.send(()).expect("it writes"));
        assert!(!waited.join().expect("it waits"), "it waited for too little");
        assert_eq!(*read.lock().expect("a lock"), texts.concat().into_bytes());
    }

    #[test]
    fn a_stuck_reader_holds_up_nobody_and_what_is_left_out_is_told_once_it_reads_on() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let (outlet, let_read, read) = reader(|count| {
            TOLD.fetch_add(count, Ordering::Relaxed);
        });
        let text = "x".repeat(MOST / 16);
        (0..20).for_each(|_| outlet.push(&text));
        assert_eq!(outlet.left_out(), 4, "no more than the bound waits");
        outlet.end(SHORT);
        assert!(outlet.is_behind(), "nobody read");
        // It was given up: whoever wants an order does not wait for it again.
        outlet.wait_in_order(LONG);
        (0..16 * MOST / 16 / PIECE).for_each(|_| let_read.send(()).expect("it writes"));
        outlet.end(LONG);
        assert_eq!((read.lock().expect("a lock").len(), TOLD.load(Ordering::Relaxed)), (MOST, 4));
        outlet.push("again");
        let_read.send(()).expect("it writes");
        outlet.end(LONG);
        assert_eq!(read.lock().expect("a lock").len(), MOST + 5);
    }

    #[test]
    fn a_reader_that_went_away_is_waited_for_by_nobody() {
        let (outlet, let_read, _) = reader(|_| {});
        outlet.push(&"x".repeat(2 * LITTLE));
        drop(let_read);
        outlet.wait_for_room();
        outlet.end(None);
        outlet.push("nothing");
        assert!(!outlet.is_behind());
    }
}

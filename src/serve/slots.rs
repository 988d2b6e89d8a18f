//! Limits how many requests of one caller are handled at once, of each kind by itself: requests that wait for a machine,
//! or for its end, never take the place of those that give back or renew, and nobody takes the places of others. Not
//! responsible for: connections (`seats`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Method;

use super::document::{OFFERS, POOL};
use super::seats::Account;

/// Requests for leases of one caller that wait at once.
const LEASES_MOST: usize = 128;
/// Releases of one caller that are waited for at once; further ones are written down, and answered at once.
const RELEASES_MOST: usize = 128;
/// Lists of offers that the provider is asked for at once, for one caller.
const OFFERS_MOST: usize = 4;
/// All other requests of one caller at once. They only read or write the ledger.
const OTHERS_MOST: usize = 64;
/// How long a caller waits for a release; the release continues afterwards.
const RELEASE_PATIENCE: Duration = Duration::from_secs(60);

/// How long a request to give back waits for the release.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub Duration);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Lease,
    Release,
    Offers,
    Other,
}

impl Kind {
    fn most(self) -> usize {
        match self {
            Self::Lease => LEASES_MOST,
            Self::Release => RELEASES_MOST,
            Self::Offers => OFFERS_MOST,
            Self::Other => OTHERS_MOST,
        }
    }
}

/// The taken places of each caller and kind of request.
#[derive(Default)]
pub(super) struct Slots(Mutex<BTreeMap<(Account, Kind), usize>>);

/// A place, until it is dropped.
pub(super) struct Slot<'a> {
    pub patience: Patience,
    taken: Option<(&'a Slots, (Account, Kind))>,
}

impl Slots {
    /// A place for this caller's request; `None` if there is none. Monitoring must work under load: it reads counters.
    pub fn take(&self, account: &Account, method: &Method, path: &str) -> Option<Slot<'_>> {
        let at_once = Patience(Duration::ZERO);
        let kind = match (method, path) {
            (_, "/healthz" | "/metrics") => return Some(Slot { patience: at_once, taken: None }),
            (&Method::DELETE, _) => {
                if let Some(taken) = self.place(account, Kind::Release) {
                    return Some(Slot { patience: Patience(RELEASE_PATIENCE), taken: Some(taken) });
                }
                Kind::Other
            }
            (&Method::POST, POOL) => Kind::Lease,
            (_, OFFERS) => Kind::Offers,
            _ => Kind::Other,
        };
        Some(Slot { patience: at_once, taken: Some(self.place(account, kind)?) })
    }

    fn place(&self, account: &Account, kind: Kind) -> Option<(&Self, (Account, Kind))> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry((account.clone(), kind)).or_default();
        if *count >= kind.most() {
            return None;
        }
        *count += 1;
        Some((self, (account.clone(), kind)))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some((slots, place)) = self.taken.take() else { return };
        let mut taken = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&place);
            }
        }
    }
}

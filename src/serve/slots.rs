//! Limits how many requests are handled at once, of each kind by itself: requests that wait for a machine, or for its
//! end, never take the place of those that give back or renew. Not responsible for: connections (`connections`).

use std::time::Duration;

use axum::http::Method;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::openapi;

/// Requests for leases that wait at once.
const LEASES_MOST: usize = 256;
/// Releases that are waited for at once; further ones are written down, and answered at once.
const RELEASES_MOST: usize = 256;
/// Lists of offers that the provider is asked for at once.
const OFFERS_MOST: usize = 16;
/// All other requests at once. They only read or write the ledger.
const OTHERS_MOST: usize = 256;
/// How long a caller waits for a release; the release continues afterwards.
const RELEASE_PATIENCE: Duration = Duration::from_secs(60);

/// How long a request to give back waits for the release.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub Duration);

/// The free places of each kind of request.
pub(super) struct Slots {
    leases: Semaphore,
    releases: Semaphore,
    offers: Semaphore,
    others: Semaphore,
}

/// A place, until it is dropped.
pub(super) struct Slot<'a> {
    pub patience: Patience,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Slots {
    pub fn new() -> Self {
        Self {
            leases: Semaphore::new(LEASES_MOST),
            releases: Semaphore::new(RELEASES_MOST),
            offers: Semaphore::new(OFFERS_MOST),
            others: Semaphore::new(OTHERS_MOST),
        }
    }

    /// A place for this request; `None` if there is none. Monitoring must work under load: it reads counters.
    pub fn take(&self, method: &Method, path: &str) -> Option<Slot<'_>> {
        let at_once = Patience(Duration::ZERO);
        let permit = match (method, path) {
            (_, "/healthz" | "/metrics") => return Some(Slot { patience: at_once, _permit: None }),
            (&Method::DELETE, _) => {
                if let Ok(permit) = self.releases.try_acquire() {
                    return Some(Slot { patience: Patience(RELEASE_PATIENCE), _permit: Some(permit) });
                }
                self.others.try_acquire()
            }
            (&Method::POST, openapi::POOL) => self.leases.try_acquire(),
            (_, openapi::OFFERS) => self.offers.try_acquire(),
            _ => self.others.try_acquire(),
        };
        Some(Slot { patience: at_once, _permit: Some(permit.ok()?) })
    }
}

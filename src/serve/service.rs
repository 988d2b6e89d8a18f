//! The service process: data folder and its lock, sweeper, shutdown. Not responsible for: signals (the command line turns
//! them into a future), where it listens (`listener`).

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::clock;
use super::connections::serve;
use super::error::ServeError;
use super::guard::App;
use super::http::{app, router};
use super::ledger::{LEDGER, Ledger, LedgerView};
use super::listener::Listener;
use super::pool::{Bounds, Clock, Pool};
use super::tokens::Tokens;
use crate::domain::ports::ComputeProvider;
use crate::system::confined::{self, Folder};
use crate::system::lock;

/// File name of the lock that keeps other services out.
const LOCK: &str = "lock";
/// On shutdown, requests still unanswered after this time are dropped.
const END_BOUND: Duration = Duration::from_secs(40);

/// A service that holds the lock of its data folder.
pub struct Service {
    app: Arc<App>,
    _lock: Lock,
}

impl Service {
    /// Opens the data folder and recovers leases of a former process.
    pub async fn open(
        provider: Arc<dyn ComputeProvider>,
        data: &Path,
        tokens: Tokens,
        bounds: Bounds,
    ) -> Result<Self, ServeError> {
        Self::start(provider, data, tokens, bounds, None).await
    }

    /// Like `open`, with a given clock.
    #[cfg(test)]
    pub(super) async fn open_with_clock(
        provider: Arc<dyn ComputeProvider>,
        data: &Path,
        tokens: Tokens,
        bounds: Bounds,
        clock: Clock,
    ) -> Result<Self, ServeError> {
        Self::start(provider, data, tokens, bounds, Some(clock)).await
    }

    async fn start(
        provider: Arc<dyn ComputeProvider>,
        data: &Path,
        tokens: Tokens,
        bounds: Bounds,
        clock: Option<Clock>,
    ) -> Result<Self, ServeError> {
        let (folder, lock) = hold(data)?;
        let clock = clock.unwrap_or_else(|| clock::kept(&folder));
        let pool = Pool::new(provider, (Ledger::open(&folder)?, LedgerView::open(&folder)?), bounds, clock);
        pool.recover().await?;
        Ok(Self { app: app(pool, tokens), _lock: lock })
    }

    /// Its pool.
    #[cfg(test)]
    pub(super) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.app.pool)
    }

    /// Serves until `stop` resolves; then stops accepting, releases what is not granted yet, and returns. Held leases
    /// stay in the ledger.
    pub async fn run(
        self,
        listener: Listener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let sweeper = tokio::spawn(sweep(Arc::clone(&self.app.pool)));
        let (ending, mut ended) = watch::channel(false);
        let bound = ended.clone();
        let pool = Arc::clone(&self.app.pool);
        let stopper = tokio::spawn(async move {
            stop.await;
            ending.send_replace(true);
            pool.stop().await;
        });
        let late = async {
            let _ = ended.wait_for(|ending| *ending).await;
            tokio::time::sleep(END_BOUND).await;
        };
        tokio::select! {
            () = serve(listener, router(&self.app), bound) => {}
            () = late => {}
        }
        // The listener ends only after `stop`, so the pool is already stopping, within its own timeout.
        let _ = stopper.await;
        sweeper.abort();
        Ok(())
    }
}

async fn sweep(pool: Arc<Pool>) {
    let mut ticks = tokio::time::interval(pool.bounds.sweep);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = pool.sweep().await {
            tracing::error!(error = ?error, "the ledger failed: expired leases are not given back");
        }
    }
}

/// Creates the folder if needed, accessible to its owner only, and locks it.
fn hold(data: &Path) -> Result<(Folder, Lock), ServeError> {
    // Whoever names a folder of something else keeps it as it is, with its mode.
    if let Ok(there) = confined::open(data) {
        let names = there.names().map_err(ServeError::io("read", data))?;
        if !names.is_empty() && ![LOCK, LEDGER].iter().any(|own| names.iter().any(|name| name == own)) {
            return Err(ServeError::Occupied { path: data.to_owned() });
        }
    }
    let folder = confined::make_private(data).map_err(ServeError::io("make", data))?;
    let path = data.join(LOCK);
    let file = folder.lock_file(LOCK).map_err(ServeError::io("open", &path))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(ServeError::io("change", &path))?;
    // Whoever removes the file makes no room for a second service: the folder is locked, too, where that is possible.
    let handle = folder.handle().map_err(ServeError::io("open", data))?;
    let free = lock::try_exclusive(&handle).unwrap_or(true);
    if free && lock::try_exclusive(&file).map_err(ServeError::io("lock", &path))? {
        Ok((folder, Lock { _held: [file, handle] }))
    } else {
        Err(ServeError::Held { path: data.to_owned() })
    }
}

/// The locks on a data folder.
struct Lock {
    _held: [File; 2],
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn its_folder_and_files_are_for_one_user_even_where_they_existed() {
        let data = tempfile::tempdir().expect("a folder");
        for name in [LOCK, LEDGER] {
            std::fs::write(data.path().join(name), "").expect("writable");
            std::fs::set_permissions(data.path().join(name), Permissions::from_mode(0o666)).expect("ours");
        }
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o777)).expect("ours");
        let (folder, _lock) = hold(data.path()).expect("held");
        drop(Ledger::open(&folder).expect("a ledger"));
        assert_eq!(mode(data.path()), 0o700);
        assert_eq!([LOCK, LEDGER].map(|name| mode(&data.path().join(name))), [0o600; 2]);
    }

    #[test]
    fn whoever_removes_the_lock_file_makes_no_room_for_a_second_service() {
        let data = tempfile::tempdir().expect("a folder");
        let first = hold(data.path()).expect("held");
        std::fs::remove_file(data.path().join(LOCK)).expect("removed");
        assert!(matches!(hold(data.path()), Err(ServeError::Held { .. })));
        drop(first);
        hold(data.path()).map(drop).expect("free");
    }

    #[test]
    fn a_folder_of_something_else_and_links_are_refused_and_stay() {
        let data = tempfile::tempdir().expect("a folder");
        std::fs::write(data.path().join("note"), "mine").expect("writable");
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o755)).expect("ours");
        assert!(matches!(hold(data.path()), Err(ServeError::Occupied { .. })));
        assert_eq!(mode(data.path()), 0o755, "it was changed all the same");
        let outside = data.path().join("note");
        for name in [LOCK, LEDGER] {
            let data = tempfile::tempdir().expect("a folder");
            symlink(&outside, data.path().join(name)).expect("a link");
            let opened = hold(data.path()).and_then(|(folder, _lock)| Ledger::open(&folder).map(drop));
            assert!(matches!(opened, Err(ServeError::Io { .. })), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&outside).expect("it stays"), "mine");
    }

    #[test]
    fn a_ledger_with_somebody_elses_trigger_or_ids_is_refused() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, _lock) = hold(data.path()).expect("held");
        drop(Ledger::open(&folder).expect("a ledger"));
        let rows = rusqlite::Connection::open(data.path().join(LEDGER)).expect("a database");
        let lease = "insert into leases (id, owner, idempotency_key, workspace, state, asked, expires, changed)
                     values ('../x', 'o', 'k', 'w', 'held', 1, 1, 1)";
        rows.execute_batch(lease).expect("written");
        let ledger = Ledger::open(&folder).expect("a ledger");
        assert!(matches!(ledger.list(), Err(ServeError::Ledger { .. })));
        rows.execute_batch("create trigger t after insert on leases begin delete from leases; end").expect("written");
        assert!(matches!(Ledger::open(&folder), Err(ServeError::Foreign { .. })));
    }
}

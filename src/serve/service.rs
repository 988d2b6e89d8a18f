//! The service as a process has it: its folder for itself alone, its sweeper, its listener, its end. Not responsible for: signals
//! (the command line turns them into a future).

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::connections::Bounded;
use super::error::ServeError;
use super::http::{App, router};
use super::ledger::Ledger;
use super::pool::{Bounds, Clock, Pool};
use super::tokens::Tokens;
use crate::domain::ports::ComputeProvider;
use crate::system::{lock, now};

/// Connections at once.
const CONNECTIONS_MOST: usize = 512;
/// Requests that are not answered so long after the end began are left.
const END_BOUND: Duration = Duration::from_secs(40);

/// A service that holds its folder.
pub struct Service {
    app: Arc<App>,
    _lock: File,
}

/// Listens, to other machines only where callers are asked who they are.
pub async fn listen(address: SocketAddr, tokens: &Tokens) -> Result<TcpListener, ServeError> {
    if tokens.is_empty() && !address.ip().is_loopback() {
        return Err(ServeError::Open { address });
    }
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

impl Service {
    /// Opens the folder and takes up what a former service left in it.
    pub async fn open(
        provider: Arc<dyn ComputeProvider>,
        data: &Path,
        tokens: Tokens,
        bounds: Bounds,
    ) -> Result<Self, ServeError> {
        Self::open_with_clock(provider, data, tokens, bounds, Arc::new(now)).await
    }

    /// The same, at a time of the caller's.
    pub(super) async fn open_with_clock(
        provider: Arc<dyn ComputeProvider>,
        data: &Path,
        tokens: Tokens,
        bounds: Bounds,
        clock: Clock,
    ) -> Result<Self, ServeError> {
        let lock = hold(data)?;
        let pool = Pool::new(provider, Ledger::open(data)?, bounds, clock);
        pool.recover().await?;
        Ok(Self { app: App::new(pool, tokens), _lock: lock })
    }

    /// Answers until `stop` comes; then accepts nothing more, gives back what is not granted yet, and ends. What is held
    /// stays in the ledger.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::io("ask", Path::new("the listener")))?;
        let sweeper = tokio::spawn(sweep(Arc::clone(&self.app.pool)));
        let (ending, mut ended) = watch::channel(false);
        let mut bound = ended.clone();
        let pool = Arc::clone(&self.app.pool);
        let stopper = tokio::spawn(async move {
            stop.await;
            ending.send_replace(true);
            pool.stop().await;
        });
        let served = axum::serve(Bounded::new(listener, CONNECTIONS_MOST), router(&self.app))
            .with_graceful_shutdown(async move { drop(ended.wait_for(|ending| *ending).await) });
        let late = async {
            let _ = bound.wait_for(|ending| *ending).await;
            tokio::time::sleep(END_BOUND).await;
        };
        let result = tokio::select! {
            served = served.into_future() => served,
            () = late => Ok(()),
        };
        // The listener ends after `stop` only: the pool is stopping, and within its own bound.
        let _ = stopper.await;
        sweeper.abort();
        result.map_err(|source| ServeError::Listen { address, source })
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

/// Makes the folder, for its owner alone where it is new, and locks it.
fn hold(data: &Path) -> Result<File, ServeError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(ServeError::io("make", data))?;
    let path = data.join("lock");
    let file = lock::open(&path).map_err(ServeError::io("open", &path))?;
    if lock::try_exclusive(&file).map_err(ServeError::io("lock", &path))? {
        Ok(file)
    } else {
        Err(ServeError::Held { path: data.to_owned() })
    }
}

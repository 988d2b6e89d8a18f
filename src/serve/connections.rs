//! Accepts connections and answers the requests on them. Each counts towards its caller; slow and idle ones come to an
//! end. Not responsible for: what is answered (`http`), who makes room for whom (`seats`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::listener::{Listener, Stream};
use super::problem::Problem;
use super::seats::{Overdue, Seat, Seats};
use super::wire::Wire;
use crate::system::allow_open_files;

/// Files that the process may need: all connections, the ledger, and what providers open.
const OPEN_FILES: u64 = 4096;
/// Largest head of a request, in bytes.
const HEAD_MOST: usize = 32 * 1024;
/// How often a connection's peer is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a dismissed connection may take to read its answer.
const LEAVE_BOUND: Duration = Duration::from_secs(5);
/// How long a peer may take to read why it is dismissed.
const TELL_BOUND: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is true; returns when the open requests are answered.
pub(super) async fn serve(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    allow_open_files(OPEN_FILES);
    let (seats, ending) = (Arc::new(Seats::default()), stop.clone());
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = told(&mut stop) => break,
            _ = open.join_next(), if !open.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, account)) => {
                    let (seat, router, stop) = (seats.take(account), router.clone(), ending.clone());
                    open.spawn(async move {
                        match stream {
                            Stream::Tcp(stream) => connection(stream, seat, router, stop).await,
                            Stream::Unix(stream) => connection(stream, seat, router, stop).await,
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Waits until the service stops.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection<S>(stream: S, seat: Arc<Seat>, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let sitting = Arc::clone(&seat);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let seat = Arc::clone(&sitting);
        seat.called();
        request.extensions_mut().insert(Arc::clone(&seat));
        let answer = inner.call(request.map(Body::new));
        async move {
            let answer = answer.await;
            seat.answered();
            Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
        }
    });
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&seat)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_MOST);
    let mut served = builder.serve_connection(io, service);
    let (mut ticks, mut deadline, mut ending) = (tokio::time::interval(TICK), None, false);
    let late = loop {
        tokio::select! {
            biased;
            // A peer that breaks off is no event.
            _ = &mut served => return,
            () = seat.dismissed(), if deadline.is_none() => {
                if !seat.is_called() {
                    return;
                }
                deadline = Some(Instant::now() + LEAVE_BOUND);
                std::pin::Pin::new(&mut served).graceful_shutdown();
            }
            () = told(&mut stop), if !ending => {
                if !seat.is_called() {
                    return;
                }
                ending = true;
                std::pin::Pin::new(&mut served).graceful_shutdown();
            }
            _ = ticks.tick() => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) && !seat.is_working() {
                    return;
                }
                if let Some(late) = seat.overdue() {
                    break late;
                }
            }
        }
    };
    if late == Overdue::Head {
        let problem = Problem::new(408, "slow", "the head of the request did not come within 10 s", "send it again");
        let mut wire = served.into_parts().io.into_inner();
        let told = async {
            wire.write_all(&problem.raw()).await?;
            wire.shutdown().await
        };
        drop(timeout(TELL_BOUND, told).await);
    }
}

//! Ctrl-C, SIGTERM and a closed terminal, as requests to a run to stop. Not responsible for: ending the process: a run ends when every
//! lease is back.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::domain::life::StopLevel;

/// Listens from now on: the first signal cancels, every later one kills.
pub fn stops() -> std::io::Result<UnboundedReceiver<StopLevel>> {
    let (sender, receiver) = unbounded_channel();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut level = StopLevel::Cancel;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if sender.send(level).is_err() {
                return;
            }
            level = StopLevel::Kill;
        }
    });
    Ok(receiver)
}

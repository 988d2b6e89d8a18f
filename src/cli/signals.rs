//! Turns Ctrl-C, SIGTERM and a closed terminal into stop requests. Not responsible for: ending the process (a run
//! ends once every lease is released).

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, channel};

use crate::domain::life::StopLevel;

/// Listens from now on: the first signal cancels, every later one kills.
pub fn stops() -> std::io::Result<Receiver<StopLevel>> {
    // One slot to cancel and one to kill: further signals change nothing.
    let (sender, receiver) = channel(2);
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
            if matches!(sender.try_send(level), Err(TrySendError::Closed(_))) {
                return;
            }
            level = StopLevel::Kill;
        }
    });
    Ok(receiver)
}

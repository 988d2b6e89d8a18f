//! Turns Ctrl-C, SIGTERM and a closed terminal into stop requests. Not responsible for: ending a run (it ends once every
//! lease is released, or at once if it is left).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::exit::Exit;
use crate::domain::life::StopLevel;

/// The requests, in the order in which signals make them.
const LEVELS: [StopLevel; 3] = [StopLevel::Cancel, StopLevel::Kill, StopLevel::Leave];
/// Whoever leaves waits no longer than this for the last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a process that is left waits for a reader that takes nothing.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Whether anybody asked this process to stop.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether anybody asked this process to stop.
pub fn was_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Listens from now on: the first signal cancels, the second kills, the third leaves. The listener has a thread of its
/// own, so that a busy or hanging process can always be left.
pub fn stops() -> std::io::Result<Receiver<StopLevel>> {
    let (sender, receiver) = channel(LEVELS.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal)
    };
    let [interrupt, terminate, hangup] = signals;
    let signals = Signals { interrupt: interrupt?, terminate: terminate?, hangup: hangup?, hung_up: false };
    let listen = move || runtime.block_on(pass_on(signals, &sender));
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(receiver)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    hung_up: bool,
}

impl Signals {
    /// Waits for the next request. A terminal closes once, though its shell and the kernel may both say so.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {
                    if !std::mem::replace(&mut self.hung_up, true) {
                        return;
                    }
                }
            }
        }
    }
}

async fn pass_on(mut signals: Signals, sender: &Sender<StopLevel>) {
    for level in LEVELS {
        signals.next().await;
        STOPPED.store(true, Ordering::Relaxed);
        if let Err(TrySendError::Closed(_)) = sender.try_send(level) {
            // The run is over, and what is still done can be done by any later command.
            leave(Exit::Interrupted);
        }
    }
    tokio::select! {
        () = signals.next() => {}
        () = tokio::time::sleep(LAST_WORDS) => {}
    }
    // It may not have got as far as telling which leases stay.
    eprintln!("lian::cli::left: the run was left; runners that it still had are in the ledger: lian-build leases gc");
    leave(Exit::Stuck);
}

/// Ends the process as a kill would: all that matters is on disk.
fn leave(exit: Exit) -> ! {
    crate::report::end_errors(Some(AT_ONCE));
    std::process::exit(exit as i32)
}

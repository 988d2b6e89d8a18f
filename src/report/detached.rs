//! An observer on a thread of its own, so that a stream nobody reads never blocks, slows or outlives a run. Not responsible for:
//! waiting for a reader longer than a moment at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::domain::model::{Event, EventBody};
use crate::domain::ports::Observer;

/// So many events may wait for a slow reader; beyond that, what builds report in between is left out. Ends never are.
const BACKLOG: usize = 10_000;
/// A reader is given so long to take the last events.
const PATIENCE: Duration = Duration::from_secs(2);

struct Detached {
    /// None once it is closed.
    events: Option<Sender<Event>>,
    waiting: Arc<AtomicUsize>,
    done: Receiver<()>,
}

/// Moves an observer to a thread of its own.
pub fn detached(mut observer: Box<dyn Observer>) -> Box<dyn Observer> {
    let (events, inbox) = channel::<Event>();
    let (finished, done) = channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&waiting);
    let thread = std::thread::Builder::new().name("observer".to_owned()).spawn(move || {
        for event in inbox {
            observer.event(&event);
            left.fetch_sub(1, Ordering::Relaxed);
        }
        // What it has drawn is taken off the screen before the run counts as told.
        drop(observer);
        let _ = finished.send(());
    });
    thread.expect("invariant: a process that builds can start a thread");
    Box::new(Detached { events: Some(events), waiting, done })
}

impl Observer for Detached {
    fn event(&mut self, event: &Event) {
        let Some(events) = &self.events else { return };
        let passing = matches!(event.body, EventBody::StepProgress { .. });
        if passing && self.waiting.load(Ordering::Relaxed) >= BACKLOG {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The thread ends only after this sender: sending fails where the observer panicked, and then nobody listens.
        let _ = events.send(event.clone());
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.events = None;
        if self.done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("nobody reads what is written: its end is left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::domain::base::{LeaseId, RunId, Timestamp};
    use crate::domain::model::BuildEvent;

    struct Slow {
        gate: Receiver<()>,
        seen: Arc<Mutex<Vec<EventBody>>>,
    }

    impl Observer for Slow {
        fn event(&mut self, event: &Event) {
            // Blocks until the gate opens for good.
            let _ = self.gate.recv();
            self.seen.lock().expect("a lock").push(event.body.clone());
        }
    }

    fn event(body: EventBody) -> Event {
        Event { at: Timestamp(1), run: RunId::from("r"), body }
    }

    #[test]
    fn a_reader_that_stalls_blocks_nobody_and_misses_no_end() {
        let (open, gate) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut observer = detached(Box::new(Slow { gate, seen: Arc::clone(&seen) }));
        let progress = BuildEvent::Warning { message: "w".into() };
        for _ in 0..BACKLOG + 500 {
            observer.event(&event(EventBody::StepProgress { layer: "a".into(), progress: progress.clone() }));
        }
        observer.event(&event(EventBody::LeaseReleased { lease: LeaseId::from("l") }));
        drop(open);
        drop(observer);
        let seen = seen.lock().expect("a lock");
        assert_eq!(seen.len(), BACKLOG + 1, "passing events beyond the backlog are left out, ends are not");
        assert!(matches!(seen.last(), Some(EventBody::LeaseReleased { .. })));
    }
}

//! Emits events to sinks, each on its own thread. Not responsible for: which events are queued or dropped (see
//! `queue`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::Queue;
use crate::domain::model::Event;
use crate::domain::ports::Sink;

/// Time limit for all sinks together to handle the last events.
const PATIENCE: Duration = Duration::from_secs(2);

/// Emits the events of a run, from any thread. Never waits for a sink.
#[derive(Clone)]
pub struct Emitter {
    queues: Arc<[Arc<Queue>]>,
}

impl Emitter {
    /// Hands an event to every sink.
    pub fn emit(&self, event: Event) {
        let event = Arc::new(event);
        for queue in &*self.queues {
            queue.push(&event);
        }
    }
}

/// The name of a sink that did not handle its last events in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftBehind(pub &'static str);

/// The sinks of a run. They are closed when this is dropped.
pub struct Sinks {
    emitter: Emitter,
    /// Empty once the sinks are closed.
    open: Vec<(&'static str, Arc<Queue>)>,
}

impl Sinks {
    /// Starts a thread for each sink. A sink whose thread cannot start is skipped: a build does not need it.
    pub fn start(sinks: Vec<Box<dyn Sink>>) -> Self {
        let open: Vec<_> = sinks.into_iter().map(|sink| (sink.name(), start(sink))).collect();
        let queues = open.iter().map(|(_, queue)| Arc::clone(queue)).collect();
        Self { emitter: Emitter { queues }, open }
    }

    /// The emitter for these sinks.
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// Closes the sinks; returns those that did not end in time. Blocks until the time limit at most.
    pub fn close(mut self) -> Vec<LeftBehind> {
        self.finish()
    }

    fn finish(&mut self) -> Vec<LeftBehind> {
        let open = std::mem::take(&mut self.open);
        open.iter().for_each(|(_, queue)| queue.close());
        let now = Instant::now();
        for (_, queue) in open.iter().filter(|(_, queue)| !queue.wait_for_end(now + PATIENCE / 2)) {
            // Even a slow reader must get the end of the run.
            queue.leave_out_progress();
        }
        let late = open.into_iter().filter(|(_, queue)| !queue.wait_for_end(now + PATIENCE));
        late.map(|(name, _)| LeftBehind(name)).collect()
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.finish();
    }
}

fn start(mut sink: Box<dyn Sink>) -> Arc<Queue> {
    let name = sink.name();
    let queue = Arc::new(Queue::new());
    let inbox = Arc::clone(&queue);
    let work = move || {
        let fed = catch_unwind(AssertUnwindSafe(|| {
            while let Some(event) = inbox.next() {
                sink.event(&event);
            }
            sink.close(PATIENCE);
            // The sink must clear its terminal output before it counts as closed.
            drop(sink);
        }));
        inbox.end();
        if fed.is_err() {
            tracing::warn!("the sink `{name}` failed: it gets no more events");
        }
    };
    if let Err(error) = std::thread::Builder::new().name(format!("sink-{name}")).spawn(work) {
        queue.end();
        tracing::warn!("the sink `{name}` has no thread: {error}");
    }
    queue
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::super::queue::MAX_PROGRESS;
    use super::*;
    use crate::domain::base::{LeaseId, RunId, Timestamp};
    use crate::domain::model::{BuildEvent, EventBody};

    struct Slow {
        gate: Receiver<()>,
        seen: Arc<Mutex<Vec<EventBody>>>,
    }

    impl Sink for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn event(&mut self, event: &Event) {
            // Blocks until the gate opens.
            let _ = self.gate.recv();
            self.seen.lock().expect("a lock").push(event.body.clone());
        }

        fn close(&mut self, _: Duration) {}
    }

    struct Failing;

    impl Sink for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn event(&mut self, _: &Event) {
            panic!("a bug of this sink");
        }

        fn close(&mut self, _: Duration) {}
    }

    fn event(body: EventBody) -> Event {
        Event { at: Timestamp(1), run: RunId::from("r"), body }
    }

    fn progress() -> Event {
        let progress = BuildEvent::Warning { message: "w".into() };
        event(EventBody::StepProgress { layer: "a".into(), progress })
    }

    fn released() -> Event {
        event(EventBody::LeaseReleased { lease: LeaseId::from("l") })
    }

    #[test]
    fn a_reader_that_stalls_blocks_nobody_and_misses_no_end() {
        let (open, gate) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sinks = Sinks::start(vec![Box::new(Slow { gate, seen: Arc::clone(&seen) })]);
        let emitter = sinks.emitter();
        for _ in 0..MAX_PROGRESS + 500 {
            emitter.emit(progress());
        }
        emitter.emit(released());
        drop(open);
        assert_eq!(sinks.close(), []);
        let seen = seen.lock().expect("a lock");
        let passing = seen.iter().filter(|body| matches!(body, EventBody::StepProgress { .. })).count();
        assert_eq!(passing, MAX_PROGRESS, "progress events beyond the bound are left out");
        let [.., mark, last] = seen.as_slice() else { panic!("too few events") };
        assert_eq!(*mark, EventBody::EventsDropped { count: 500 }, "it is said how many");
        assert!(matches!(last, EventBody::LeaseReleased { .. }), "ends are never left out");
    }

    #[test]
    fn a_sink_that_never_returns_is_left_behind_with_a_bounded_queue() {
        let (open, gate) = channel::<()>();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sinks = Sinks::start(vec![Box::new(Slow { gate, seen: Arc::clone(&seen) })]);
        let emitter = sinks.emitter();
        for _ in 0..3 * MAX_PROGRESS {
            emitter.emit(progress());
        }
        let (waiting, in_all, ..) = emitter.queues[0].counts();
        assert!(waiting <= MAX_PROGRESS && in_all == MAX_PROGRESS, "{waiting} wait, {in_all} in all");
        assert_eq!(sinks.close(), [LeftBehind("slow")]);
        let (waiting, ..) = emitter.queues[0].counts();
        assert_eq!(waiting, 1, "only the mark of what was left out waits for it");
        drop(open);
    }

    #[test]
    fn a_sink_that_panics_is_told_nothing_more_and_the_others_are() {
        let (open, gate) = channel();
        drop(open);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Failing), Box::new(Slow { gate, seen: Arc::clone(&seen) })];
        let sinks = Sinks::start(sinks);
        let emitter = sinks.emitter();
        emitter.emit(released());
        assert!(emitter.queues[0].wait_for_end(Instant::now() + Duration::from_secs(60)), "it goes on");
        for _ in 0..100 {
            emitter.emit(progress());
        }
        assert_eq!(emitter.queues[0].counts().0, 0, "events wait for a sink that is gone");
        assert_eq!(sinks.close(), []);
        assert_eq!(seen.lock().expect("a lock").len(), 101);
    }
}

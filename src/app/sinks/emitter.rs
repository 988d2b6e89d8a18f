//! Emits events to sinks, each on its own thread. Not responsible for: which events are queued or dropped (see
//! `queue`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::queue::Queue;
use crate::domain::model::Event;
use crate::domain::ports::Sink;

/// How long a sink may take for one of the last events of a run that was stopped, or broke off.
pub const LITTLE_PATIENCE: Duration = Duration::from_secs(2);
/// The same where nobody asked the run to end: then nothing is held any more, and a slow reader gets all.
pub const PATIENCE: Duration = Duration::from_secs(10);

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

    /// Closes the sinks; returns those that took longer than `patience` for one event. Blocks while they handle events.
    pub fn close(mut self, patience: Duration) -> Vec<LeftBehind> {
        self.finish(patience)
    }

    fn finish(&mut self, patience: Duration) -> Vec<LeftBehind> {
        let open = std::mem::take(&mut self.open);
        open.iter().for_each(|(_, queue)| queue.close());
        let mut stuck = Vec::new();
        for (name, queue) in open {
            if queue.wait_for_end(patience / 2) {
                continue;
            }
            // A reader that comes back late must still get the end of the run.
            queue.leave_out_progress();
            if !queue.wait_for_end(patience / 2) {
                stuck.push(LeftBehind(name));
            }
        }
        stuck
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.finish(LITTLE_PATIENCE);
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
            sink.close(LITTLE_PATIENCE);
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

    /// Longer than a busy machine keeps any thread waiting.
    const LONG: Duration = Duration::from_secs(600);

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
        assert_eq!(sinks.close(LONG), []);
        let seen = seen.lock().expect("a lock");
        let passing = seen.iter().filter(|body| matches!(body, EventBody::StepProgress { .. })).count();
        assert_eq!(passing, MAX_PROGRESS, "progress events beyond the bound are left out");
        let [.., mark, last] = seen.as_slice() else { panic!("too few events") };
        assert_eq!(*mark, EventBody::EventsDropped { count: 500 }, "it is said how many");
        assert!(matches!(last, EventBody::LeaseReleased { .. }), "ends are never left out");
    }

    #[test]
    fn a_reader_that_is_slow_is_waited_for_and_misses_nothing() {
        let (open, gate) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sinks = Sinks::start(vec![Box::new(Slow { gate, seen: Arc::clone(&seen) })]);
        let emitter = sinks.emitter();
        (0..12).for_each(|_| emitter.emit(progress()));
        emitter.emit(released());
        // Each takes a fraction of the patience, and all together take more than half of it.
        let reader = std::thread::spawn(move || {
            for _ in 0..13 {
                std::thread::sleep(Duration::from_millis(700));
                open.send(()).expect("it waits");
            }
        });
        assert_eq!(sinks.close(Duration::from_secs(16)), []);
        reader.join().expect("it ends");
        let seen = seen.lock().expect("a lock");
        assert!(!seen.iter().any(|body| matches!(body, EventBody::EventsDropped { .. })), "{seen:?}");
        assert_eq!(seen.len(), 13);
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
        assert_eq!(sinks.close(LITTLE_PATIENCE), [LeftBehind("slow")]);
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
        assert!(emitter.queues[0].wait_for_end(Duration::from_secs(60)), "it goes on");
        for _ in 0..100 {
            emitter.emit(progress());
        }
        assert_eq!(emitter.queues[0].counts().0, 0, "events wait for a sink that is gone");
        assert_eq!(sinks.close(LONG), []);
        assert_eq!(seen.lock().expect("a lock").len(), 101);
    }
}

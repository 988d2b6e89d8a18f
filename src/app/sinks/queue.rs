//! The bounded queue between the emitter and one sink. Not responsible for: threads, deadlines.
//!
//! State events (of runs, steps and leases) are always kept: their number per step is bounded. Progress events come
//! from a build's output, so their number and bytes are bounded here: if the queue is full, they are dropped and
//! counted, and the gap is marked.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::model::{BuildEvent, Event, EventBody};

/// Limit of queued progress events.
pub const MAX_PROGRESS: usize = 10_000;
/// Limit of their text, bytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Events that wait for one sink.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    /// Progress events that are queued or being handled, and their bytes.
    progress: usize,
    bytes: usize,
    /// Bytes of the progress event that the sink is handling.
    busy: Option<usize>,
    /// Whether progress events are dropped until the queue is half empty: gaps are few and long.
    full: bool,
    /// Dropped since the last mark.
    gap: u64,
    /// Events that were handled, or are.
    handled: u64,
    /// The queue accepts no more events.
    closed: bool,
    /// The sink has ended.
    ended: bool,
}

/// The size of a progress event, bytes; `None` for a state event.
fn progress_bytes(body: &EventBody) -> Option<usize> {
    let EventBody::StepProgress { progress, .. } = body else { return None };
    Some(match progress {
        BuildEvent::Log { vertex, text } => vertex.len() + text.len(),
        BuildEvent::Warning { message } => message.len(),
        BuildEvent::Vertex { vertex, name, error, .. } => {
            vertex.len() + name.len() + error.as_ref().map_or(0, String::len)
        }
        BuildEvent::Progress { vertex, id, .. } => vertex.len() + id.len(),
        BuildEvent::Memory { .. } => 0,
    })
}

/// Marks a gap, with the time of the next event.
fn mark(next: &Event, count: u64) -> Arc<Event> {
    Arc::new(Event { at: next.at, run: next.run.clone(), body: EventBody::EventsDropped { count } })
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; drops a progress event if the queue is full. Never waits for the sink.
    pub fn push(&self, event: &Arc<Event>) {
        let mut state = self.state();
        if state.closed || state.ended {
            return;
        }
        if let Some(bytes) = progress_bytes(&event.body) {
            state.full |= state.progress >= MAX_PROGRESS || state.bytes + bytes > MAX_BYTES;
            if state.full {
                state.gap += 1;
                return;
            }
            state.progress += 1;
            state.bytes += bytes;
        }
        if state.gap > 0 {
            let mark = mark(event, std::mem::take(&mut state.gap));
            state.events.push_back(mark);
        }
        state.events.push_back(Arc::clone(event));
        self.changed.notify_all();
    }

    /// Waits for the next event; `None` once the queue is closed and empty. The call also confirms that the previous
    /// event was handled.
    pub fn next(&self) -> Option<Arc<Event>> {
        let mut state = self.state();
        if let Some(bytes) = state.busy.take() {
            state.progress -= 1;
            state.bytes -= bytes;
            state.full &= state.progress > MAX_PROGRESS / 2 || state.bytes > MAX_BYTES / 2;
        }
        loop {
            if let Some(event) = state.events.pop_front() {
                state.busy = progress_bytes(&event.body);
                state.handled += 1;
                self.changed.notify_all();
                return Some(event);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes the queue to new events.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Drops queued progress events, so that the state events behind them reach a slow sink in time.
    pub fn leave_out_progress(&self) {
        let mut state = self.state();
        let mut kept = VecDeque::new();
        let mut gap: Option<(usize, Arc<Event>)> = None;
        let mut count = state.gap;
        for event in std::mem::take(&mut state.events) {
            match progress_bytes(&event.body) {
                Some(bytes) => {
                    state.progress -= 1;
                    state.bytes -= bytes;
                    count += 1;
                    gap.get_or_insert((kept.len(), event));
                }
                None => kept.push_back(event),
            }
        }
        if let Some((place, first)) = gap {
            kept.insert(place, mark(&first, count));
            state.gap = 0;
        }
        state.events = kept;
    }

    /// Records that the sink has ended and wakes whatever waits for it.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.events = VecDeque::new();
        self.changed.notify_all();
    }

    /// Waits until the sink has ended, as long as it handles events: not for longer than `patience` without that.
    /// Returns whether it has ended.
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        let mut state = self.state();
        let (mut handled, mut since) = (state.handled, Instant::now());
        while !state.ended {
            if handled != state.handled {
                (handled, since) = (state.handled, Instant::now());
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Queued events, progress events (queued or being handled), their bytes, and events dropped since the last mark.
    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize, usize, u64) {
        let state = self.state();
        (state.events.len(), state.progress, state.bytes, state.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::{RunId, Timestamp};

    fn event(body: EventBody) -> Arc<Event> {
        Arc::new(Event { at: Timestamp(1), run: RunId::from("r"), body })
    }

    fn log(text: &str) -> Arc<Event> {
        let progress = BuildEvent::Log { vertex: "v".into(), text: text.into() };
        event(EventBody::StepProgress { layer: "a".into(), progress })
    }

    fn state_event() -> Arc<Event> {
        event(EventBody::LeaseReleased { lease: "l".into() })
    }

    #[test]
    fn large_texts_are_bounded_by_their_bytes() {
        let queue = Queue::new();
        let flood = log(&"x".repeat(1024 * 1024));
        for _ in 0..1000 {
            queue.push(&flood);
        }
        let (events, progress, bytes, gap) = queue.counts();
        assert_eq!((events, progress, gap), (15, 15, 985));
        assert!(bytes <= MAX_BYTES);
        queue.push(&state_event());
        assert_eq!(queue.counts().0, 17, "a state event is kept, behind the mark of the gap");
    }

    #[test]
    fn a_queue_that_was_full_takes_progress_again_once_it_is_half_empty() {
        let queue = Queue::new();
        for _ in 0..MAX_PROGRESS + 1 {
            queue.push(&log("x"));
        }
        for _ in 0..MAX_PROGRESS / 2 {
            queue.next();
            queue.push(&log("x"));
        }
        // One event is being handled: it counts until the next one is requested.
        assert_eq!(queue.counts(), (MAX_PROGRESS / 2, MAX_PROGRESS / 2 + 1, MAX_PROGRESS + 2, 5_001));
        queue.next();
        queue.push(&log("y"));
        let rest: Vec<_> = std::iter::from_fn(|| (queue.counts().0 > 0).then(|| queue.next()).flatten()).collect();
        let [.., mark, last] = rest.as_slice() else { panic!("{rest:?}") };
        assert_eq!((&mark.body, last), (&EventBody::EventsDropped { count: 5_001 }, &log("y")));
    }

    #[test]
    fn state_events_stay_in_order_where_progress_is_left_out_at_the_end() {
        let queue = Queue::new();
        let end = event(EventBody::LeaseStuck { lease: "l".into(), message: String::new() });
        for event in [&state_event(), &log("a"), &state_event(), &log("b"), &end] {
            queue.push(event);
        }
        queue.close();
        queue.leave_out_progress();
        let left: Vec<_> = std::iter::from_fn(|| queue.next()).map(|event| event.body.clone()).collect();
        let released = state_event().body.clone();
        assert_eq!(left, [released.clone(), EventBody::EventsDropped { count: 2 }, released, end.body.clone()]);
        assert_eq!(queue.counts(), (0, 0, 0, 0));
    }
}

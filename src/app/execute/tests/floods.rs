//! Builds that write without end, and sinks that take nothing. Not responsible for: how sinks queue.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_flood_without_a_newline_fills_no_queue_and_hides_no_end() {
    let fake = Fake::new(Trouble::Flood);
    let (run, seen) = carried(&fake).await;
    assert_eq!(run.outcome(), RunOutcome::Success);
    let told = seen.progress + usize::try_from(seen.dropped).expect("small");
    assert_eq!(told, 2 * FLOOD, "what is left out is counted");
    let state: Vec<EventBody> =
        seen.bodies.iter().filter(|body| !matches!(body, EventBody::EventsDropped { .. })).cloned().collect();
    assert_eq!(state, replayed(&fake).1, "state events are all told, in order");
    assert!(matches!(state.last(), Some(EventBody::RunFinished { built: 2, .. })));
}

#[tokio::test(start_paused = true)]
async fn sinks_that_hang_or_panic_change_nothing() {
    let fake = Fake::new(Trouble::Flood);
    let bad: Vec<Box<dyn Sink>> = vec![Box::new(Bad { hangs: true }), Box::new(Bad { hangs: false })];
    let (run, seen, left) = carried_before(&fake, bad).await;
    assert_eq!(run.outcome(), RunOutcome::Success);
    assert_eq!(left, [LeftBehind("hanging")]);
    assert!(matches!(seen.bodies.last(), Some(EventBody::RunFinished { built: 2, .. })));
}

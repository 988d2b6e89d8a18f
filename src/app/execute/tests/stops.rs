//! Waiting for other runs, and stops. Not responsible for: real tools.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_key_that_another_run_builds_is_waited_for_without_a_runner_and_outside_the_time_budget() {
    let fake = Fake::new(Trouble::Claimed);
    let started = tokio::time::Instant::now();
    let (run, seen) = carried(&fake).await;
    assert!(
        started.elapsed() > Duration::from_secs(60 * 60),
        "it waited longer than its budget: {:?}",
        started.elapsed()
    );
    assert_eq!(run.outcome(), RunOutcome::Success);
    assert_eq!(fake.noted()[..2], ["claimed", "acquire r-1 linux/arm64"], "a runner was rented to wait");
    let waits = |body: &&EventBody| matches!(body, EventBody::StepPhase { phase, .. } if phase == "contended");
    assert_eq!(seen.bodies.iter().filter(waits).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_waits_for_no_task_and_is_told_what_stays() {
    let fake = Fake::new(Trouble::Left);
    let started = tokio::time::Instant::now();
    let (run, seen) = carried(&fake).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(run.stuck().map(LeaseId::as_str).collect::<Vec<_>>(), ["r-1"]);
    let stuck = |body: &&EventBody| matches!(body, EventBody::LeaseStuck { lease, .. } if lease.as_str() == "r-1");
    assert_eq!(seen.bodies.iter().filter(stuck).count(), 1, "{:?}", seen.bodies);
    assert!(matches!(seen.bodies.last(), Some(EventBody::RunFinished { outcome: RunOutcome::Cancelled, .. })));
    assert_eq!(replayed(&fake).0, run);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_build_has_a_while_to_end_and_a_killed_one_has_not() {
    for (twice, seconds) in [(false, 5), (true, 0)] {
        let fake = Fake::new(Trouble::Deaf { twice });
        let started = tokio::time::Instant::now();
        let (run, _) = carried(&fake).await;
        assert_eq!((run.outcome(), started.elapsed().as_secs()), (RunOutcome::Cancelled, seconds), "twice: {twice}");
        let noted = [
            "claimed",
            "acquire r-1 linux/arm64",
            "learned machine 1",
            "asked to end",
            "unclaimed",
            "release r-1: machine 1",
        ];
        assert_eq!(fake.noted(), noted);
    }
}

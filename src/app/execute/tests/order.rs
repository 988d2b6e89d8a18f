//! Which of several ready layers gets the free runner. Not responsible for: the rule (see `domain::life`).

use super::*;

/// The layers in the order in which they were brought to a runner.
async fn brought(held: bool) -> Vec<String> {
    let steps = vec![spec("base", &[]), spec("left", &["base"]), spec("right", &["base"])];
    let fake = Fake::new(Trouble::Behind { held });
    let (run, seen, _) = carried_steps(&fake, steps, Vec::new()).await;
    assert_eq!(run.outcome(), RunOutcome::Success);
    let brought = |body: &EventBody| match body {
        EventBody::StepPhase { layer, phase } if phase == "syncing" => Some(layer.to_string()),
        _ => None,
    };
    seen.bodies.iter().filter_map(brought).collect()
}

#[tokio::test(start_paused = true)]
async fn the_plan_s_first_gets_it_also_if_its_claim_is_answered_last() {
    assert_eq!(brought(false).await, ["base", "left", "right"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_another_run_builds_stops_nobody_behind_it() {
    assert_eq!(brought(true).await, ["base", "right", "left"]);
}

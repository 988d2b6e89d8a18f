//! Examples of single runs. Not responsible for: what must hold in every run (see `properties`).

use std::time::Duration;

use super::pieces::{layer, place, size};
use super::played::{Played, lease, packed, play};
use super::*;
use crate::domain::base::{Digest, RunId, Timestamp};
use crate::domain::model::{Fault, FaultClass, FaultKind, Outcome};

/// base → left, right → top.
const DIAMOND: &[&[usize]] = &[&[], &[0], &[0], &[1, 2]];

#[test]
fn the_step_that_waits_takes_what_idles_and_wants_its_own_no_more() {
    let mut played = play(DIAMOND, packed());
    played.granted(1, 0);
    played.built(0);
    assert_eq!(played.synced(), [(layer(1), lease(1))]);
    assert_eq!(played.asked(), [(lease(2), "t0".to_owned())]);
    played.built(1);
    assert_eq!(played.synced(), [(layer(2), lease(1))], "{:?}", played.effects);
    assert!(played.wants(&Effect::Abandon { lease: lease(2) }));
    let fault = Fault::new(FaultKind::Infrastructure, "lian::drive::abandoned", "abandoned");
    played.told(Input::LeaseRefused { lease: lease(2), fault });
    assert!(played.releases(2));
    played.built(2);
    assert_eq!(played.synced(), [(layer(3), lease(1))]);
}

#[test]
fn whoever_waits_longest_goes_first_and_its_ask_passes_on() {
    let limits = Limits { width: 3, ..packed() };
    // l00 ends; l01 has waited, l02 becomes ready only now.
    let mut played = play(&[&[], &[], &[0]], limits);
    played.granted(1, 0);
    played.built(0);
    assert_eq!(played.synced(), [(layer(1), lease(1))]);
    assert!(played.asked().is_empty() && !played.wants(&Effect::Abandon { lease: lease(2) }), "{:?}", played.effects);
    played.granted(2, 0);
    assert_eq!(played.synced(), [(layer(2), lease(2))]);
}

#[test]
fn a_runner_on_which_nothing_had_to_be_built_is_as_good_as_before() {
    let mut played = play(&[&[], &[0]], packed());
    played.granted(1, 0);
    played.told(Input::Synced { layer: layer(0) });
    played.told(Input::Found { layer: layer(0), digest: Digest::of([1]) });
    assert_eq!(played.synced(), [(layer(1), lease(1))], "{:?}", played.effects);
}

#[test]
fn a_bug_gives_the_runner_back_and_is_told_as_one() {
    let mut played = play(&[&[], &[]], Limits { width: 1, ..packed() });
    played.granted(1, 0);
    let fault = Fault::new(FaultKind::Bug, "lian::drive::bug", "oops");
    played.told(Input::Faulted { layer: layer(0), fault });
    assert!(played.releases(1), "{:?}", played.effects);
    assert_eq!(played.asked().len(), 1, "the other layer gets a runner of its own");
    assert!(played.run.faults().any(|class| class == FaultClass::Bug));
}

#[test]
fn the_class_of_a_fault_decides_whether_it_is_tried_again_not_its_kind() {
    let retried = |fault: Fault| {
        let mut played = play(&[&[]], packed());
        played.told(Input::LeaseRefused { lease: lease(1), fault });
        played.run.outcome_of(&layer(0)).is_none()
    };
    let lost = || Fault::new(FaultKind::Infrastructure, "lian::test", "no");
    assert!(retried(lost()));
    assert!(!retried(lost().with_class(FaultClass::Denied)));
    assert!(!retried(Fault::denied("lian::test", "no")) && !retried(Fault::configuration("lian::test", "no")));
    let away = Fault::new(FaultKind::Unavailable, "lian::test", "no");
    assert!(!retried(away.clone()));
    assert!(retried(away.with_class(FaultClass::Infrastructure)));
}

#[test]
fn a_step_of_a_journal_from_before_there_were_classes_is_to_blame_by_its_kind() {
    let mut played = play(&[&[]], packed());
    played.told(Input::LeaseRefused { lease: lease(1), fault: Fault::denied("lian::test", "no") });
    let mut json = serde_json::to_value(&played.run).expect("plain data");
    let read = |json: &serde_json::Value| serde_json::from_value::<Run>(json.clone()).expect("a run");
    assert_eq!(read(&json).faults().collect::<Vec<_>>(), [FaultClass::Denied]);
    let step = &mut json["steps"][layer(0).as_str()];
    assert!(step.as_object_mut().and_then(|step| step.remove("fault_class")).is_some(), "{step}");
    assert_eq!(read(&json).faults().collect::<Vec<_>>(), [FaultClass::Unavailable]);
}

#[test]
fn out_of_memory_goes_on_above_what_it_died_on() {
    let sizes = |run: &[usize]| run.iter().map(|index| size(*index, 30)).collect::<Vec<_>>();
    let spec =
        StepSpec { layer: layer(0), parents: Vec::new(), reuse: None, place: place(0), sizes: sizes(&[0, 1, 2]) };
    let run = Run::new(RunId::from("r"), vec![spec], packed());
    let mut played = Played { run, at: Timestamp(0), effects: Vec::new() };
    played.told(Input::Begin);
    // 4 GB were requested, 8 GB were granted.
    played.granted(1, 1);
    let fault = Fault::new(FaultKind::OutOfMemory, "lian::test", "oom");
    played.told(Input::Faulted { layer: layer(0), fault });
    played.fired(Timer::Retry { layer: layer(0) });
    assert_eq!(played.asked(), [(lease(2), "t2".to_owned())]);
}

#[test]
fn over_its_time_budget_a_step_is_killed_and_fails() {
    let mut played = play(&[&[]], packed());
    played.granted(1, 0);
    played.told(Input::Synced { layer: layer(0) });
    let timer = Timer::Budget { layer: layer(0), attempt: 1 };
    assert!(played.wants(&Effect::Arm { timer: timer.clone(), after: Duration::from_secs(30 * 60) }));
    played.later(30);
    played.fired(timer);
    assert!(played.wants(&Effect::Kill { layer: layer(0), hard: false }));
    played.told(Input::Killed { layer: layer(0) });
    assert_eq!(played.failed_with(0).as_deref(), Some("lian::life::over_budget"));
    assert!(played.releases(1));
}

fn living(minutes: u64) -> Limits {
    Limits { max_lifetime: Some(Duration::from_secs(minutes * 60)), ..packed() }
}

#[test]
fn a_lifetime_counts_from_the_ask_and_ends_before_the_machine() {
    let mut played = play(&[&[]], living(60));
    played.later(5);
    played.granted(1, 0);
    let timer = Timer::Lifetime { lease: lease(1) };
    // 60 minutes without the last one, less the five that it took to arrive.
    assert!(played.wants(&Effect::Arm { timer: timer.clone(), after: Duration::from_secs(54 * 60) }));
    played.fired(timer);
    played.told(Input::Killed { layer: layer(0) });
    assert_eq!(played.failed_with(0).as_deref(), Some("lian::life::lifetime"));
    let mut short = play(&[&[]], Limits { max_lifetime: Some(Duration::from_secs(20)), ..packed() });
    short.granted(1, 0);
    let timer = Timer::Lifetime { lease: lease(1) };
    assert!(short.wants(&Effect::Arm { timer, after: Duration::from_secs(18) }));
}

#[test]
fn a_runner_that_will_not_live_as_long_as_a_step_may_take_is_not_used_for_it() {
    let mut played = play(&[&[], &[0]], living(60));
    played.granted(1, 0);
    played.later(31);
    played.built(0);
    assert!(played.releases(1) && played.synced().is_empty(), "{:?}", played.effects);
    assert_eq!(played.asked(), [(lease(2), "t0".to_owned())]);
    // If no runner lives that long, an old one is as good as any other.
    let mut short = play(&[&[], &[0]], living(20));
    short.granted(1, 0);
    short.later(10);
    short.built(0);
    assert_eq!(short.synced(), [(layer(1), lease(1))]);
}

#[test]
fn the_age_that_others_gave_its_runner_fails_no_step() {
    let mut played = play(&[&[], &[0]], living(20));
    played.granted(1, 0);
    played.built(0);
    assert_eq!(played.synced(), [(layer(1), lease(1))]);
    played.fired(Timer::Lifetime { lease: lease(1) });
    played.told(Input::Killed { layer: layer(1) });
    assert!(played.end(1).is_none() && played.releases(1), "{:?}", played.effects);
    played.fired(Timer::Retry { layer: layer(1) });
    assert_eq!(played.asked(), [(lease(2), "t0".to_owned())]);
    played.granted(2, 0);
    played.fired(Timer::Lifetime { lease: lease(2) });
    played.told(Input::Killed { layer: layer(1) });
    assert_eq!(played.failed_with(1).as_deref(), Some("lian::life::lifetime"));
}

#[test]
fn a_lifetime_that_ends_while_the_image_is_promoted_takes_the_runner_with_it() {
    let mut played = play(&[&[], &[0]], living(20));
    played.granted(1, 0);
    played.promoted(0);
    played.fired(Timer::Lifetime { lease: lease(1) });
    assert!(played.effects.is_empty(), "{:?}", played.effects);
    played.told(Input::Recorded { layer: layer(0) });
    assert_eq!(played.end(0).map(|(outcome, _)| outcome), Some(Outcome::Built));
    assert!(played.releases(1) && played.synced().is_empty(), "{:?}", played.effects);
}

fn priced(most: Option<u64>) -> Limits {
    let prices = [("t0".to_owned(), 10), ("t1".to_owned(), 25)].into();
    Limits { prices, max_cost_micros: most, ..packed() }
}

#[test]
fn an_idle_runner_goes_before_its_hour_turns() {
    // l01 waits for l02, which runs on the other runner.
    let mut played = play(&[&[], &[0, 2], &[]], priced(None));
    played.granted(1, 0);
    played.granted(2, 0);
    played.later(40);
    played.built(0);
    let timer = Timer::Turn { lease: lease(1) };
    assert!(played.wants(&Effect::Arm { timer: timer.clone(), after: Duration::from_secs(18 * 60) }));
    assert!(!played.releases(1));
    played.later(18);
    played.fired(timer);
    assert!(played.releases(1));
}

#[test]
fn what_is_granted_too_large_to_pay_for_goes_back_and_nothing_starts() {
    let mut played = play(&[&[]], priced(Some(20)));
    played.granted(1, 1);
    assert_eq!(played.failed_with(0).as_deref(), Some("lian::life::max_cost"));
    assert!(played.releases(1) && played.synced().is_empty(), "{:?}", played.effects);
}

#[test]
fn an_hour_that_turns_beyond_the_bound_ends_no_step_and_starts_none() {
    let mut played = play(&[&[], &[0]], priced(Some(15)));
    played.granted(1, 0);
    played.later(61);
    played.built(0);
    assert_eq!(played.end(0).map(|(outcome, _)| outcome), Some(Outcome::Built));
    assert_eq!(played.failed_with(1).as_deref(), Some("lian::life::max_cost"));
    assert!(played.releases(1) && played.synced().is_empty(), "{:?}", played.effects);
}

#[test]
fn a_step_goes_where_its_parent_was_built() {
    let mut played = play(&[&[], &[], &[1]], Limits { width: 2, ..packed() });
    played.granted(1, 0);
    played.granted(2, 1);
    played.built(0);
    played.built(1);
    let on =
        |effect: &Effect| matches!(effect, Effect::Sync { layer: at, lease: on } if *at == layer(2) && *on == lease(2));
    assert!(played.effects.iter().any(on), "the smaller runner has nothing of its parent: {:?}", played.effects);
}

#[test]
fn a_step_that_waits_for_another_run_keeps_no_runner_that_the_other_may_wait_for() {
    let limits = Limits { claims: true, width: 1, ..packed() };
    let mut played = play(&[&[], &[0], &[1]], limits);
    assert_eq!(played.effects.last(), Some(&Effect::Claim { layer: layer(0) }));
    played.told(Input::Claimed { layer: layer(0) });
    played.granted(1, 0);
    played.promoted(0);
    played.told(Input::Recorded { layer: layer(0) });
    let released = |played: &Played| played.effects.contains(&Effect::Release { lease: lease(1) });
    assert!(played.effects.contains(&Effect::Claim { layer: layer(1) }) && !released(&played), "{:?}", played.effects);
    played.told(Input::ClaimTaken { layer: layer(1) });
    assert!(
        played.effects.contains(&Effect::AwaitClaim { layer: layer(1) }) && released(&played),
        "{:?}",
        played.effects
    );
    played.told(Input::Released { lease: lease(1) });
    // Its image is there: the next one, which stands on it, goes on.
    played.told(Input::Found { layer: layer(1), digest: Digest::of("theirs") });
    assert_eq!(played.run.outcome_of(&layer(1)), Some(Outcome::Reused));
    assert!(played.effects.contains(&Effect::Claim { layer: layer(2) }), "{:?}", played.effects);
}

#[test]
fn a_step_that_waits_for_another_run_holds_up_no_other_and_ends_with_a_failure_that_ends_all() {
    let mut played = play(&[&[], &[]], Limits { claims: true, width: 1, keep_going: false, ..Limits::default() });
    played.told(Input::ClaimTaken { layer: layer(0) });
    assert!(played.effects.contains(&Effect::Claim { layer: layer(1) }), "{:?}", played.effects);
    played.told(Input::Claimed { layer: layer(1) });
    let fault = Fault::new(FaultKind::Unavailable, "lian::test", "no");
    played.told(Input::LeaseRefused { lease: lease(1), fault });
    assert!(played.effects.contains(&Effect::Kill { layer: layer(0), hard: false }), "{:?}", played.effects);
    played.told(Input::Killed { layer: layer(0) });
    played.told(Input::Released { lease: lease(1) });
    assert_eq!(played.run.outcome_of(&layer(0)), Some(Outcome::Skipped));
    assert!(played.run.is_finished());
}

#[test]
fn the_free_runner_goes_to_the_first_of_the_plan_whichever_claim_is_answered_first() {
    let mut played = play(DIAMOND, Limits { claims: true, ..packed() });
    played.told(Input::Claimed { layer: layer(0) });
    played.granted(1, 0);
    played.built(0);
    played.told(Input::Claimed { layer: layer(2) });
    assert!(played.synced().is_empty() && !played.releases(1), "{:?}", played.effects);
    played.told(Input::Claimed { layer: layer(1) });
    assert_eq!(played.synced(), [(layer(1), lease(1))]);
    assert_eq!(played.asked(), [(lease(2), "t0".to_owned())]);
}

#[test]
fn a_claim_that_another_run_holds_stops_nobody_behind_it() {
    let mut played = play(DIAMOND, Limits { claims: true, ..packed() });
    played.told(Input::Claimed { layer: layer(0) });
    played.granted(1, 0);
    played.built(0);
    played.told(Input::Claimed { layer: layer(2) });
    played.told(Input::ClaimTaken { layer: layer(1) });
    assert_eq!(played.synced(), [(layer(2), lease(1))]);
}

#[test]
fn of_runners_that_are_asked_for_together_the_first_to_come_goes_to_who_asked_first() {
    let mut played = play(&[&[], &[]], packed());
    played.granted(2, 0);
    assert_eq!(played.synced(), [(layer(0), lease(2))]);
    played.granted(1, 0);
    assert_eq!(played.synced(), [(layer(1), lease(1))]);
}

#[test]
fn a_step_claims_no_key_before_a_runner_can_be_its_own() {
    let mut played = play(&[&[], &[]], Limits { claims: true, max_leases: 1, ..packed() });
    let claims = |played: &Played, index: usize| played.wants(&Effect::Claim { layer: layer(index) });
    assert!(claims(&played, 0) && !claims(&played, 1), "{:?}", played.effects);
    played.told(Input::Claimed { layer: layer(0) });
    played.granted(1, 0);
    assert!(!claims(&played, 1), "{:?}", played.effects);
    played.built(0);
    assert!(claims(&played, 1) && !played.releases(1), "{:?}", played.effects);
}

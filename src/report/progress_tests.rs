//! Progress of a run: permanent lines and the live view.

use super::super::faults::tests::{end, failed, out_of_memory};
use super::super::lines::{Window, picture};
use super::super::plan::tests::example;
use super::*;
use crate::domain::base::{RunId, Timestamp};
use crate::domain::model::{Fault, FaultKind, Outcome};

const LOOK: ProgressOptions = ProgressOptions { style: Style::PLAIN, quiet: false, verbose: 0, width: 2, began: None };
const WINDOW: Window = Window { style: Style::PLAIN, columns: 80, rows: 24 };

fn event(at: u64, body: EventBody) -> Event {
    Event { at: Timestamp(at), run: RunId::from("7f3a9c21"), body }
}

fn phase(layer: &str, phase: &str) -> EventBody {
    EventBody::StepPhase { layer: layer.into(), phase: phase.into() }
}

fn vertex(layer: &str, name: &str, state: VertexState) -> EventBody {
    let (vertex, name) = (name.to_owned(), name.to_owned());
    let progress = BuildEvent::Vertex { vertex, name, state, duration_ms: Some(12_000), error: None };
    EventBody::StepProgress { layer: layer.into(), progress }
}

fn log(layer: &str, text: &str) -> EventBody {
    let progress = BuildEvent::Log { vertex: "v".into(), text: text.into() };
    EventBody::StepProgress { layer: layer.into(), progress }
}

fn skipped(layer: &str, because: &str) -> EventBody {
    let mut end = end(layer, Outcome::Skipped);
    end.because = Some(because.into());
    EventBody::StepFinished(end)
}

fn finished(outcome: RunOutcome, [built, reused, failed, skipped]: [usize; 4]) -> EventBody {
    EventBody::RunFinished { outcome, built, reused, failed, skipped }
}

/// All printed lines, standard error first within an event; events are one second apart.
fn told(progress: &mut Progress, bodies: impl IntoIterator<Item = EventBody>) -> String {
    let mut lines = Vec::new();
    for (index, body) in bodies.into_iter().enumerate() {
        let said = progress.take(&event(1_000 * index as u64, body));
        lines.extend(said.aside);
        lines.extend(said.result.into_iter().map(|line| format!("> {line}")));
    }
    lines.join("\n")
}

fn plan() -> Plan {
    let mut plan = example();
    plan.steps[3].parents = vec!["rust".into()];
    let rust_deps = plan.steps[3].clone();
    for (name, parent) in
        [("app", "rust-deps"), ("漢字-docs", "app"), ("site", "app"), ("tools", "rust"), ("more", "app")]
    {
        let mut step = rust_deps.clone();
        (step.layer, step.parents, step.estimate_ms) = (name.into(), vec![parent.into()], Some(60_000));
        plan.steps.push(step);
    }
    plan
}

#[test]
fn a_run_is_told_from_its_first_step_to_its_last() {
    let mut progress = Progress::new(&plan(), LOOK);
    let counts = [1, 2, 1, 2];
    let text = told(
        &mut progress,
        [
            EventBody::RunStarted { build: 2, reuse: 2 },
            EventBody::StepFinished(end("debian", Outcome::Reused)),
            phase("rust", "building"),
            vertex("rust", "[1/2] RUN apt-get update", VertexState::Started),
            EventBody::StepFinished(end("rust", Outcome::Built)),
            EventBody::StepFinished(failed()),
            skipped("app", "rust-deps"),
            skipped("漢字-docs", "rust-deps"),
            finished(RunOutcome::Failure, counts),
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn the_second_run_says_what_it_did_not_have_to_do() {
    let mut progress = Progress::new(&example(), LOOK);
    let reused =
        ["debian", "nushell", "rust", "rust-deps"].map(|layer| EventBody::StepFinished(end(layer, Outcome::Reused)));
    told(&mut progress, [EventBody::RunStarted { build: 0, reuse: 4 }].into_iter().chain(reused));
    let last = progress.take(&event(7, finished(RunOutcome::Success, [0, 4, 0, 0])));
    assert_eq!(last.result, ["4 layers: all reused, nothing to build · about 3m saved · 7 ms"]);
    let mut unknown = Progress::new(&Plan::default(), LOOK);
    let last = unknown.take(&event(7, finished(RunOutcome::Success, [0, 8, 0, 0])));
    assert_eq!(last.result, ["8 layers: all reused, nothing to build · 0 ms"]);
}

#[test]
fn quiet_says_nothing_where_all_is_well() {
    let bodies = || {
        [
            EventBody::RunStarted { build: 1, reuse: 0 },
            EventBody::StepProgress { layer: "rust".into(), progress: BuildEvent::Warning { message: "w".into() } },
            vertex("rust", "[1/2] RUN x", VertexState::Started),
            EventBody::StepFinished(end("rust", Outcome::Built)),
        ]
    };
    let quiet = ProgressOptions { quiet: true, ..LOOK };
    let mut progress = Progress::new(&example(), quiet);
    assert_eq!(told(&mut progress, bodies()), "");
    assert_eq!(told(&mut progress, [finished(RunOutcome::Success, [1, 0, 0, 0])]), "");
    let mut failing = Progress::new(&example(), quiet);
    let text = told(&mut failing, [EventBody::StepFinished(failed()), finished(RunOutcome::Failure, [0, 0, 1, 0])]);
    assert!(text.contains("rust-deps") && text.contains("help:"), "{text}");
    assert!(!told(&mut Progress::new(&example(), LOOK), bodies()).is_empty());
}

#[test]
fn verbose_shows_steps_and_twice_what_they_write() {
    let bodies = || {
        [
            phase("rust", "building"),
            vertex("rust", "[internal] load build definition", VertexState::Started),
            vertex("rust", "[1/2] FROM debian", VertexState::Cached),
            vertex("rust", "[2/2] RUN --mount=type=secret,id=x make all", VertexState::Started),
            log("rust", "half \u{1b}[2J"),
            log("rust", "a line\nand"),
            vertex("rust", "[2/2] RUN --mount=type=secret,id=x make all", VertexState::Completed),
        ]
    };
    assert_eq!(told(&mut Progress::new(&example(), LOOK), bodies()), "");
    let once = told(&mut Progress::new(&example(), ProgressOptions { verbose: 1, ..LOOK }), bodies());
    let twice = told(&mut Progress::new(&example(), ProgressOptions { verbose: 2, ..LOOK }), bodies());
    insta::assert_snapshot!(format!("{once}\n\n{twice}"));
}

#[test]
fn a_stop_is_answered_at_once_even_in_quiet() {
    let mut progress = Progress::new(&example(), ProgressOptions { quiet: true, ..LOOK });
    let (first, second) = (EventBody::RunStopping { hard: false }, EventBody::RunStopping { hard: true });
    let text = told(&mut progress, [first, second, finished(RunOutcome::Cancelled, [1, 2, 0, 1])]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_stop_before_anything_was_built_promises_nothing() {
    let mut progress = Progress::new(&example(), LOOK);
    let text = told(&mut progress, [finished(RunOutcome::Cancelled, [0, 2, 0, 2])]);
    assert!(text.contains("stopped · ") && !text.contains("is kept"), "{text}");
}

fn halfway() -> Progress {
    let mut progress = Progress::new(&plan(), LOOK);
    let runner_type = "cax31".to_owned();
    told(
        &mut progress,
        [
            EventBody::RunStarted { build: 7, reuse: 2 },
            EventBody::StepFinished(end("debian", Outcome::Reused)),
            EventBody::StepFinished(end("nushell", Outcome::Reused)),
            phase("rust", "building"),
            EventBody::LeaseGranted { lease: "l1".into(), layer: "rust".into(), runner_type },
            vertex("rust", "[internal] load metadata for docker.io/library/debian", VertexState::Started),
            vertex("rust", "[4/6] RUN --mount=type=cache,target=/x cargo chef cook --release", VertexState::Started),
            vertex("rust", "exporting to oci image format", VertexState::Started),
            EventBody::StepProgress {
                layer: "rust".into(),
                progress: BuildEvent::Memory { used: 3_100_000_000, limit: 16_000_000_000 },
            },
        ],
    );
    progress
}

#[test]
fn the_picture_names_what_runs_and_what_waits() {
    let progress = halfway();
    let shown = picture(&progress.board, Timestamp(75_000), 4, WINDOW);
    let narrow = picture(&progress.board, Timestamp(75_000), 4, Window { columns: 34, rows: 5, ..WINDOW });
    for line in &narrow {
        assert!(super::super::text::width(line) < 34, "{line}");
    }
    assert!(narrow.len() < 5, "{narrow:?}");
    insta::assert_snapshot!(format!("{}\n\n{}", shown.join("\n"), narrow.join("\n")));
}

#[test]
fn between_two_steps_the_last_one_stays() {
    let mut progress = halfway();
    let line = |progress: &Progress| picture(&progress.board, Timestamp(9_000), 0, WINDOW).remove(0);
    let before = line(&progress);
    for name in ["exporting to oci image format", "[4/6] RUN --mount=type=cache,target=/x cargo chef cook --release"] {
        progress.take(&event(9_000, vertex("rust", name, VertexState::Completed)));
    }
    progress.take(&event(
        9_000,
        vertex("rust", "[internal] load metadata for docker.io/library/debian", VertexState::Completed),
    ));
    assert!(before.contains("cargo chef cook"), "{before}");
    assert!(!line(&progress).contains("building"), "{}", line(&progress));
    progress.take(&event(9_500, phase("rust", "verifying")));
    assert!(line(&progress).contains("verifying"), "{}", line(&progress));
}

#[test]
fn the_estimate_knows_parents_and_width() {
    let mut plan = plan();
    let at = Timestamp(10_000);
    let left = |plan: &Plan, width| {
        let mut board = RunView::new(plan.clone(), width);
        board.take(&event(0, phase("rust", "building")));
        board.left(at)
    };
    // rust: 120 s left; rust-deps: unknown; app; then three of 60 s, two at a time, with tools parallel to app.
    assert_eq!(left(&plan, 2), (Duration::from_secs(120 + 60 + 120), 1));
    assert_eq!(left(&plan, 1).0, Duration::from_secs(120 + 5 * 60));
    plan.steps[3].estimate_ms = Some(100_000);
    assert_eq!(left(&plan, 3), (Duration::from_secs(120 + 100 + 60 + 60), 0));
}

#[test]
fn memory_that_ran_out_twice_shows_both_tries() {
    let mut progress = Progress::new(&plan(), LOOK);
    let first = out_of_memory("killed at 7.8 of 8.0 GB");
    let mut last = end("app", Outcome::Failed);
    last.runner_type = Some("cax31".into());
    last.fault = Some(out_of_memory("killed at 15.9 of 16.0 GB"));
    let granted = EventBody::LeaseGranted { lease: "l1".into(), layer: "app".into(), runner_type: "cax21".into() };
    let retried = EventBody::StepRetried { layer: "app".into(), fault: first, runner_type: "cax31".into() };
    let text = told(
        &mut progress,
        [
            phase("app", "leasing"),
            granted,
            retried,
            EventBody::StepFinished(last),
            finished(RunOutcome::Failure, [0, 0, 1, 0]),
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_step_that_is_tried_again_says_why_where_and_on_what() {
    let mut progress = Progress::new(&plan(), LOOK);
    let granted = |runner: &str| {
        let runner_type = runner.to_owned();
        EventBody::LeaseGranted { lease: "l1".into(), layer: "app".into(), runner_type }
    };
    let mut memory = out_of_memory("killed at 7.8 of 8.0 GB");
    memory.step = Some("[stage-1 5/7] RUN --mount=type=cache,target=/x cargo chef cook --release".into());
    let mut lost =
        Fault::new(FaultKind::Infrastructure, "lian::remote::link_lost", "the connection to the runner was lost");
    lost.evidence = Some("ssh ended with Some(255)".into());
    let retried = |fault: Fault| EventBody::StepRetried { layer: "app".into(), fault, runner_type: "cax31".into() };
    let text = told(
        &mut progress,
        [phase("app", "leasing"), granted("cax21"), retried(memory), granted("cax31"), retried(lost)],
    );
    let lines: Vec<&str> = text.lines().map(|line| line.trim_start_matches("↻ app").trim_start()).collect();
    assert_eq!(
        lines,
        [
            "out of memory on cax21: killed at 7.8 of 8.0 GB, step 5/7 `cargo chef cook --release`; again on cax31",
            "the connection to the runner was lost on cax31: ssh ended with Some(255); again on cax31",
        ]
    );
}

#[test]
fn advice_names_the_runner_type_to_set_where_there_is_one() {
    let help = |runner: &str| {
        let mut progress = Progress::new(&plan(), LOOK);
        let rungs = ["cax21", "cax31", "cax41"].map(str::to_owned).to_vec();
        progress.board.ladders = [("app".into(), rungs)].into();
        let mut last = end("app", Outcome::Failed);
        (last.runner_type, last.fault) = (Some(runner.into()), Some(out_of_memory("killed at 15.9 of 16.0 GB")));
        let text = told(&mut progress, [EventBody::StepFinished(last), finished(RunOutcome::Failure, [0, 0, 1, 0])]);
        text.lines().find_map(|line| line.split_once("help: ").map(|(_, help)| help.to_owned())).expect("help")
    };
    assert!(help("cax31").starts_with("set `runner_type = \"cax41\"` in .build-spec.ncl"), "{}", help("cax31"));
    assert!(help("cax41").contains("no runner on offer has more memory than cax41"), "{}", help("cax41"));
    assert!(help("local").starts_with("set a larger `runner_type`"), "{}", help("local"));
}

#[test]
fn a_lease_that_is_stuck_is_told_with_the_next_step_and_again_in_the_end() {
    let stuck = EventBody::LeaseStuck { lease: "7f3-1".into(), message: "403 forbidden".into() };
    let quiet = told(&mut Progress::new(&plan(), ProgressOptions { quiet: true, ..LOOK }), [stuck.clone()]);
    let lines: Vec<&str> = quiet.lines().collect();
    assert_eq!(lines[0], "✗ lease 7f3-1 could not be given back: 403 forbidden");
    assert!(lines[1].contains("help: ") && lines[1].contains("lian-build leases gc"), "{quiet}");
    let mut progress = Progress::new(&plan(), LOOK);
    told(&mut progress, [stuck]);
    let last = progress.take(&event(7, finished(RunOutcome::Success, [1, 0, 0, 0]))).result;
    let [.., told, help] = &last[..] else { panic!("{last:?}") };
    assert_eq!(told, "✗ 1 runner could not be given back: 7f3-1");
    assert!(help.contains("lian-build leases gc"), "{help}");
}

#[test]
fn a_context_on_its_way_is_told_in_bytes() {
    let mut progress = Progress::new(&plan(), LOOK);
    let phase = EventBody::StepPhase { layer: "rust-deps".into(), phase: "syncing".into() };
    let (vertex, id) = ("context".to_owned(), "sending the context".to_owned());
    let sent = BuildEvent::Progress { vertex, id, current: 1_200_000, total: Some(45_600_000) };
    told(&mut progress, [phase, EventBody::StepProgress { layer: "rust-deps".into(), progress: sent }]);
    let window = Window { style: Style::PLAIN, columns: 100, rows: 20 };
    let shown = picture(&progress.board, Timestamp(9_000), 0, window).join("\n");
    assert!(shown.contains("sends its context, 1.2 MB of 45.6 MB"), "{shown}");
}

#[test]
fn the_time_that_is_told_is_that_of_the_whole_command() {
    let look = ProgressOptions { began: Some(Timestamp(1_000)), ..LOOK };
    let mut progress = Progress::new(&example(), look);
    progress.take(&event(4_000, EventBody::RunStarted { build: 0, reuse: 4 }));
    let said = progress.take(&event(4_000, finished(RunOutcome::Success, [0, 4, 0, 0])));
    assert!(said.result.join("\n").ends_with(" · 3.0s"), "{:?}", said.result);
}

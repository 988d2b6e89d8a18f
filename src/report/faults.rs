//! Renders what a user needs to know about a failed step. Not responsible for: guessing causes beyond the evidence;
//! colour codes (`style`).

use std::fmt::Write as _;

use super::run_view::{Earlier, RunView};
use super::style::Style;
use super::text::{clean, count, list, shown};
use crate::domain::base::RunId;
use crate::domain::model::{Fault, FaultKind, StepEnd};
use crate::system::bug;

/// Report of a failed step: where it failed, the end of its log, the consequences, and what to do next.
pub fn failure_block(run: &RunId, end: &StepEnd, board: &RunView, style: Style) -> String {
    let mut text = String::new();
    let layer = end.layer.as_str();
    let Some(fault) = &end.fault else {
        let _ = writeln!(text, "{} {}   failed", style.bad("✗"), style.strong(layer));
        let _ = writeln!(text, "   {}", help_line(&format!("read `lian-build logs {run} {layer}`"), style));
        return text;
    };
    let exhausted = exhausted(fault, board.earlier(&end.layer));
    let head = head(fault, !exhausted.is_empty());
    let _ = writeln!(text, "{} {}   {head}", style.bad("✗"), style.strong(layer));
    let message = shown(fault.message.trim_end());
    if exhausted.is_empty() {
        // The heading already says that memory ran out.
        let told = fault.kind == FaultKind::OutOfMemory && fault.evidence.is_some();
        if message != head && !told {
            let _ = writeln!(text, "   {message}");
        }
        // Skip evidence that the message already contains.
        for evidence in fault.evidence.iter().map(|evidence| shown(evidence)).filter(|text| !message.contains(text)) {
            let _ = writeln!(text, "   {evidence}");
        }
    } else {
        let runner = end.runner_type.as_deref();
        for (fault, runner) in exhausted.into_iter().chain([(fault, runner)]) {
            let place = runner.map_or(String::new(), |runner| format!("on {}: ", shown(runner)));
            let _ = writeln!(text, "   {place}{}", shown(fault.evidence.as_deref().unwrap_or(&fault.message)));
        }
    }
    log_end(&mut text, fault, &format!("lian-build logs {run} {layer}"), style);
    let follows = match board.skipped_for(&end.layer).as_slice() {
        [] => String::new(),
        [one] => format!("{one} was skipped: it depends on {layer}. "),
        many => format!("{} were skipped: they depend on {layer}. ", list(many)),
    };
    let _ = writeln!(text, "   {follows}No tag of {layer} moved.");
    let help = more_memory(end, board).or_else(|| fault.help.clone());
    let help = help.unwrap_or_else(|| what_to_do(fault.kind, run, layer));
    let _ = writeln!(text, "   {}", help_line(&help, style));
    text
}

/// The end of a step's log, below the lines that look like the cause.
fn log_end(text: &mut String, fault: &Fault, command: &str, style: Style) {
    for line in &fault.causes {
        let _ = writeln!(text, "   {} {}", style.dim("│"), style.strong(&clean(line)));
    }
    if !fault.causes.is_empty() {
        let _ = writeln!(text, "   {}", style.dim("⋮"));
    }
    for line in &fault.log_tail {
        let _ = writeln!(text, "   {} {}", style.dim("│"), clean(line));
    }
    if !fault.log_tail.is_empty() {
        let shown = fault.log_tail.len();
        let lines = if shown == 1 { "the last line".to_owned() } else { format!("the last {shown} lines") };
        let above = match fault.causes.len() {
            0 => String::new(),
            causes => format!(", and {} above that may be the cause", count(causes, "line")),
        };
        let _ = writeln!(text, "   {}", style.dim(&format!("({lines}{above}; the rest: {command})")));
    }
    if let Some(clipped) = &fault.clipped {
        let _ = writeln!(
            text,
            "   BuildKit did not keep all of it ({}): start its daemon with BUILDKIT_STEP_LOG_MAX_SIZE=-1 and \
             BUILDKIT_STEP_LOG_MAX_SPEED=-1",
            shown(clipped)
        );
    }
}

/// Advice after running out of memory: a larger runner type, if there is one on offer.
fn more_memory(end: &StepEnd, board: &RunView) -> Option<String> {
    end.fault.as_ref().filter(|fault| fault.kind == FaultKind::OutOfMemory)?;
    let (ladder, runner) = (board.ladders.get(&end.layer)?, end.runner_type.as_deref()?);
    let at = ladder.iter().position(|rung| rung == runner)?;
    let fewer = "lower the parallelism of the step (e.g. CARGO_BUILD_JOBS)";
    Some(match ladder.get(at + 1) {
        Some(larger) => format!("set `runner_type = \"{}\"` in .build-spec.ncl, or {fewer}", shown(larger)),
        None => format!(
            "{fewer}: no runner on offer has more memory than {}; or have the provider offer a larger one, and set it as \
             `runner_type` in .build-spec.ncl",
            shown(runner)
        ),
    })
}

/// Earlier attempts that ran out of memory, if the last one did too.
fn exhausted<'a>(last: &Fault, earlier: &'a [Earlier]) -> Vec<(&'a Fault, Option<&'a str>)> {
    if last.kind != FaultKind::OutOfMemory {
        return Vec::new();
    }
    let out = earlier.iter().filter(|earlier| earlier.fault.kind == FaultKind::OutOfMemory);
    out.map(|earlier| (&earlier.fault, earlier.runner.as_deref())).collect()
}

fn head(fault: &Fault, again: bool) -> String {
    let place = fault.step.as_deref().map(shown);
    match (fault.kind, place) {
        (FaultKind::OutOfMemory, place) => {
            let twice = if again { " twice" } else { "" };
            place.map_or(format!("out of memory{twice}"), |step| format!("out of memory{twice} in {step}"))
        }
        (FaultKind::Timeout, Some(step)) => format!("over its time budget in {step}"),
        (FaultKind::Build | FaultKind::Missing | FaultKind::Infrastructure | FaultKind::Unavailable, Some(step)) => {
            format!("failed in {step}")
        }
        _ => shown(fault.message.trim_end()),
    }
}

/// What to do next, if the fault has no help of its own.
fn what_to_do(kind: FaultKind, run: &RunId, layer: &str) -> String {
    match kind {
        FaultKind::Build => {
            format!("read `lian-build logs {run} {layer}`, fix the step, then run it again")
        }
        FaultKind::OutOfMemory => {
            "set a larger `runner_type` in .build-spec.ncl, or lower the parallelism of the step (e.g. CARGO_BUILD_JOBS)".to_owned()
        }
        FaultKind::Verification => {
            "let the Dockerfile install it, or remove it from the layer's `tools_provided` and `artifact_paths`"
                .to_owned()
        }
        FaultKind::ContextMoved => "run it again when the files no longer change".to_owned(),
        FaultKind::Infrastructure | FaultKind::Unavailable => {
            "`lian-build doctor` shows what is missing here; then run it again".to_owned()
        }
        FaultKind::Bug => format!("{}, and `lian-build logs {run} {layer}`", bug::way()),
        FaultKind::Missing => "provide what is missing, then run it again".to_owned(),
        FaultKind::Timeout => {
            format!("`lian-build logs {run} {layer}` shows where the time went; or raise its time budget")
        }
    }
}

/// `help: …`, with further lines indented.
fn help_line(help: &str, style: Style) -> String {
    let lines: Vec<String> = help.lines().map(shown).collect();
    format!("{} {}", style.strong("help:"), lines.join("\n         "))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::base::Digest;
    use crate::domain::model::{Outcome, Plan};

    pub fn end(layer: &str, outcome: Outcome) -> StepEnd {
        StepEnd {
            layer: layer.into(),
            outcome,
            digest: (outcome == Outcome::Built).then(|| Digest::of("x")),
            duration_ms: 124_000,
            runner_type: Some("local".into()),
            attempts: 1,
            steps: 12,
            cached: 5,
            phases: [].into(),
            measured: None,
            fault: None,
            because: None,
        }
    }

    pub fn failed() -> StepEnd {
        let mut fault = Fault::new(FaultKind::Build, "lian::buildkit::step", "exit code: 101")
            .help("mend the Dockerfile's step, then run it again");
        fault.step = Some("[4/6] RUN cargo chef cook --release".into());
        fault.log_tail = vec!["error[E0308]: mismatched types".into(), "error: could not compile".into()];
        StepEnd { fault: Some(fault), ..end("rust-deps", Outcome::Failed) }
    }

    pub fn out_of_memory(evidence: &str) -> Fault {
        let mut fault =
            Fault::new(FaultKind::OutOfMemory, "lian::buildkit::out_of_memory", "the step ran out of memory");
        fault.step = Some("[5/6] RUN cargo build".into());
        fault.evidence = Some(evidence.into());
        fault
    }

    fn block(end: &StepEnd) -> String {
        failure_block(&RunId::from("7f3a9c21"), end, &RunView::new(Plan::default(), 1), Style::PLAIN)
    }

    #[test]
    fn a_failure_of_any_kind_ends_with_what_to_do() {
        use FaultKind::{Build, ContextMoved, Infrastructure, Missing, OutOfMemory, Timeout, Verification};
        let mut all = String::new();
        for kind in [Build, OutOfMemory, Verification, ContextMoved, Infrastructure, Missing, Timeout] {
            let fault = Fault::new(kind, "lian::x::y", format!("{kind:?} went wrong"));
            let text = block(&StepEnd { fault: Some(fault), ..end("app", Outcome::Failed) });
            let last = text.trim_end().lines().last().expect("lines");
            assert!(last.trim_start().starts_with("help: "), "{text}");
            all.push_str(&text);
        }
        assert!(block(&end("app", Outcome::Failed)).contains("help: "));
        insta::assert_snapshot!(all);
    }

    #[test]
    fn a_noisy_step_shows_what_may_be_the_cause_and_that_its_log_was_clipped() {
        let mut end = failed();
        let fault = end.fault.as_mut().expect("a fault");
        fault.causes = vec!["error[E0433]: failed to resolve".into(), "  --> src/main.rs:1:5".into()];
        fault.clipped = Some("output clipped, log limit 2MiB reached".into());
        let text = block(&end);
        let (cause, tail) = (text.find("E0433").expect("the cause"), text.find("mismatched").expect("the tail"));
        assert!(cause < tail, "{text}");
        assert!(text.contains("(the last 2 lines, and 2 lines above that may be the cause; the rest:"), "{text}");
        assert!(text.contains("log limit 2MiB reached") && text.contains("BUILDKIT_STEP_LOG_MAX_SIZE"), "{text}");
    }

    #[test]
    fn what_a_build_wrote_cannot_move_the_cursor() {
        let mut end = failed();
        let evil = "\u{1b}]0;title\u{7}\u{1b}[2Jgone";
        let fault = end.fault.as_mut().expect("a fault");
        fault.log_tail = vec![evil.into()];
        (fault.causes, fault.clipped) = (vec![evil.into()], Some(evil.into()));
        (fault.step, fault.evidence, fault.help) = (Some(evil.into()), Some(evil.into()), Some(evil.into()));
        fault.message = evil.into();
        let text = block(&end);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }
}

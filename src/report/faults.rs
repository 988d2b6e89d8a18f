//! How a step's end reads: one line where it is well, a block where it is not. Refuses: colour codes of its own.

use std::fmt::Write as _;
use std::time::Duration;

use super::style::{Style, clean};
use crate::base::{LayerName, RunId, human_duration};
use crate::model::{FaultKind, Outcome, StepEnd};

/// `✓ rust        2m 04s   12 steps, 5 cached        sha256:9c1e…`; nothing for reused ones.
pub fn step_line(end: &StepEnd, name_width: usize, style: Style) -> Option<String> {
    let name = format!("{:<name_width$}", end.layer.as_str());
    let took = human_duration(Duration::from_millis(end.duration_ms));
    match end.outcome {
        Outcome::Built => {
            let steps = match end.cached {
                0 => format!("{} steps", end.steps),
                cached => format!("{} steps, {cached} cached", end.steps),
            };
            let digest = end.digest.as_ref().map_or(String::new(), |digest| format!("sha256:{}…", &digest.hex()[..12]));
            Some(format!("{} {name}  {took:>7}   {steps:<22}  {}", style.good("✓"), style.dim(&digest)))
        }
        Outcome::Cancelled if end.attempts > 0 => Some(format!("{} {name}  {took:>7}   cancelled", style.notable("–"))),
        Outcome::Reused | Outcome::Failed | Outcome::Skipped | Outcome::Cancelled => None,
    }
}

/// The block of a failed step: where it failed, the end of its log, what follows, and the next command to type.
pub fn failure_block(run: &RunId, end: &StepEnd, skipped: &[LayerName], style: Style) -> String {
    let mut text = String::new();
    let Some(fault) = &end.fault else { return text };
    let head = match (&fault.step, fault.kind) {
        (Some(step), FaultKind::Build | FaultKind::OutOfMemory | FaultKind::Timeout) => {
            format!(
                "{} in {}",
                if fault.kind == FaultKind::OutOfMemory { "out of memory" } else { "failed" },
                clean(step)
            )
        }
        _ => clean(&fault.message),
    };
    let _ = writeln!(text, "{} {}   {head}", style.bad("✗"), style.strong(end.layer.as_str()));
    if fault.step.is_some() && head != clean(&fault.message) {
        let _ = writeln!(text, "   {}", clean(&fault.message));
    }
    if let Some(evidence) = &fault.evidence {
        let _ = writeln!(text, "   {}", clean(evidence));
    }
    for line in &fault.log_tail {
        let _ = writeln!(text, "   {} {}", style.dim("│"), clean(line));
    }
    if !fault.log_tail.is_empty() {
        let shown = fault.log_tail.len();
        let lines = if shown == 1 { "the last line".to_owned() } else { format!("the last {shown} lines") };
        let _ =
            writeln!(text, "   {}", style.dim(&format!("({lines}; the rest: lian-build logs {run} {})", end.layer)));
    }
    let mut follows = String::new();
    match skipped {
        [] => {}
        [one] => {
            let _ = write!(follows, "{one} was skipped: it stands on {}. ", end.layer);
        }
        many => {
            let names: Vec<&str> = many.iter().map(LayerName::as_str).collect();
            let _ = write!(follows, "{} were skipped: they stand on {}. ", names.join(", "), end.layer);
        }
    }
    let _ = writeln!(text, "   {follows}No tag of {} moved.", end.layer);
    if let Some(help) = &fault.help {
        let _ = writeln!(text, "   help: {help}");
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::model::Fault;

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
            fault: None,
            because: None,
        }
    }

    pub fn failed() -> StepEnd {
        let mut fault = Fault::new(FaultKind::Build, "lian::buildkit::step", "exit code: 101")
            .help("mend the Dockerfile's step, then `lian-build apply` again");
        fault.step = Some("[4/6] RUN cargo chef cook --release".into());
        fault.log_tail = vec!["error[E0308]: mismatched types".into(), "error: could not compile".into()];
        StepEnd { fault: Some(fault), ..end("rust-deps", Outcome::Failed) }
    }

    #[test]
    fn ends_read_well() {
        let run = RunId::from("7f3a9c21");
        let lines = [
            step_line(&end("rust", Outcome::Built), 9, Style::PLAIN).expect("a line"),
            failure_block(&run, &failed(), &["app".into()], Style::PLAIN),
            failure_block(&run, &failed(), &["app".into(), "site".into()], Style::PLAIN),
        ];
        insta::assert_snapshot!(lines.join("\n"));
        assert_eq!(step_line(&end("rust", Outcome::Reused), 9, Style::PLAIN), None);
    }

    #[test]
    fn what_a_build_wrote_cannot_move_the_cursor() {
        let mut end = failed();
        end.fault.as_mut().expect("a fault").log_tail = vec!["\u{1b}]0;title\u{7}\u{1b}[2Jgone".into()];
        let block = failure_block(&RunId::from("7f3"), &end, &[], Style::PLAIN);
        assert!(!block.contains('\u{1b}'), "{block:?}");
    }
}

//! Renders the list of runs. Not responsible for: the content of a run.

use serde_json::{Value, json};

use super::style::Style;
use super::text::{cut, shown};
use crate::domain::base::{Timestamp, human_duration};
use crate::domain::model::{RunRecord, RunState};

/// Output of `runs --format json`.
pub fn runs_json(runs: &[RunRecord]) -> Value {
    json!({ "schema": 1, "runs": runs })
}

/// The runs as a table, newest first.
pub fn runs_table(runs: &[RunRecord], style: Style) -> String {
    if runs.is_empty() {
        return "no runs yet: lian-build apply\n".to_owned();
    }
    let mut text = style.dim("run       began                 took     outcome      built  reused  failed  command");
    text.push('\n');
    for run in runs {
        let word = match run.state {
            RunState::Running => "running",
            RunState::Success => "success",
            RunState::Failure => "failure",
            RunState::Cancelled => "cancelled",
            RunState::Interrupted => "interrupted",
        };
        let outcome = format!("{word:<11}");
        let outcome = match run.state {
            RunState::Success => style.good(&outcome),
            RunState::Failure => style.bad(&outcome),
            _ => style.notable(&outcome),
        };
        let took = run.ended.map_or(String::new(), |ended| human_duration(ended.since(run.started)));
        let line = format!(
            "{:<8}  {}  {took:>7}  {outcome}  {:>5}  {:>6}  {:>6}  {}",
            run.id,
            utc(run.started),
            run.built,
            run.reused,
            run.failed,
            cut(&shown(&run.command), 60)
        );
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Formats a time like `2026-11-22 22:13:05Z`.
fn utc(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_read_like_a_table() {
        let run = |id: &str, state, ended| RunRecord {
            id: id.into(),
            started: Timestamp(1_795_385_585_000),
            ended,
            state,
            command: "apply --target app".into(),
            built: 3,
            reused: 2,
            failed: 0,
            skipped: 0,
        };
        let runs = [
            run("7f3a9c21", RunState::Running, None),
            run("0a11ce55", RunState::Success, Some(Timestamp(1_795_385_709_000))),
        ];
        insta::assert_snapshot!(runs_table(&runs, Style::PLAIN));
        assert_eq!(runs_table(&[], Style::PLAIN), "no runs yet: lian-build apply\n");
    }
}

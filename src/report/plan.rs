//! Renders a plan as a table and as JSON. Not responsible for: computing the plan.

use std::time::Duration;

use serde_json::{Value, json};

use super::lines::roughly;
use super::run_view::RunView;
use super::style::Style;
use super::text::{self, count, cut, money, pad, pad_left, shown};
use crate::domain::base::{Timestamp, human_duration};
use crate::domain::model::{Action, Forecast, Plan, PlannedStep, WhyKind};

/// Output of `plan --format json`.
pub fn plan_json(plan: &Plan, forecast: Option<&Forecast>) -> Value {
    let layers: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            json!({
                "name": step.layer, "action": step.action, "why": step.why, "key": step.key, "parents": step.parents,
                "wave": step.wave, "size": step.size, "image": step.image, "digest": step.digest,
                "estimate_ms": step.estimate_ms,
            })
        })
        .collect();
    let summary = plan.summary();
    let mut shown = json!({
        "schema": 1,
        "layers": layers,
        "waves": plan.waves(),
        "summary": { "build": summary.build, "reuse": summary.reuse },
    });
    if let Some(forecast) = forecast {
        shown["forecast"] = json!(forecast);
    }
    shown
}

/// The plan as an aligned table with a summary, for `width` parallel layers; one line if there is nothing to build.
pub fn plan_table(plan: &Plan, (width, forecast): (usize, Option<&Forecast>), command: &str, style: Style) -> String {
    let summary = plan.summary();
    if summary.build == 0 {
        let layers = count(plan.steps.len(), "layer");
        return format!("nothing to build: {layers} up to date\n");
    }
    let header = ["wave", "layer", "action", "why", "runner", "about"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(plan.steps.iter().map(row));
    let mut widths = [0; 6];
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(text::width(cell));
        }
    }
    // Shorten the reason if the terminal is narrow.
    let others: usize = widths.iter().sum::<usize>() - widths[3] + 10;
    widths[3] = widths[3].min(style.width.saturating_sub(others).max(20));
    let mut table = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = [
            pad_left(&row[0], widths[0]),
            pad(&row[1], widths[1]),
            pad(&row[2], widths[2]),
            pad(&cut(&row[3], widths[3]), widths[3]),
            pad(&row[4], widths[4]),
            pad_left(&row[5], widths[5]),
        ];
        let line = cells.join("  ");
        let line = line.trim_end();
        table.push_str(&match (index, row[2].as_str()) {
            (0, _) => style.dim(line),
            (_, "build") => line.replacen("build", &style.notable("build"), 1),
            _ => style.dim(line),
        });
        table.push('\n');
    }
    table.push('\n');
    if plan.steps.iter().flat_map(|step| &step.why).any(|why| why.kind == WhyKind::Modes) {
        table.push_str(UMASK);
    }
    table.push_str(&footer(plan, (width, forecast), command));
    table.push('\n');
    table
}

/// The cure for modes that differ from person to person.
const UMASK: &str = "help: where only modes changed, the files were checked out under another umask: set `umask 022` and \
                     check them out again (or `chmod -R u=rwX,go=rX`), and builds share one cache\n";

fn row(step: &PlannedStep) -> [String; 6] {
    let build = step.action == Action::Build;
    let action = if build { "build" } else { "reuse" };
    let why = match step.action {
        Action::Reuse => format!("key {} unchanged", &step.key.0.hex()[..6]),
        Action::Build => step.why.iter().map(|why| shown(&why.detail)).collect::<Vec<_>>().join("; "),
    };
    let tier = match step.size.tier.as_str() {
        "language_default" => "lang",
        "explicit" => "spec",
        other => other,
    };
    let runner = if build { format!("{} ({})", shown(&step.size.runner_type), shown(tier)) } else { String::new() };
    let about = match step.estimate_ms {
        Some(ms) if build => human_duration(Duration::from_millis(ms)),
        _ => String::new(),
    };
    [step.wave.to_string(), shown(step.layer.as_str()), action.to_owned(), why, runner, about]
}

fn footer(plan: &Plan, (width, forecast): (usize, Option<&Forecast>), command: &str) -> String {
    let summary = plan.summary();
    let mut parts = vec![format!("{} to build, {} to reuse", summary.build, summary.reuse)];
    match forecast {
        Some(forecast) => parts.extend(expected(forecast)),
        None => {
            let (time, unknown) = RunView::new(plan.clone(), width).left(Timestamp(0));
            if !time.is_zero() {
                let more = if unknown > 0 { format!(" and {unknown} not built before") } else { String::new() };
                parts.push(format!("about {}{more}, {width} at once", roughly(time)));
            }
        }
    }
    parts.push(command.to_owned());
    parts.join(" · ")
}

/// Forecast of time and cost of leased runners: `about 7m on 2 runners`, `about €0.03 (2 started hours)`.
fn expected(forecast: &Forecast) -> Vec<String> {
    let least = if forecast.unknown > 0 { "at least" } else { "about" };
    let (wall, runners) = (Duration::from_millis(forecast.wall_ms), count(forecast.leases, "runner"));
    let mut parts = vec![format!("{least} {} on {runners}", roughly(wall))];
    if !forecast.currency.is_empty() {
        let hours = count(usize::try_from(forecast.started_hours).unwrap_or(usize::MAX), "started hour");
        parts.push(format!("{least} {} ({hours})", money(&forecast.currency, forecast.micros)));
    }
    if forecast.unknown > 0 {
        parts.push(format!("{} not built before", forecast.unknown));
    }
    parts
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::base::Digest;
    use crate::domain::model::{ImageName, LayerKey, Size, Why};

    fn step(wave: usize, layer: &str, why: &[(WhyKind, &str)], estimate_ms: Option<u64>) -> PlannedStep {
        PlannedStep {
            layer: layer.into(),
            action: if why.is_empty() { Action::Reuse } else { Action::Build },
            why: why.iter().map(|(kind, detail)| Why { kind: *kind, detail: (*detail).into() }).collect(),
            key: LayerKey(Digest::of(layer)),
            parents: if wave > 1 { vec!["debian".into()] } else { Vec::new() },
            wave,
            size: Size {
                runner_type: "cax21".into(),
                cpu: 4,
                memory_gb: 8,
                time_budget_min: 60,
                tier: "language_default".into(),
            },
            image: ImageName::new("lamina", layer).latest(),
            digest: why.is_empty().then(|| Digest::of("image")),
            estimate_ms,
        }
    }

    pub fn example() -> Plan {
        Plan {
            steps: vec![
                step(1, "debian", &[], Some(20_000)),
                step(2, "nushell", &[], None),
                step(2, "rust", &[(WhyKind::Dockerfile, "dockerfile changed")], Some(130_000)),
                step(
                    3,
                    "rust-deps",
                    &[
                        (WhyKind::Base, "base rust rebuilds"),
                        (WhyKind::Context, "context changed: src/main.rs, +2 more"),
                    ],
                    None,
                ),
            ],
        }
    }

    #[test]
    fn a_plan_reads_like_a_table() {
        insta::assert_snapshot!(plan_table(&example(), (2, None), "lian-build apply", Style::PLAIN));
    }

    #[test]
    fn what_runners_come_to_is_told_in_one_line() {
        let forecast = Forecast {
            leases: 2,
            started_hours: 2,
            wall_ms: 440_000,
            currency: "EUR".into(),
            micros: 25_300,
            unknown: 0,
        };
        let last = |forecast: &Forecast| {
            let table = plan_table(&example(), (2, Some(forecast)), "lian-build apply", Style::PLAIN);
            table.lines().last().expect("lines").to_owned()
        };
        assert_eq!(
            last(&forecast),
            "2 to build, 2 to reuse · about 7m on 2 runners · about €0.03 (2 started hours) · lian-build apply"
        );
        let unknown = Forecast { leases: 1, unknown: 2, currency: String::new(), ..forecast };
        assert_eq!(
            last(&unknown),
            "2 to build, 2 to reuse · at least 7m on 1 runner · 2 not built before · lian-build apply"
        );
    }

    #[test]
    fn another_umask_is_told_with_its_cure() {
        let shown = |kind| {
            let plan = Plan { steps: vec![step(1, "app", &[(kind, "modes changed: a")], None)] };
            plan_table(&plan, (2, None), "lian-build apply", Style::PLAIN)
        };
        assert!(shown(WhyKind::Modes).contains("`umask 022`"));
        assert!(!shown(WhyKind::Context).contains("umask"));
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let plan = Plan { steps: vec![step(1, "debian", &[], None)] };
        assert_eq!(
            plan_table(&plan, (2, None), "lian-build apply", Style::PLAIN),
            "nothing to build: 1 layer up to date\n"
        );
    }

    #[test]
    fn programs_get_what_the_contract_says() {
        insta::assert_json_snapshot!(plan_json(&example(), None));
    }

    #[test]
    fn graphs_name_every_layer_and_edge() {
        insta::assert_snapshot!(format!("{}\n{}", super::super::dot(&example()), super::super::mermaid(&example())));
    }
}

//! Formats the lines of a run from its `RunView`. Not responsible for: writing them.

use std::time::Duration;

use super::faults::failure_block;
use super::run_view::{RunView, Running, is_numbered};
use super::style::Style;
use super::text::{count, cut, list, money, pad, pad_left, shown, width};
use crate::adapters::providers::Local;
use crate::domain::base::{LeaseId, RunId, Timestamp, agrees, human_bytes, human_duration};
use crate::domain::model::{Action, Fault, FaultKind, Outcome, RunOutcome, StepEnd};

/// Maximum number of waiting layers listed.
const WAITING: usize = 4;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The terminal window, in columns and rows.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub style: Style,
    pub columns: usize,
    pub rows: usize,
}

/// Columns for layer names: the widest layer to build, at most a third of the line.
pub fn name_width(board: &RunView, columns: usize) -> usize {
    let steps = board.plan.steps.iter().filter(|step| step.action == Action::Build);
    steps.map(|step| width(step.layer.as_str())).max().unwrap_or(0).min(columns / 3)
}

fn name(layer: &str, columns: usize) -> String {
    pad(&cut(&shown(layer), columns), columns)
}

/// A step's name without its RUN keyword and flags: `[4/6] cargo chef cook --release`.
pub fn brief(name: &str) -> String {
    let name = shown(name);
    let (number, rest) = match name.split_once("] ") {
        Some((_, rest)) if name.starts_with("[internal]") => (String::new(), rest),
        // Drop generated stage names (`stage-2`): they tell the user nothing.
        Some((number, rest)) if is_numbered(&name) => match number.split_once(' ') {
            Some((stage, number)) if stage.starts_with("[stage-") => (format!("[{number}] "), rest),
            _ => (format!("{number}] "), rest),
        },
        _ => (String::new(), name.as_str()),
    };
    let Some(command) = rest.strip_prefix("RUN ") else { return format!("{number}{rest}") };
    let flag = |word: &&str| ["--mount=", "--network=", "--security="].iter().any(|flag| word.starts_with(flag));
    let words = command.split_whitespace().skip_while(flag);
    format!("{number}{}", words.collect::<Vec<_>>().join(" "))
}

/// What a step waits for, if it does not work.
pub fn waits_for(running: &Running) -> Option<&'static str> {
    Some(match running.phase.as_str() {
        "contended" => "waits for another run that builds it",
        "leasing" => "waits for a runner",
        "building" if running.current().is_none() => "waits for the BuildKit daemon",
        _ => return None,
    })
}

fn doing(running: &Running) -> String {
    if let Some(waits) = waits_for(running) {
        return waits.to_owned();
    }
    let phase = match running.phase.as_str() {
        "pausing" => "pauses before another try",
        "syncing" => match running.sent {
            Some((sent, Some(all))) => {
                return format!("sends its context, {} of {}", human_bytes(sent), human_bytes(all));
            }
            _ => "sends its context",
        },
        "verifying" => "verifying what it provides",
        "recording" => "moving its tags",
        "building" => return running.current().map(brief).unwrap_or_default(),
        other => return shown(other),
    };
    phase.to_owned()
}

/// Runner and memory, e.g. `cax31 · 3.1 of 16 GB`; the local runner's name is left out.
fn on(running: &Running) -> String {
    let runner = running.runner.as_deref().filter(|runner| *runner != Local::RUNNER_TYPE);
    let memory = running.memory.map(|(used, limit)| share(used, limit));
    runner.map(shown).into_iter().chain(memory).collect::<Vec<_>>().join(" · ")
}

/// Formats `3.1 of 16 GB`, with the unit chosen by the total.
fn share(part: u64, whole: u64) -> String {
    let (unit, bytes) = if whole >= 1_000_000_000 { ("GB", 1e9) } else { ("MB", 1e6) };
    #[allow(clippy::cast_precision_loss, reason = "a tenth of a unit is all that is shown")]
    let of = |count: u64| count as f64 / bytes;
    format!("{:.1} of {:.0} {unit}", of(part), of(whole))
}

/// The live view below the finished lines: running layers, some waiting ones, and a status line.
pub fn picture(board: &RunView, now: Timestamp, frame: usize, window: Window) -> Vec<String> {
    let Window { style, rows, .. } = window;
    // Leave the last column free: a terminal may wrap there.
    let columns = window.columns.saturating_sub(1);
    let names = name_width(board, columns);
    let mut lines = Vec::new();
    let running: Vec<_> = board.running().collect();
    let room = rows.saturating_sub(2).max(1);
    let shown = if running.len() > room { room - 1 } else { running.len() };
    for (step, at_work) in &running[..shown] {
        let elapsed = pad_left(&ticking(now.since(at_work.since)), 7);
        let line = format!(" {}  {elapsed}   {}", name(step.layer.as_str(), names), doing(at_work));
        let spinner = style.good(SPINNER[frame % SPINNER.len()]);
        let runner = if columns >= 60 { on(at_work) } else { String::new() };
        let room = columns.saturating_sub(1 + if runner.is_empty() { 0 } else { width(&runner) + 3 });
        let line = cut(&line, room);
        lines.push(match runner.as_str() {
            "" => format!("{spinner}{line}"),
            runner => format!("{spinner}{}   {}", pad(&line, room), style.dim(runner)),
        });
    }
    if shown < running.len() {
        lines.push(style.dim(&cut(
            &format!("  and {} more {}", running.len() - shown, agrees(running.len() - shown, "runs", "run")),
            columns,
        )));
    }
    let waiting: Vec<_> = board.waiting().collect();
    let room = rows.saturating_sub(lines.len() + 2).min(WAITING);
    let shown = if waiting.len() > room { room.saturating_sub(1) } else { waiting.len() };
    for (step, parents) in &waiting[..shown] {
        let reason =
            if parents.is_empty() { "waits its turn".to_owned() } else { format!("waits for {}", list(parents)) };
        lines.push(style.dim(&cut(&format!("· {}  {reason}", name(step.layer.as_str(), names)), columns)));
    }
    if shown < waiting.len() && room > 0 {
        let more = waiting.len() - shown;
        let verb = agrees(more, "waits", "wait");
        lines.push(style.dim(&cut(&format!("· {more} more {verb}"), columns)));
    }
    lines.push(cut(&status(board, now), columns));
    lines
}

/// Status line, e.g. `3 of 5 · about 3m left`.
pub fn status(board: &RunView, now: Timestamp) -> String {
    let mut parts = vec![format!("{} of {}", board.ends().count(), board.plan.steps.len())];
    let failed = board.failed().count();
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    match board.left(now) {
        (left, _) if left.is_zero() => {}
        (left, 0) => parts.push(format!("about {} left", roughly(left))),
        (left, _) => parts.push(format!("at least {} left", roughly(left))),
    }
    parts.join(" · ")
}

/// Whole seconds: digits that change with each frame are unreadable.
fn ticking(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { human_duration(Duration::from_secs(seconds)) }
}

/// Rounded to the precision of an estimate: `20s`, `3m`, `1h 05m`.
pub fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{}s", seconds + 1),
        10..=56 => format!("{}s", seconds.div_ceil(5) * 5),
        57..=3569 => format!("{}m", (seconds + 30) / 60),
        _ => human_duration(Duration::from_secs((seconds + 30) / 60 * 60)),
    }
}

/// `✓ rust        2m 04s   12 steps, 5 cached        sha256:9c1e…`; `None` for reused and skipped layers.
pub fn end_line(end: &StepEnd, names: usize, style: Style) -> Option<String> {
    let name = name(end.layer.as_str(), names);
    let took = pad_left(&human_duration(Duration::from_millis(end.duration_ms)), 7);
    match end.outcome {
        Outcome::Built => {
            let mut steps = count(end.steps as usize, "step");
            if end.cached > 0 {
                steps.push_str(&format!(", {} cached", end.cached));
            }
            let digest = end.digest.as_ref().map_or(String::new(), |digest| format!("sha256:{}…", &digest.hex()[..12]));
            let rest = format!(" {name}  {took}   {}", pad(&steps, 22));
            // Drop the digest first if the line is too long.
            let fits = 1 + width(&rest) + 2 + width(&digest) < style.width;
            let digest = if fits { format!("  {}", style.dim(&digest)) } else { String::new() };
            Some(format!("{}{}", style.good("✓"), format!("{rest}{digest}").trim_end()))
        }
        Outcome::Failed => {
            let step = end.fault.as_ref().and_then(|fault| fault.step.as_deref());
            let place = step.map_or(String::new(), |step| format!(" in {}", brief(step)));
            let rest = cut(&format!(" {name}  {took}   failed{place}"), style.width.saturating_sub(2));
            Some(format!("{}{rest}", style.bad("✗")))
        }
        Outcome::Cancelled if end.attempts > 0 => Some(format!("{} {name}  {took}   cancelled", style.notable("–"))),
        Outcome::Reused | Outcome::Skipped | Outcome::Cancelled => None,
    }
}

/// Why a step is retried, and on which runner: the fault's message, its evidence and step, then `again on cax31`.
pub fn again(fault: &Fault, from: Option<&str>, on: &str) -> String {
    let on = shown(on);
    let message = match fault.kind {
        FaultKind::OutOfMemory => "out of memory".to_owned(),
        _ => shown(fault.message.trim_end()),
    };
    let evidence = fault.evidence.as_deref().map(shown).filter(|evidence| !message.contains(evidence));
    let step = fault.step.as_deref().map(step_words);
    let mut text = message;
    if let Some(from) = from.filter(|from| *from != Local::RUNNER_TYPE) {
        text.push_str(&format!(" on {}", shown(from)));
    }
    let shown: Vec<String> = evidence.into_iter().chain(step).collect();
    if !shown.is_empty() {
        text.push_str(&format!(": {}", shown.join(", ")));
    }
    format!("{text}; again on {on}")
}

/// ``step 5/7 `cargo chef cook` ``, from `[5/7] RUN cargo chef cook`.
fn step_words(name: &str) -> String {
    let brief = brief(name);
    match brief.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((number, command)) if is_numbered(&brief) => format!("step {number} `{}`", cut(command, 60)),
        _ => brief,
    }
}

/// Advice for a lease that could not be released.
pub fn stuck_help(style: Style) -> String {
    let help = "it may still be billed: fix that, then run `lian-build leases gc`; every later run tries again, too";
    format!("{} {help}", style.strong("help:"))
}

/// Message when a signal stops a run.
pub fn stop_line(hard: bool, style: Style) -> String {
    let text = match hard {
        false => "stopping: nothing new starts, running builds are cancelled · Ctrl-C again kills them",
        true => "killing what still runs · Ctrl-C again leaves at once, and runners stay in the ledger",
    };
    format!("{} {text}", style.notable("!"))
}

/// The last lines of a run: a report for each failure, then the result.
pub fn summary(
    board: &RunView,
    run: &RunId,
    at: Timestamp,
    outcome: RunOutcome,
    [built, reused, failed, skipped]: [usize; 4],
    style: Style,
) -> Vec<String> {
    let mut lines: Vec<String> =
        board.failed().map(|end| format!("\n{}", failure_block(run, end, board, style).trim_end())).collect();
    let took = human_duration(board.began.or(board.started).map_or(Duration::ZERO, |began| at.since(began)));
    let layers = count(built + reused + failed + skipped, "layer");
    let saved = match board.saved() {
        saved if saved.as_secs() == 0 => None,
        saved => Some(format!("about {} saved", roughly(saved))),
    };
    if outcome == RunOutcome::Success && built == 0 {
        let saved = saved.map_or(String::new(), |saved| format!(" · {saved}"));
        lines.push(format!("{layers}: all reused, nothing to build{saved} · {took}"));
        return lines;
    }
    let stopped = outcome == RunOutcome::Cancelled;
    let open = if stopped { "not built" } else { "skipped" };
    let named = [(built, "built"), (reused, "reused"), (failed, "failed"), (skipped, open)];
    let counts: Vec<String> =
        named.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    let mut parts = vec![format!("{layers}: {}", counts.join(", "))];
    let (steps, cached) = board
        .ends()
        .filter(|end| end.outcome == Outcome::Built)
        .fold((0, 0), |(steps, cached), end| (steps + end.steps, cached + end.cached));
    if cached > 0 {
        parts.push(format!("{cached} of {} cached", count(steps as usize, "step")));
    }
    parts.extend(saved);
    if let Some((currency, micros, leases, hours)) = &board.cost {
        let hours = count(usize::try_from(*hours).unwrap_or(usize::MAX), "started hour");
        parts.push(format!("{} for {}, {hours}", money(currency, *micros), count(*leases, "runner")));
    }
    parts.extend([took, format!("run {run}")]);
    if cached > 0 && width(&parts.join(" · ")) > style.width {
        parts.remove(1);
    }
    let line = parts.join(" · ");
    lines.push(match stopped {
        true if built > 0 => {
            format!("\nstopped · {line}\nwhat was built is kept: the same command goes on from here")
        }
        true => format!("\nstopped · {line}"),
        false => format!("\n{line}"),
    });
    if !board.stuck.is_empty() {
        let leases: Vec<&str> = board.stuck.iter().map(LeaseId::as_str).collect();
        let runners = count(leases.len(), "runner");
        lines.push(format!("{} {runners} could not be given back: {}", style.bad("✗"), list(&leases)));
        lines.push(format!("  {}", stuck_help(style)));
    }
    lines
}

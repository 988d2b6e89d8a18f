//! Progress without a terminal: one line per step that begins, waits for long, or ends. Not responsible for: moving the
//! cursor.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lines::waits_for;
use super::progress::{Progress, TERMINAL};
use super::run_view::RunView;
use super::screen::{wait_for_room, whisper};
use super::text::shown;
use crate::domain::base::{LayerName, Timestamp};
use crate::domain::model::{Event, EventBody};
use crate::domain::ports::Sink;
use crate::system::now;

/// How long a step may wait without a word.
const LONG: Duration = Duration::from_secs(5);
/// How often waiting steps are looked at.
const TICK: Duration = Duration::from_millis(500);

/// A sink that writes progress lines to standard error and hands the result on.
pub struct Plain {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    progress: Progress,
    waits: Waits,
    over: bool,
    out: fn(&str),
}

/// What was said of steps that wait.
#[derive(Default)]
struct Waits {
    told: BTreeMap<LayerName, &'static str>,
}

impl Waits {
    /// A line for each step that has waited for long, once for each thing it waits for.
    fn lines(&mut self, board: &RunView, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for (step, running) in board.running() {
            let Some(what) = waits_for(running) else { continue };
            if now.since(running.phase_since) >= LONG && self.told.get(&step.layer) != Some(&what) {
                self.told.insert(step.layer.clone(), what);
                lines.push(format!("· {}  {what}", shown(step.layer.as_str())));
            }
        }
        lines
    }
}

fn held(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plain {
    /// A sink for a new run. `out` writes the result.
    pub fn new(progress: Progress, out: fn(&str)) -> Self {
        let quiet = progress.look.quiet;
        let shared = Shared { progress, waits: Waits::default(), over: false, out };
        let shared = Arc::new((Mutex::new(shared), Condvar::new()));
        let watched = Arc::clone(&shared);
        let watch = move || watch(&watched);
        // Without the thread, nothing is said of waiting.
        let thread = if quiet { None } else { std::thread::Builder::new().name("waits".to_owned()).spawn(watch).ok() };
        Self { shared, thread }
    }
}

/// Tells of steps that wait, until the run is over.
fn watch((shared, changed): &(Mutex<Shared>, Condvar)) {
    let mut shared = held(shared);
    while !shared.over {
        let Shared { progress, waits, .. } = &mut *shared;
        waits.lines(&progress.board, now()).iter().for_each(|line| whisper(&format!("{line}\n")));
        shared = changed.wait_timeout(shared, TICK).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Sink for Plain {
    fn name(&self) -> &'static str {
        TERMINAL
    }

    fn event(&mut self, event: &Event) {
        let (said, out) = {
            let mut shared = held(&self.shared.0);
            let said = shared.progress.take(event);
            if let (EventBody::StepStarted { layer, .. }, false) = (&event.body, shared.progress.look.quiet) {
                whisper(&format!("· {}\n", shown(layer.as_str())));
            }
            said.aside.iter().for_each(|line| whisper(&format!("{line}\n")));
            (said, shared.out)
        };
        wait_for_room();
        said.result.iter().for_each(|line| out(&format!("{line}\n")));
    }

    fn close(&mut self, _: Duration) {
        held(&self.shared.0).over = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::example;
    use super::*;
    use crate::domain::base::RunId;

    #[test]
    fn who_waits_for_long_is_told_once_for_each_thing() {
        let mut board = RunView::new(example(), 1);
        let phase = |board: &mut RunView, at: u64, phase: &str| {
            let body = EventBody::StepPhase { layer: "rust-deps".into(), phase: phase.into() };
            board.take(&Event { at: Timestamp(at), run: RunId::from("r"), body });
        };
        let mut waits = Waits::default();
        phase(&mut board, 1_000, "leasing");
        assert_eq!(waits.lines(&board, Timestamp(5_900)), [""; 0]);
        assert_eq!(waits.lines(&board, Timestamp(6_000)), ["· rust-deps  waits for a runner"]);
        assert_eq!(waits.lines(&board, Timestamp(60_000)), [""; 0], "it is said once");
        phase(&mut board, 61_000, "building");
        assert_eq!(waits.lines(&board, Timestamp(66_000)), ["· rust-deps  waits for the BuildKit daemon"]);
        phase(&mut board, 67_000, "recording");
        assert_eq!(waits.lines(&board, Timestamp(90_000)), [""; 0], "that is work");
    }
}

//! Live view on a terminal. A thread redraws it; events only update the `RunView`. Not responsible for: its content
//! (`lines`); streams that are not terminals (`plain`).
//!
//! Written without a crate: the available ones pad each line to the full width, so an echoed `^C` wraps and a
//! narrowed window garbles the view.

use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lines::{Window, picture};
use super::progress::{Progress, TERMINAL};
use super::screen::{above, draw, is_behind, row, wait_for_room, whisper};
use super::style::window;
use super::text::width;
use crate::domain::model::Event;
use crate::domain::ports::Sink;
use crate::system::now;

/// Interval between frames.
const TICK: Duration = Duration::from_millis(120);

/// Lines of the live view on the terminal now; other output must go above them.
static SHOWN: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line to standard error, above the live view if there is one.
pub fn aside(text: &str) {
    match &mut *held(&SHOWN) {
        Some(shown) => {
            let same = shown.clone();
            repaint(shown, &[text.to_owned()], same);
        }
        None => whisper(&format!("{text}\n")),
    }
}

/// Replaces the live view and adds permanent lines above it, in one write to avoid flicker.
fn repaint(shown: &mut Vec<String>, new: &[String], lines: Vec<String>) {
    let new: Vec<String> = new.iter().map(|line| above(line)).collect();
    let lines: Vec<String> = lines.iter().map(|line| row(line)).collect();
    draw(&frame(shown, &new, &lines, window().0));
    *shown = lines;
}

/// Bytes that replace `shown` by `lines`. The cursor ends after the last line.
fn frame(shown: &[String], new: &[String], lines: &[String], columns: usize) -> String {
    // A narrowed window has wrapped the lines drawn before.
    let rows: usize = shown.iter().map(|line| width(line).div_ceil(columns.max(1)).max(1)).sum();
    let mut text = String::from("\r");
    if rows > 1 {
        let _ = write!(text, "\u{1b}[{}A", rows - 1);
    }
    text.push_str("\u{1b}[J");
    for line in new {
        let _ = writeln!(text, "{line}");
    }
    text.push_str(&lines.join("\n"));
    text
}

struct Screen {
    progress: Progress,
    turns: usize,
    over: bool,
}

impl Screen {
    fn picture(&self) -> Vec<String> {
        let (columns, rows) = window();
        let window = Window { style: self.progress.look.style, columns, rows };
        picture(&self.progress.board, now(), self.turns, window)
    }
}

/// A sink that draws on the terminal of standard error; the result goes to standard output.
pub struct Live {
    screen: Arc<(Mutex<Screen>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    /// Writes the result.
    out: fn(&str),
}

impl Live {
    /// Starts the drawing thread. `out` writes the result.
    pub fn start(progress: Progress, out: fn(&str)) -> Self {
        *held(&SHOWN) = Some(Vec::new());
        let screen = Arc::new((Mutex::new(Screen { progress, turns: 0, over: false }), Condvar::new()));
        let shared = Arc::clone(&screen);
        // If the thread cannot start, the view is redrawn only with new permanent lines.
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || turn(&shared)).ok();
        Self { screen, thread, out }
    }

    /// Clears the live view and stops the thread.
    fn stop(&mut self) {
        held(&self.screen.0).over = true;
        self.screen.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(mut shown) = held(&SHOWN).take() {
            repaint(&mut shown, &[], Vec::new());
        }
    }
}

/// Redraws until stopped. Lock order, here and in `event`: the screen, then `SHOWN`.
fn turn((screen, changed): &(Mutex<Screen>, Condvar)) {
    let mut screen = held(screen);
    while !screen.over {
        screen.turns += 1;
        // A terminal that is held up gets no pictures of the past later.
        if let (false, Some(shown)) = (is_behind(), &mut *held(&SHOWN)) {
            repaint(shown, &[], screen.picture());
        }
        screen = changed.wait_timeout(screen, TICK).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Sink for Live {
    fn name(&self) -> &'static str {
        TERMINAL
    }

    fn event(&mut self, event: &Event) {
        let result = {
            let mut screen = held(&self.screen.0);
            let said = screen.progress.take(event);
            if let (false, Some(shown)) = (said.aside.is_empty(), &mut *held(&SHOWN)) {
                repaint(shown, &said.aside, screen.picture());
            }
            said.result
        };
        // Without a lock: others write here, too.
        wait_for_room();
        if !result.is_empty() {
            self.stop();
            result.iter().for_each(|line| (self.out)(&format!("{line}\n")));
        }
    }

    fn close(&mut self, _: Duration) {
        self.stop();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_picture_replaces_the_one_before() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(frame(&[], &[], &lines(&["one", "two"]), 80), "\r\u{1b}[Jone\ntwo");
        let shown = lines(&["one", "two"]);
        assert_eq!(frame(&shown, &lines(&["done"]), &lines(&["two"]), 80), "\r\u{1b}[1A\u{1b}[Jdone\ntwo");
        assert_eq!(frame(&shown, &[], &[], 80), "\r\u{1b}[1A\u{1b}[J");
        // In a window of two columns, each line takes two rows.
        assert_eq!(frame(&shown, &[], &[], 2), "\r\u{1b}[3A\u{1b}[J");
    }
}

//! The end of a step's log, and the lines above it that look like the cause of its failure, of a log of any size. Not
//! responsible for: judging a failure (see `classify`).

use std::collections::VecDeque;

use super::signs::{Sign, Signs};

/// How many lines of a step's log a fault shows.
pub(super) const TAIL_LINES: usize = 12;
/// Of a longer line, this many bytes of its beginning and of its end are kept. Minified text and binary output must not
/// flood a terminal or the journal, and cargo says that a compiler was killed after the compiler's whole command.
pub(super) const HEAD_BYTES: usize = 1200;
pub(super) const END_BYTES: usize = 700;
/// The end of cargo's line when the compiler was killed.
const KILLED: &str = "(signal: 9, SIGKILL: kill)";
/// For this many lines afterwards, a failed step still counts as killed: cargo lets its other jobs finish, and they
/// keep writing.
const KILLED_LINES: usize = 1000;

/// BuildKit's number for standard error.
pub(super) const STDERR: i64 = 2;
/// How many lines of each kind are kept because they look like a cause.
const CAUSE_LINES: usize = 4;
/// How BuildKit says that it writes down no more of a step.
const CLIPPED: &str = "[output clipped, log ";

/// The last lines of a log of any size.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    /// The line that has not ended, of standard output and of standard error: a step writes to both at once, and pieces of
    /// one come between those of the other.
    partial: [Line; 2],
    /// How many lines ago one said that a compiler was killed.
    since_kill: Option<usize>,
    /// How many lines there were.
    count: usize,
    /// What the lines so far make of the next one, of standard output and of standard error.
    signs: [Signs; 2],
    /// The first lines that look like a cause, with their numbers.
    first: Vec<(usize, String)>,
    /// The last ones.
    last: VecDeque<(usize, String)>,
    /// The last lines of standard error.
    errors: VecDeque<(usize, String)>,
    /// BuildKit's word that it wrote down no more.
    clipped: Option<String>,
}

/// A line that has not ended: its beginning, its last bytes, and whether bytes between them were dropped.
#[derive(Default)]
struct Line {
    head: Vec<u8>,
    end: VecDeque<u8>,
    cut: bool,
    /// The next byte begins the line anew.
    redrawn: bool,
}

impl Line {
    fn push(&mut self, byte: u8) {
        if self.redrawn {
            *self = Self::default();
        }
        if self.head.len() < HEAD_BYTES {
            return self.head.push(byte);
        }
        if self.end.len() == END_BYTES {
            self.end.pop_front();
            self.cut = true;
        }
        self.end.push_back(byte);
    }

    fn text(&self) -> String {
        let end: Vec<u8> = self.end.iter().copied().collect();
        if !self.cut {
            return String::from_utf8_lossy(&[&self.head[..], &end].concat()).trim_end().to_owned();
        }
        format!("{} … {}", String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&end)).trim_end().to_owned()
    }
}

impl Tail {
    /// Takes the next bytes of a log, of standard error or of standard output.
    pub(super) fn push(&mut self, bytes: &[u8], stderr: bool) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(stderr),
                // A carriage return redraws the line: only its last state matters.
                b'\r' => self.partial[usize::from(stderr)].redrawn = true,
                _ => self.partial[usize::from(stderr)].push(byte),
            }
        }
    }

    fn end_line(&mut self, stderr: bool) {
        let line = std::mem::take(&mut self.partial[usize::from(stderr)]).text();
        if line.is_empty() {
            return;
        }
        if line.starts_with(CLIPPED) {
            self.clipped = Some(line.trim_matches(['[', ']']).to_owned());
        }
        self.keep(&line, stderr);
        self.since_kill = if line.ends_with(KILLED) { Some(0) } else { self.since_kill.map(|lines| lines + 1) };
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Keeps a line that may be the cause.
    fn keep(&mut self, line: &str, stderr: bool) {
        self.count += 1;
        let keep = |kept: &mut VecDeque<(usize, String)>, at: usize| {
            if kept.len() == CAUSE_LINES {
                kept.pop_front();
            }
            kept.push_back((at, line.to_owned()));
        };
        if self.signs[usize::from(stderr)].see(line) == Sign::Cause {
            if self.first.len() < CAUSE_LINES {
                self.first.push((self.count, line.to_owned()));
            } else {
                keep(&mut self.last, self.count);
            }
        } else if stderr {
            keep(&mut self.errors, self.count);
        }
    }

    /// Lines above the last ones that look like the cause, in their order: errors of compilers and tools, and the last of
    /// standard error.
    pub(super) fn causes(&self) -> Vec<String> {
        let shown = self.lines.len();
        let above = self.count.saturating_sub(shown);
        let mut found: Vec<&(usize, String)> = self.first.iter().chain(&self.last).chain(&self.errors).collect();
        found.retain(|(at, _)| *at <= above);
        found.sort();
        found.into_iter().map(|(_, line)| line.clone()).collect()
    }

    /// BuildKit's word that it wrote down no more, without its brackets.
    pub(super) fn clipped(&self) -> Option<String> {
        self.clipped.clone()
    }

    /// Its last lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let open = self.partial.iter().map(Line::text).filter(|line| !line.is_empty());
        let all: Vec<String> = self.lines.iter().cloned().chain(open).collect();
        all[all.len().saturating_sub(TAIL_LINES)..].to_vec()
    }

    /// Whether one of its last lines says that a compiler was killed.
    pub(super) fn tells_kill(&self) -> bool {
        self.partial.iter().any(|line| line.text().ends_with(KILLED))
            || self.since_kill.is_some_and(|lines| lines <= KILLED_LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: impl IntoIterator<Item = (String, bool)>) -> Tail {
        let mut tail = Tail::default();
        lines.into_iter().for_each(|(line, stderr)| tail.push(format!("{line}\n").as_bytes(), stderr));
        tail
    }

    #[test]
    fn the_cause_is_kept_however_much_is_written_after_it() {
        let said = [
            ("compiling", false),
            ("error[E0308]: mismatched types", true),
            ("  --> src/main.rs:4:5", true),
            ("ValueError: no value", false),
            ("the last word of standard error", true),
        ];
        let noise = (0..500).map(|n| (format!("progress {n}"), false));
        let tail = after(said.map(|(line, stderr)| (line.to_owned(), stderr)).into_iter().chain(noise));
        let causes = [
            "error[E0308]: mismatched types",
            "  --> src/main.rs:4:5",
            "ValueError: no value",
            "the last word of standard error",
        ];
        assert_eq!(tail.causes(), causes);
        assert_eq!(tail.lines().last().map(String::as_str), Some("progress 499"));
        assert_eq!(after([("error: told below".to_owned(), true)]).causes(), [""; 0], "it is among the last lines");
    }

    #[test]
    fn pieces_of_the_two_streams_make_no_line_together() {
        let mut tail = Tail::default();
        tail.push(b"progress that is cut in ", false);
        tail.push(b"main.c:3:1: error: expected a semi", true);
        tail.push(b"its middle\n", false);
        tail.push(b"colon\nan open end", true);
        assert_eq!(
            tail.lines(),
            ["progress that is cut in its middle", "main.c:3:1: error: expected a semicolon", "an open end"]
        );
    }

    #[test]
    fn a_flood_of_errors_is_kept_by_its_ends() {
        let tail = after((0..900).map(|n| (format!("error: number {n}"), true)));
        let causes = tail.causes();
        assert!(causes.len() <= 2 * CAUSE_LINES, "{causes:?}");
        assert_eq!(causes[0], "error: number 0");
    }

    #[test]
    fn of_a_line_that_is_drawn_again_and_again_the_last_state_counts() {
        let mut tail = Tail::default();
        tail.push(b"10%\r20%\r99%\rerror: no space\r\nleft\r", true);
        assert_eq!(tail.lines(), ["error: no space", "left"]);
    }

    #[test]
    fn what_buildkit_clipped_is_known() {
        let tail = after([("[output clipped, log limit 2MiB reached]".to_owned(), false)]);
        assert_eq!(tail.clipped().as_deref(), Some("output clipped, log limit 2MiB reached"));
        assert_eq!(after([("no".to_owned(), false)]).clipped(), None);
    }

    /// `tests/fixtures/failing/`: what real tools wrote when they failed, by stream (`O|`, `E|`), after what must be shown
    /// of it (`> `).
    #[test]
    fn what_failing_tools_say_is_shown_however_much_follows() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/failing");
        let mut tried = 0;
        for entry in std::fs::read_dir(folder).expect("fixtures").flatten() {
            let text = std::fs::read_to_string(entry.path()).expect("a log");
            let wanted: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("> ")).collect();
            assert!(!wanted.is_empty(), "{entry:?}");
            // `2>&1` is as usual in Dockerfiles as none.
            for joined in [false, true] {
                let lines =
                    text.lines().filter_map(|line| line.split_once('|').filter(|(stream, _)| stream.len() == 1));
                let said = lines.map(|(stream, line)| (line.to_owned(), stream == "E" && !joined));
                let causes = after(said.chain((0..400).map(|n| (format!("progress {n}"), false)))).causes();
                for part in &wanted {
                    let found = causes.iter().any(|line| line.contains(part));
                    assert!(found, "{:?}, joined: {joined}: {part} is not in {causes:#?}", entry.file_name());
                }
                tried += 1;
            }
        }
        assert!(tried >= 60, "{tried}");
    }
}

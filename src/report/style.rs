//! Colour and width. Not responsible for: looking at the terminal more than once.

use std::io::{IsTerminal as _, Write as _};

use owo_colors::{OwoColorize as _, Style as Paint};

/// How text is written to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// Columns.
    pub width: usize,
    /// A person looks at it as it comes.
    pub live: bool,
}

impl Style {
    /// Without colour, 100 columns wide: for files, pipes and tests.
    pub const PLAIN: Self = Self { colour: false, width: 100, live: false };

    /// For standard output.
    pub fn stdout() -> Self {
        Self::of(std::io::stdout().is_terminal(), console_width(rustix::stdio::stdout()))
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Self::of(std::io::stderr().is_terminal(), console_width(rustix::stdio::stderr()))
    }

    fn of(terminal: bool, width: Option<usize>) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = dumb || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = width.unwrap_or(Self::PLAIN.width).clamp(40, 160);
        Self { colour: terminal && !plain, width, live: terminal && !dumb }
    }

    fn paint(self, text: &str, paint: Paint) -> String {
        if self.colour { text.style(paint).to_string() } else { text.to_owned() }
    }

    /// Good news.
    pub fn good(self, text: &str) -> String {
        self.paint(text, Paint::new().green())
    }

    /// Bad news.
    pub fn bad(self, text: &str) -> String {
        self.paint(text, Paint::new().red().bold())
    }

    /// Something is going to happen.
    pub fn notable(self, text: &str) -> String {
        self.paint(text, Paint::new().yellow())
    }

    /// Beside the point.
    pub fn dim(self, text: &str) -> String {
        self.paint(text, Paint::new().dimmed())
    }

    /// The subject.
    pub fn strong(self, text: &str) -> String {
        self.paint(text, Paint::new().bold())
    }
}

/// Columns and rows of the terminal of standard error, as they are now.
pub fn window() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

fn console_width(stream: rustix::fd::BorrowedFd<'_>) -> Option<usize> {
    rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A line for standard output. A reader that went away is no reason to stop a build, so nothing panics as `println!` does.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line for standard error; see [`say`].
pub fn whisper(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

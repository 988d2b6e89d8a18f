//! Colours and terminal width. Not responsible for: following later changes of the terminal, except `window`.

use std::io::IsTerminal as _;

use owo_colors::{OwoColorize as _, Style as Paint};

/// How to format text for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colours.
    pub colour: bool,
    /// Width in columns.
    pub width: usize,
    /// Whether the stream is a terminal that can redraw lines.
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

    /// Success.
    pub fn good(self, text: &str) -> String {
        self.paint(text, Paint::new().green())
    }

    /// Failure.
    pub fn bad(self, text: &str) -> String {
        self.paint(text, Paint::new().red().bold())
    }

    /// A change or a warning.
    pub fn notable(self, text: &str) -> String {
        self.paint(text, Paint::new().yellow())
    }

    /// Secondary detail.
    pub fn dim(self, text: &str) -> String {
        self.paint(text, Paint::new().dimmed())
    }

    /// The main subject.
    pub fn strong(self, text: &str) -> String {
        self.paint(text, Paint::new().bold())
    }
}

/// Current columns and rows of the terminal of standard error; 80 and 24 if unknown.
pub fn window() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

fn console_width(stream: rustix::fd::BorrowedFd<'_>) -> Option<usize> {
    rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

//! Colour and width. Refuses: looking at the terminal more than once.

use std::io::IsTerminal as _;

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
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: terminal && !plain, width: width.unwrap_or(Self::PLAIN.width).clamp(40, 160), live: terminal }
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

fn console_width(stream: rustix::fd::BorrowedFd<'_>) -> Option<usize> {
    rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The text cut to so many columns, with an ellipsis where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `1 layer`, `2 layers`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

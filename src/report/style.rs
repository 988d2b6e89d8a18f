//! Colour and width. Refuses: looking at the terminal more than once.

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

/// A line for standard output. A reader that went away is no reason to stop a build, so nothing panics as `println!` does.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line for standard error; see [`say`].
pub fn whisper(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One line that a build wrote, fit for a terminal: no escape sequences (they could rewrite the screen or its title), no
/// control characters, tabs as blanks; of a line that was rewritten with `\r`, the last version.
pub fn clean(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => text.push_str("    "),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            let _ = chars.find(|c| ('@'..='~').contains(c));
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\ttab\u{1b}]0;title\u{7}!\r\n"), "red    tab!");
        assert_eq!(clean("10%\r50%\r100%"), "100%");
        assert_eq!(clean("\u{1b}[2J\u{1b}["), "");
    }
}

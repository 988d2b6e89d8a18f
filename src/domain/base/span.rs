//! Positions in text files. Not responsible for: reading the files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A range of bytes in a text, end exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The line and column of the span's start in `text`, both counted from 1. The column counts characters.
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        let mut start = self.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// A span in a named file. The path is relative if the user's argument was, so that it can be printed and clicked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceLocation {
    /// The file.
    pub file: PathBuf,
    /// The range in that file.
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "ab\ncä = 1\n";
        assert_eq!(Span::new(0, 1).line_column(text), (1, 1));
        assert_eq!(Span::new(3, 4).line_column(text), (2, 1));
        assert_eq!(Span::new(6, 7).line_column(text), (2, 3));
        assert_eq!(Span::new(99, 99).line_column(text), (3, 1));
    }
}

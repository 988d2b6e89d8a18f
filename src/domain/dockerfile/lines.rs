//! Joins the lines of a Dockerfile into instructions: comments, continuations, here-documents, the longest line. Keeps
//! where each byte stands in the file. Not responsible for: what an instruction says.

use super::directives::Directives;
use super::go;
use super::heredoc::Heredoc;
use crate::domain::base::Span;
use crate::domain::model::DockerfileFault;

/// BuildKit reads no longer lines, in bytes with their end.
const LONGEST: usize = 64 * 1024;

/// One instruction, its continuations joined.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub text: Vec<u8>,
    /// Where pieces of the text begin: in the text, and in the file.
    pieces: Vec<(usize, usize)>,
    /// The comments above it, without `#`.
    pub comments: Vec<String>,
    /// Whether there is an empty line in it.
    pub gap: bool,
}

impl Line {
    fn push(&mut self, bytes: &[u8], at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.extend_from_slice(bytes);
    }

    /// The byte of the file for one of the text.
    pub(super) fn place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(0, |(start, place)| place + at - start)
    }

    /// The bytes of the file for a range of the text, grown to whole characters: BuildKit cuts flags between bytes.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        let inside = |at: usize| self.text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let start = (0..=start).rev().find(|at| !inside(*at)).unwrap_or(0);
        let end = (end..=self.text.len()).find(|at| !inside(*at)).unwrap_or(end);
        let first = self.place(start);
        Span::new(first, if end > start { self.place(end - 1) + 1 } else { first })
    }

    /// The bytes of the file that the text without the blanks around it came from.
    pub(super) fn whole(&self) -> Span {
        let range = go::trimmed(&self.text);
        self.span(range.start, range.end)
    }
}

/// Reads a file line by line.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    directives: Directives,
    /// The character that continues lines and escapes: `\`, or the one that `# escape=` names.
    pub escape: char,
    /// The comments since the last instruction.
    comments: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, directives: Directives::new("#"), escape: '\\', comments: Vec::new() }
    }

    /// The next line with its end, and where it begins.
    fn physical(&mut self) -> Result<Option<(usize, &'a str)>, DockerfileFault> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        // The last line needs room for an end that is not there.
        if length > LONGEST || (length == LONGEST && !rest[..length].ends_with('\n')) {
            let first = rest.split([' ', '\t']).next().unwrap_or_default();
            let shown = first.char_indices().nth(40).map_or(first.len(), |(at, _)| at).max(1);
            let message = format!("a line of {length} bytes: BuildKit reads no line of more than {}", LONGEST - 1);
            return Err(DockerfileFault::parse(Span::new(self.at, self.at + shown), message).help(
                "break it with a continuation at the end of each line, or move what it carries into a file of the context",
            ));
        }
        let found = (self.at, &rest[..length]);
        self.at += length;
        Ok(Some(found))
    }

    /// The next instruction; comments and blank lines are skipped. After a fault nothing more can be read.
    pub(super) fn instruction(&mut self) -> Result<Option<Line>, DockerfileFault> {
        while let Some((start, whole)) = self.physical()? {
            let marked = if start == 0 && whole.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
            let body = whole[marked..].trim_end_matches(['\r', '\n']);
            let blanks = go::leading_blanks(body.as_bytes());
            let (body, at) = (&body[blanks..], start + marked + blanks);
            if !self.directive(body, at)? && body.starts_with('#') {
                self.comment(&whole[marked..]);
            }
            if body.starts_with('#') {
                continue;
            }
            let (kept, continued) = self.continuation(body);
            if kept.is_empty() && !continued {
                continue;
            }
            let mut line = Line { comments: std::mem::take(&mut self.comments), ..Line::default() };
            line.push(kept.as_bytes(), at);
            if continued {
                self.continued(&mut line)?;
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    fn continued(&mut self, line: &mut Line) -> Result<(), DockerfileFault> {
        let mut more = true;
        while more {
            let Some((at, whole)) = self.physical()? else { return Ok(()) };
            let body = whole.trim_end_matches(['\r', '\n']);
            let bare = &body[go::leading_blanks(body.as_bytes())..];
            if bare.is_empty() || bare.starts_with('#') {
                line.gap |= bare.is_empty();
                continue;
            }
            let (kept, continued) = self.continuation(body);
            line.push(kept.as_bytes(), at);
            more = continued;
        }
        Ok(())
    }

    /// The line without its continuation character, and whether it had one. A doubled escape is none.
    fn continuation(&self, line: &'a str) -> (&'a str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(body) if !body.ends_with(self.escape) => (body, true),
            _ => (line, false),
        }
    }

    /// Keeps a comment. BuildKit takes the line's first byte for the `#`, though blanks may stand before it.
    fn comment(&mut self, line: &str) {
        let rest = &line.as_bytes()[1..];
        let text = go::text(&rest[go::trimmed(rest)]);
        match text.is_empty() {
            true => self.comments.clear(),
            false => self.comments.push(text),
        }
    }

    /// Reads a directive; whether it is one.
    fn directive(&mut self, body: &str, at: usize) -> Result<bool, DockerfileFault> {
        let whole = Span::new(at, at + body.len());
        let found = self.directives.line(body.as_bytes()).map_err(|name| {
            DockerfileFault::parse(whole, format!("`# {name}=` is there twice")).help("keep one of them")
        })?;
        let Some(found) = found else { return Ok(false) };
        match (found.name, found.value.as_str()) {
            ("escape", "\\") => self.escape = '\\',
            ("escape", "`") => self.escape = '`',
            ("escape", _) => {
                let span = Span::new(at + found.at, at + found.at + found.value.len());
                return Err(DockerfileFault::parse(span, format!("`{}` cannot be the escape character", found.value))
                    .help("write `# escape=\\` or `` # escape=` ``"));
            }
            _ => {}
        }
        Ok(true)
    }

    /// Reads past the body of a here-document and returns it with its place. `None`: it does not end.
    pub(super) fn document(&mut self, heredoc: &Heredoc) -> Result<Option<(usize, &'a str)>, DockerfileFault> {
        let start = self.at;
        while let Some((at, whole)) = self.physical()? {
            let line = whole.trim_end_matches(['\r', '\n']);
            let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
            if line == heredoc.name {
                return Ok(Some((start, &self.text[start..at])));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mut reader = Reader::new(text);
        let mut found = Vec::new();
        loop {
            match reader.instruction() {
                Ok(Some(line)) => found.push(go::text(&line.text)),
                Ok(None) => return found,
                Err(fault) => {
                    found.push(format!("! {}", fault.message));
                    return found;
                }
            }
        }
    }

    #[test]
    fn joins_lines_as_buildkit_does() {
        assert_eq!(read("\u{feff}  A b \\ \t\r\n  # note\n\n  c\\\\\nD\\\n"), ["A b   c\\\\", "D"]);
        assert_eq!(read("# escape=`\n\u{a0}A `\nB\\\nC"), ["A B\\", "C"]);
        assert_eq!(read("\\\nA\n"), ["A"]);
        assert_eq!(read("# escape=x\nA"), ["! `x` cannot be the escape character"]);
        assert_eq!(read("# syntax=x\n# syntax=x\nA"), ["! `# syntax=` is there twice"]);
    }

    #[test]
    fn a_line_has_a_length_that_it_may_have() {
        let line = |length: usize| format!("A{}", "b".repeat(length - 1));
        assert_eq!(read(&format!("{}\nC", line(LONGEST - 1))).len(), 2);
        assert_eq!(read(&line(LONGEST - 1)).len(), 1);
        for text in [line(LONGEST), format!("{}\nC", line(LONGEST)), format!("A \\\n{}\n", line(LONGEST))] {
            assert!(read(&text)[0].contains("BuildKit reads no line of more than 65535"), "{}", read(&text)[0].len());
        }
    }

    #[test]
    fn keeps_where_things_stand() {
        let text = "  RUN a \\\n    b\\\n  # x\n c\n";
        let line = Reader::new(text).instruction().expect("sound").expect("a line");
        assert_eq!(go::text(&line.text), "RUN a     b c");
        let span = line.span(10, 13);
        assert_eq!(&text[span.start..span.end], "b\\\n  # x\n c");
        let whole = line.whole();
        assert_eq!(&text[whole.start..whole.end], text.trim());
    }
}

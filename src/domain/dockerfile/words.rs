//! Cuts an instruction into its command, flags and arguments, by the rule of each command. Not responsible for: whether
//! a command may have them.

use super::go;

/// A part of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// What is meant, without quotes and escapes where the rule takes them out.
    pub text: String,
    /// Its bytes in the instruction's line.
    pub start: usize,
    pub end: usize,
}

/// An instruction in its parts.
#[derive(Debug)]
pub(super) struct Node {
    /// As written.
    pub command: Piece,
    pub flags: Vec<Piece>,
    pub args: Vec<Piece>,
    /// Whether the arguments are a JSON array.
    pub json: bool,
    /// The arguments as they are written.
    pub rest: Piece,
    /// What `ONBUILD` triggers.
    pub trigger: Option<Box<Node>>,
}

/// Why an instruction cannot be cut, and the bytes of its line that are to blame.
#[derive(Debug)]
pub(super) struct Bad {
    pub message: String,
    pub help: String,
    pub start: usize,
    pub end: usize,
}

impl Bad {
    pub(super) fn at(piece: &Piece, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), start: piece.start, end: piece.end }
    }
}

impl Node {
    /// The command in lower case.
    pub(super) fn name(&self) -> String {
        go::lower(&self.command.text)
    }

    /// Whether its line may announce here-documents.
    pub(super) fn may_hold_documents(&self) -> bool {
        let node = self.trigger.as_deref().unwrap_or(self);
        !node.json && matches!(node.name().as_str(), "add" | "copy" | "run")
    }
}

/// Cuts the instruction that is `line[at..]`.
pub(super) fn cut(line: &[u8], at: usize, escape: char) -> Result<Node, Bad> {
    let range = go::trimmed(&line[at..]);
    let (start, end) = (at + range.start, at + range.end);
    let command_end = next(line, start, end, go::separates).unwrap_or(end);
    let command = piece(line, start, command_end);
    let from = skip(line, command_end, end, go::separates);
    let (flags, from) = flags(line, from, end, escape);
    let rest = go::trimmed(&line[from..end]);
    let rest = piece(line, from + rest.start, from + rest.end);
    let mut node = Node { command, flags, args: Vec::new(), json: false, rest, trigger: None };
    node.arguments(line, escape)?;
    Ok(node)
}

impl Node {
    fn arguments(&mut self, line: &[u8], escape: char) -> Result<(), Bad> {
        let (start, end) = (self.rest.start, self.rest.end);
        match self.name().as_str() {
            _ if start == end => {}
            "add" | "copy" | "volume" if self.array(line, start, end)? => {}
            "add" | "copy" | "volume" | "expose" | "from" => self.args = separated(line, start, end),
            "cmd" | "entrypoint" | "run" | "shell" if self.array(line, start, end)? => {}
            "cmd" | "entrypoint" | "run" | "shell" | "maintainer" | "stopsignal" | "user" | "workdir" => {
                self.args = vec![self.rest.clone()];
            }
            "arg" => self.args = words(line, start, end, escape),
            "env" | "label" => self.pairs(line, escape)?,
            "healthcheck" => {
                let blank = |b: u8| go::is_blank_byte(b);
                let kind = next(line, start, end, blank).unwrap_or(end);
                let from = skip(line, kind, end, blank);
                if kind == start {
                    return Ok(());
                }
                if from < end && !self.array(line, from, end)? {
                    self.args = vec![piece(line, from, end)];
                }
                self.args.insert(0, piece(line, start, kind));
            }
            "onbuild" => self.triggered(line, escape)?,
            _ => {}
        }
        Ok(())
    }

    fn triggered(&mut self, line: &[u8], escape: char) -> Result<(), Bad> {
        let inner = &line[self.rest.start..self.rest.end];
        let first = inner.split(|b| go::separates(*b)).next().unwrap_or_default();
        if go::lower(&go::text(first)) == "onbuild" {
            // Refused further up, however deep it goes.
            self.args = vec![piece(line, self.rest.start, self.rest.start + first.len())];
            return Ok(());
        }
        let node = cut(&line[..self.rest.end], self.rest.start, escape)?;
        self.args = std::iter::once(&node.command).chain(&node.args).cloned().collect();
        self.trigger = Some(Box::new(node));
        Ok(())
    }

    /// Takes the arguments from a JSON array of strings, if they are an array. An array of other things is a fault.
    fn array(&mut self, line: &[u8], start: usize, end: usize) -> Result<bool, Bad> {
        let from = start + go::leading_blanks(&line[start..end]);
        if line[from..end].first() != Some(&b'[') {
            return Ok(false);
        }
        match super::json::strings(&go::text(&line[from..end])) {
            None => Ok(false),
            Some(Some(strings)) => {
                let piece = |text| Piece { text, start: from, end };
                self.args = strings.into_iter().map(piece).collect();
                self.json = true;
                Ok(true)
            }
            Some(None) => Err(Bad {
                message: "a JSON array whose elements are not all strings".to_owned(),
                help: "put each element in double quotes, or remove the brackets for the shell form".to_owned(),
                start: from,
                end,
            }),
        }
    }

    /// The arguments of `ENV` and `LABEL`: name, value, and `=` or nothing, for each pair.
    fn pairs(&mut self, line: &[u8], escape: char) -> Result<(), Bad> {
        let (start, end) = (self.rest.start, self.rest.end);
        let words = words(line, start, end, escape);
        let Some(first) = words.first() else { return Ok(()) };
        let empty = |at: usize, text: &str| Piece { text: text.to_owned(), start: at, end: at };
        if !first.text.contains('=') {
            let name = next(line, start, end, go::separates);
            let Some(name) = name else {
                let command = self.command.text.to_uppercase();
                return Err(Bad::at(
                    &self.rest,
                    format!("{command} needs a name and a value"),
                    format!("write `{command} name=value`"),
                ));
            };
            let value = skip(line, name, end, go::separates);
            self.args = vec![piece(line, start, name), piece(line, value, end), empty(end, "")];
            return Ok(());
        }
        for word in words {
            let Some((name, value)) = word.text.split_once('=') else {
                let message = format!("`{}` has no `=`", word.text);
                return Err(Bad::at(&word, message, "write `name=value`, and put a value with blanks in quotes"));
            };
            let part = |text: &str| Piece { text: text.to_owned(), ..word };
            self.args.extend([part(name), part(value), empty(word.end, "=")]);
        }
        Ok(())
    }
}

fn piece(line: &[u8], start: usize, end: usize) -> Piece {
    Piece { text: go::text(&line[start..end]), start, end }
}

fn next(line: &[u8], start: usize, end: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    line[start..end].iter().position(|b| wanted(*b)).map(|at| start + at)
}

fn skip(line: &[u8], start: usize, end: usize, blank: impl Fn(u8) -> bool) -> usize {
    line[start..end].iter().position(|b| !blank(*b)).map_or(end, |at| start + at)
}

/// The words between blanks, quotes being ordinary characters.
fn separated(line: &[u8], start: usize, end: usize) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut at = start;
    loop {
        let stop = next(line, at, end, go::separates).unwrap_or(end);
        found.push(piece(line, at, stop));
        if stop == end {
            return found;
        }
        at = skip(line, stop, end, go::separates);
    }
}

/// The flags at the start, without quotes and escapes, and where the arguments begin.
fn flags(line: &[u8], start: usize, end: usize, escape: char) -> (Vec<Piece>, usize) {
    let mut found = Vec::new();
    let mut at = start;
    loop {
        at = skip(line, at, end, go::is_blank_byte);
        if at == end || !line[at..end].starts_with(b"--") {
            return (found, at);
        }
        let from = at;
        let mut text = String::new();
        let mut quoted = false;
        let mut quote = None;
        while at < end {
            let byte = line[at];
            match quote {
                None if go::is_blank_byte(byte) => break,
                None if byte == b'\'' || byte == b'"' => {
                    quote = Some(byte);
                    quoted = true;
                }
                Some(open) if byte == open => quote = None,
                _ if char::from(byte) == escape => {
                    if at + 1 == end {
                        // BuildKit drops an escape at the very end, and what it closes.
                        at += 1;
                        break;
                    }
                    at += 1;
                    text.push(char::from(line[at]));
                }
                _ => text.push(char::from(byte)),
            }
            at += 1;
        }
        if text == "--" {
            return (found, at);
        }
        if quoted || !text.is_empty() {
            found.push(Piece { text, start: from, end: at });
        }
    }
}

/// The words outside quotes. Quotes and escapes stay in them.
pub(super) fn words(line: &[u8], start: usize, end: usize, escape: char) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        let (c, width) = go::decode(&line[at..end]);
        if c.is_whitespace() {
            at += width;
            continue;
        }
        let from = at;
        let mut text = String::new();
        let mut quote = None;
        while at < end {
            let (c, width) = go::decode(&line[at..end]);
            match quote {
                None if c.is_whitespace() => break,
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ => {}
            }
            at += width;
            if c == escape && quote != Some('\'') {
                if at == end {
                    break;
                }
                text.push(c);
                let (next, width) = go::decode(&line[at..end]);
                text.push(next);
                at += width;
                continue;
            }
            text.push(c);
        }
        if !text.is_empty() {
            found.push(Piece { text, start: from, end: at });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match cut(line.as_bytes(), 0, '\\') {
            Ok(node) => {
                let texts = |pieces: &[Piece]| pieces.iter().map(|p| p.text.clone()).collect::<Vec<_>>().join("|");
                format!(
                    "{}; {}; {}{}",
                    node.command.text,
                    texts(&node.flags),
                    texts(&node.args),
                    if node.json { " json" } else { "" }
                )
            }
            Err(bad) => format!("! {}", bad.message),
        }
    }

    #[test]
    fn cuts_as_buildkit_does() {
        let cases = [
            ("COPY --from='a b' --x=\\\" -- a  b", "COPY; --from=a b|--x=\"; a|b"),
            ("RUN --mount=a echo --b", "RUN; --mount=a; echo --b"),
            ("COPY --from=\u{e0}b c d", "COPY; --from=\u{c3}; b|c|d"),
            ("CMD [ \"a\", \"b\" ]", "CMD; ; a|b json"),
            ("CMD []", "CMD; ;  json"),
            ("CMD [a]", "CMD; ; [a]"),
            ("CMD [1]", "! a JSON array whose elements are not all strings"),
            ("VOLUME [\"/a\"", "VOLUME; ; [\"/a\""),
            ("ENV A=1  B=\"x y\" C='p q' D=a\\ b", "ENV; ; A|1|=|B|\"x y\"|=|C|'p q'|=|D|a\\ b|="),
            ("ENV a b=c d", "ENV; ; a|b=c d|"),
            ("ENV a", "! ENV needs a name and a value"),
            ("ENV a=b c", "! `c` has no `=`"),
            ("ARG a b=\"c d\"", "ARG; ; a|b=\"c d\""),
            ("HEALTHCHECK --retries=1 CMD [\"a\"]", "HEALTHCHECK; --retries=1; CMD|a json"),
            ("ONBUILD COPY --from=x a b", "ONBUILD; ; COPY|a|b"),
            ("\u{a0}RUN\u{a0}x", "RUN\u{a0}x; ; "),
            ("FROM", "FROM; ; "),
        ];
        for (line, wanted) in cases {
            assert_eq!(shown(line), wanted, "{line}");
        }
    }
}

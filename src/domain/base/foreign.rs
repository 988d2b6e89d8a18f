//! Makes text from elsewhere (a repository, a build, a server) harmless for a screen, a log and a CI: control characters
//! are shown instead of obeyed, and commands to a CI are no commands any more. Not responsible for: where text is
//! written (see `report::screen`), masking secrets.
//!
//! `shown` is for a value within a line, `output_line` for a line that a build wrote, `harmless` for all that leaves.

/// What begins an escape sequence.
const ESCAPE: char = '\u{1b}';
/// What GitLab reads at the beginning of a line.
const SECTIONS: [&str; 2] = ["section_start:", "section_end:"];
/// Stands before what would be a command.
const DEFUSE: char = '\\';

/// A value as a part of one line: whatever is not plain text is escaped, line ends and tabs, too.
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        push_shown(&mut line, c, before);
        before = c;
    }
    line
}

/// The same for a value that may have several lines.
pub fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// A line that a build or a tool wrote. Of a line rewritten with `\r` it keeps the last version, as a screen would. Escape
/// sequences are left out, but those for colours if they are wanted; what else is not plain text is escaped.
pub fn output_line(line: &str, colour: bool) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let mut rest = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::with_capacity(rest.len());
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        match sequence(rest) {
            Some(length) => {
                if colour && is_colour(&rest[..length]) {
                    text.push_str(&rest[..length]);
                }
                rest = &rest[length..];
            }
            None => {
                if c == '\t' {
                    text.push_str("    ");
                } else {
                    push_shown(&mut text, c, before);
                }
                rest = &rest[c.len_utf8()..];
            }
        }
        before = c;
    }
    text
}

/// Text as it may be written to a screen, a log or a CI. Lines and tabs stay; colours stay if they are wanted, and end
/// with their line; other control characters are escaped; no line is a command to a CI.
pub fn harmless(text: &str, colour: bool) -> String {
    let mut whole = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        // The line end of Windows.
        let body = if end.is_empty() { body } else { body.strip_suffix('\r').unwrap_or(body) };
        whole.push_str(&defused(&printable(body, colour)));
        whole.push_str(end);
    }
    whole
}

/// The text of a JSON document with the same meaning, in which no character and no word commands anything. Outside of its
/// strings a JSON document has none of them.
pub fn harmless_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut before = 'x';
    for c in json.chars() {
        // `##[` and `##vso[` are obeyed anywhere in a line.
        if (c == '#' && before == '#') || (misleads(c, before) && !matches!(c, '\n' | '\r' | '\t')) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
        before = c;
    }
    text
}

/// Source code with the odd characters replaced by others of the same length, so that places in it stay true.
pub fn shown_source(text: &str) -> String {
    let mut before = ' ';
    let replaced = |c: char| {
        let odd = misleads(c, before) && !matches!(c, '\n' | '\r' | '\t');
        before = c;
        match c.len_utf8() {
            _ if !odd => c,
            1 => '?',
            2 => '¿',
            3 => '\u{fffd}',
            _ => '\u{1f6c7}',
        }
    };
    text.chars().map(replaced).collect()
}

/// Whether a character does something else than show itself: it controls, turns the direction, ends a line, or cannot be
/// seen. Joiners are letters' business, and only between letters that are not ASCII.
fn misleads(c: char, before: char) -> bool {
    match c {
        '\u{200c}' | '\u{200d}' => before.is_ascii(),
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' => true,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        c => c.is_control(),
    }
}

fn push_shown(text: &mut String, c: char, before: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c if !misleads(c, before) => text.push(c),
        c if c.is_ascii() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
        c => text.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
    }
}

/// One line for a screen.
fn printable(line: &str, colour: bool) -> String {
    let mut text = String::with_capacity(line.len());
    let (mut rest, mut before, mut painted) = (line, ' ', false);
    while let Some(c) = rest.chars().next() {
        match sequence(rest).map(|length| &rest[..length]).filter(|sequence| is_colour(sequence)) {
            Some(sequence) => {
                if colour {
                    text.push_str(sequence);
                    painted = !matches!(sequence, "\u{1b}[m" | "\u{1b}[0m");
                }
                rest = &rest[sequence.len()..];
            }
            None => {
                if c == '\t' {
                    text.push(c);
                } else {
                    push_shown(&mut text, c, before);
                }
                rest = &rest[c.len_utf8()..];
            }
        }
        before = c;
    }
    if painted {
        text.push_str("\u{1b}[0m");
    }
    text
}

/// A line that is no command: not `::error…` (GitHub, Forgejo) or `section_start:` (GitLab) at its beginning, nor `##[…`,
/// `##vso[…` or `##teamcity[…` anywhere.
fn defused(line: &str) -> String {
    let mut begin = line;
    while let Some(c) = begin.chars().next() {
        match sequence(begin) {
            Some(length) => begin = &begin[length..],
            None if c.is_whitespace() => begin = &begin[c.len_utf8()..],
            None => break,
        }
    }
    let mut text = line[..line.len() - begin.len()].to_owned();
    if begin.starts_with("::") || SECTIONS.iter().any(|section| begin.starts_with(section)) {
        text.push(DEFUSE);
    }
    let mut rest = begin;
    while let Some(at) = rest.find("##") {
        let word = rest[at..].trim_start_matches('#');
        let begun = rest.len() - word.len();
        let is_command = word.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-').starts_with('[');
        text.push_str(&rest[..begun - 1]);
        if is_command {
            text.push(DEFUSE);
        }
        text.push('#');
        rest = word;
    }
    text.push_str(rest);
    text
}

/// The length of the whole escape sequence that a text begins with.
fn sequence(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(ESCAPE)?;
    let kind = rest.chars().next()?;
    let inside = &rest[kind.len_utf8()..];
    let length = match kind {
        '[' => {
            let parameters = inside.bytes().take_while(|byte| (0x20..=0x3f).contains(byte)).count();
            inside.as_bytes().get(parameters).filter(|byte| (0x40..=0x7e).contains(*byte))?;
            parameters + 1
        }
        // Titles, links and device commands end with a bell or a string terminator.
        ']' | 'P' | '_' | '^' | 'X' => {
            let ends = [("\u{7}", 1), ("\u{1b}\\", 2)].map(|(end, length)| inside.find(end).map(|at| at + length));
            ends.into_iter().flatten().min()?
        }
        ' '..='/' => inside.bytes().next().filter(|byte| (0x30..=0x7e).contains(byte)).map(|_| 1)?,
        '0'..='~' => 0,
        _ => return None,
    };
    Some(ESCAPE.len_utf8() + kind.len_utf8() + length)
}

/// Whether an escape sequence only sets the colour or the weight of letters. Backgrounds, and what hides letters or has
/// them blink, are no such thing.
fn is_colour(sequence: &str) -> bool {
    let Some(parameters) = sequence.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m')) else {
        return false;
    };
    let mut numbers = parameters.split(';').map(|number| if number.is_empty() { Ok(0) } else { number.parse::<u8>() });
    while let Some(number) = numbers.next() {
        let sound = match number {
            Ok(0..=4 | 9 | 22..=24 | 29..=37 | 39 | 90..=97) => true,
            Ok(38) => match numbers.next() {
                Some(Ok(5)) => numbers.next().is_some_and(|number| number.is_ok()),
                Some(Ok(2)) => (0..3).all(|_| numbers.next().is_some_and(|number| number.is_ok())),
                _ => false,
            },
            _ => false,
        };
        if !sound {
            return false;
        }
    }
    true
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;

//! Hides here-documents from the parser, which knows them only at the start of a `RUN`, without moving any byte. Not
//! responsible for: reading their content.

use crate::domain::base::Span;
use crate::domain::model::DockerfileFault;

/// The character that continues lines and escapes: `\`, or the one that `# escape=` names.
pub(super) fn escape_char(text: &str) -> char {
    for line in text.lines() {
        let Some(directive) = line.trim_start().strip_prefix('#') else { break };
        let Some((name, value)) = directive.split_once('=') else { break };
        let name = name.trim();
        if name.eq_ignore_ascii_case("escape") {
            return if value.trim() == "`" { '`' } else { '\\' };
        }
        if !name.eq_ignore_ascii_case("syntax") && !name.eq_ignore_ascii_case("check") {
            break;
        }
    }
    '\\'
}

/// A here-document that a line announces.
struct Marker {
    /// The offset of its `<<` in the logical line.
    at: usize,
    /// The line that ends it.
    end: String,
    /// Whether tabs before that line are ignored (`<<-`).
    chomp: bool,
}

/// The text in which `<<` of every here-document is `__` and its body is blank. Line ends stay.
pub(super) fn mask(text: &str) -> Result<String, DockerfileFault> {
    let escape = escape_char(text);
    let mut masked = text.as_bytes().to_vec();
    let mut lines = physical_lines(text).into_iter();
    while let Some((start, line)) = lines.next() {
        if is_comment(line) {
            continue;
        }
        let mut logical = String::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut current = Some((start, line));
        while let Some((start, line)) = current {
            let mut more = true;
            if !is_comment(line) && (logical.is_empty() || !line.trim().is_empty()) {
                let (body, continued) = continuation(line, escape);
                places.push((logical.len(), start));
                logical.push_str(body);
                more = continued;
            }
            current = if more { lines.next() } else { None };
        }
        if !may_hold_heredoc(&logical) {
            continue;
        }
        for marker in markers(&logical) {
            let piece = places.partition_point(|(at, _)| *at <= marker.at).saturating_sub(1);
            let offset = places.get(piece).map_or(0, |(at, start)| start + marker.at - at);
            masked[offset..offset + 2].copy_from_slice(b"__");
            let mut ended = false;
            for (start, line) in lines.by_ref() {
                let blank = start..start + line.len();
                let candidate = if marker.chomp { line.trim_start_matches('\t') } else { line };
                masked[blank].fill(b' ');
                if candidate == marker.end {
                    ended = true;
                    break;
                }
            }
            if !ended {
                return Err(DockerfileFault::parse(
                    Span::new(offset, offset + 2 + marker.end.len()),
                    format!("the here-document `{}` does not end", marker.end),
                )
                .help(format!("end it with a line that says only `{}`", marker.end)));
            }
        }
    }
    Ok(String::from_utf8(masked).expect("invariant: whole lines of UTF-8 were replaced by ASCII"))
}

/// The lines without their ends, each with its offset.
fn physical_lines(text: &str) -> Vec<(usize, &str)> {
    let mut start = 0;
    text.split_inclusive('\n')
        .map(|line| {
            let at = start;
            start += line.len();
            (at, line.trim_end_matches(['\r', '\n']))
        })
        .collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without its continuation character, and whether it had one. A doubled escape is not a continuation, as in
/// BuildKit.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(body) if !body.ends_with(escape) => (body, true),
        _ => (line, false),
    }
}

fn may_hold_heredoc(logical: &str) -> bool {
    if !logical.contains("<<") {
        return false;
    }
    let mut words = logical.split_whitespace();
    let mut word = words.next().unwrap_or_default();
    if word.eq_ignore_ascii_case("onbuild") {
        word = words.next().unwrap_or_default();
    }
    ["add", "copy", "run"].iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// The here-documents that a logical line announces. A line with an unclosed quote announces none, as in BuildKit.
fn markers(logical: &str) -> Vec<Marker> {
    let bytes = logical.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let Some(end) = word_end(bytes, at) else { return Vec::new() };
        found.extend(marker(&logical[at..end], at));
        at = end;
    }
    found
}

/// The end of the shell word that begins at `at`, exclusive. Blanks after `<<` belong to the word.
fn word_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut quote = None;
    while at < bytes.len() {
        let byte = bytes[at];
        match quote {
            Some(q) if byte == q => quote = None,
            Some(b'"') if byte == b'\\' => at += 1,
            Some(_) => {}
            None if byte == b'\\' => at += 1,
            None if byte == b'\'' || byte == b'"' => quote = Some(byte),
            None if bytes[at..].starts_with(b"<<") => {
                at += 2;
                while bytes.get(at).is_some_and(|b| *b == b' ' || *b == b'\t') {
                    at += 1;
                }
                continue;
            }
            None if byte.is_ascii_whitespace() => return Some(at),
            None => {}
        }
        at += 1;
    }
    quote.is_none().then_some(bytes.len())
}

fn marker(word: &str, start: usize) -> Option<Marker> {
    let at = word.find(|c: char| !c.is_ascii_digit())?;
    let rest = word[at..].strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('<') {
        return None;
    }
    let mut end = String::new();
    let mut characters = rest.trim().chars();
    while let Some(c) = characters.next() {
        match c {
            '\'' | '"' => {}
            '\\' => end.extend(characters.next()),
            _ => end.push(c),
        }
    }
    (!end.is_empty()).then_some(Marker { at: start + at, end, chomp })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_bodies_and_keeps_offsets() {
        let text = "FROM a\nRUN cat <<EOF > /x && \\\n  # note\n  cat <<-'E 2'\nFROM b\nEOF\nCOPY\n\tE 2\nRUN c\n";
        let masked = mask(text).expect("sound");
        assert_eq!(masked.len(), text.len());
        assert_eq!(
            masked,
            "FROM a\nRUN cat __EOF > /x && \\\n  # note\n  cat __-'E 2'\n      \n   \n    \n    \nRUN c\n"
        );
    }

    #[test]
    fn leaves_what_is_no_heredoc() {
        for text in
            ["RUN cat <<<word\n", "RUN echo it's <<EOF\n", "# RUN <<EOF\n", "ENV A=<<EOF\n", "RUN x=$((1<<2))\n"]
        {
            assert_eq!(mask(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn says_which_heredoc_does_not_end() {
        let fault = mask("FROM a\nRUN <<EOF\ncat\n").expect_err("it does not end");
        assert_eq!(fault.span, Some(Span::new(11, 16)));
        assert!(fault.message.contains("EOF"));
    }

    #[test]
    fn reads_the_escape_directive() {
        assert_eq!(escape_char("# syntax=x\n#escape = `\n"), '`');
        assert_eq!(escape_char("# a comment\n# escape=`\n"), '\\');
        assert_eq!(mask("# escape=`\nRUN a `\n<<E\nFROM\nE\n").as_deref(), Ok("# escape=`\nRUN a `\n__E\n    \n \n"));
    }
}

//! What Go, in which BuildKit is written, means by blanks, letter case and bytes. Not responsible for: the syntax of
//! Dockerfiles.

/// The first character and its length. A byte that begins no character is U+FFFD of length 1, as in Go.
pub(super) fn decode(bytes: &[u8]) -> (char, usize) {
    let widths = 1..=bytes.len().min(4);
    let mut found =
        widths.filter_map(|width| Some((std::str::from_utf8(&bytes[..width]).ok()?.chars().next()?, width)));
    found.next().unwrap_or((char::REPLACEMENT_CHARACTER, 1))
}

/// Whether a byte, taken as the character of that number, is a blank. BuildKit looks at flags this way, so that it cuts
/// `à` (bytes C3 A0) in two.
pub(super) fn is_blank_byte(byte: u8) -> bool {
    char::from(byte).is_whitespace()
}

/// The blanks between the words of an instruction. A no-break space is none of them, but is trimmed.
pub(super) fn separates(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x0b | 0x0c | b'\r' | b' ')
}

/// What `\s` is in Go's regular expressions.
pub(super) fn is_regex_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')
}

/// The number of bytes of the blanks at the start.
pub(super) fn leading_blanks(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let (c, width) = decode(&bytes[at..]);
        if !c.is_whitespace() {
            break;
        }
        at += width;
    }
    at
}

/// The text without the blanks at both ends, as a range.
pub(super) fn trimmed(bytes: &[u8]) -> std::ops::Range<usize> {
    let start = leading_blanks(bytes);
    let mut end = bytes.len();
    while end > start {
        let last = (1..=(end - start).min(4)).find(|width| std::str::from_utf8(&bytes[end - width..end]).is_ok());
        let Some(width) = last else { break };
        if !decode(&bytes[end - width..end]).0.is_whitespace() {
            break;
        }
        end -= width;
    }
    start..end
}

/// Lower case, a character at a time.
pub(super) fn lower(text: &str) -> String {
    let one = |c: char| if c == '\u{130}' { 'i' } else { c.to_lowercase().next().unwrap_or(c) };
    text.chars().map(one).collect()
}

/// Upper case, a character at a time; characters that become several stay.
pub(super) fn upper(text: &str) -> String {
    let one = |c: char| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(upper), None) => upper,
            _ => c,
        }
    };
    text.chars().map(one).collect()
}

/// The bytes as text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_as_go_does() {
        let text = "\u{a0}\u{2003} a\u{a0}b \u{85}\t".as_bytes();
        assert_eq!(&text[trimmed(text)], "a\u{a0}b".as_bytes());
        assert_eq!(trimmed(b" \t"), 2..2);
        assert_eq!(trimmed(b"\xa0x\xa0"), 0..3);
    }

    #[test]
    fn a_letter_that_only_looks_like_another_has_its_lower_case() {
        assert_eq!(lower("WOR\u{212a}DIR"), "workdir");
        assert_eq!(upper("a\u{17f}\u{df}"), "AS\u{df}");
    }
}

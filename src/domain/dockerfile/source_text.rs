//! The text of a Dockerfile, and which of its characters stand for bytes that are not UTF-8. Not responsible for: what
//! the text says.

/// A Dockerfile's bytes as text. BuildKit reads bytes, and a comment in Latin-1 does no harm; a command does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceText {
    /// The text: what is not UTF-8 became U+FFFD.
    pub text: String,
    /// Where these stand, in order.
    replaced: Vec<usize>,
    /// Whether the bytes begin as UTF-16 does.
    pub(super) is_utf16: bool,
}

impl SourceText {
    /// Reads bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut source = Self {
            is_utf16: [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark)),
            ..Self::default()
        };
        for chunk in bytes.utf8_chunks() {
            source.text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                source.replaced.push(source.text.len());
                source.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        source
    }

    /// The places of the characters that stand for bytes that are not UTF-8.
    pub(super) fn replaced(&self) -> &[usize] {
        &self.replaced
    }
}

impl From<&str> for SourceText {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_is_told_from_what_was_written() {
        let source = SourceText::new("a\u{fffd}".as_bytes());
        assert_eq!((source.text.as_str(), source.replaced()), ("a\u{fffd}", &[] as &[usize]));
        let source = SourceText::new(b"a\xe9b\xe2\x82c");
        assert_eq!((source.text.as_str(), source.replaced()), ("a\u{fffd}b\u{fffd}c", &[1usize, 5] as &[usize]));
        assert!(SourceText::new(b"\xff\xfeF\0").is_utf16 && !source.is_utf16);
    }
}

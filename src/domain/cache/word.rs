//! What a name may be that becomes a part of a repository's: one spelling for each name, in every registry. Not responsible
//! for: what the names stand for.

use std::fmt;

/// The longest name of a workspace or an actor: two of them and a layer's fit what every registry takes (255 characters).
const LONGEST: usize = 63;

/// Why a text cannot be the name of a workspace or an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameFault {
    /// There is nothing.
    Empty,
    /// It is longer than 63 characters.
    Long(usize),
    /// It has a character that is not allowed.
    Character(char),
    /// It begins or ends with `.`, `_` or `-`, or has two of them side by side.
    Separators,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Long(length) => write!(f, "it has {length} characters, and {LONGEST} are allowed"),
            Self::Character(upper) if upper.is_ascii_uppercase() => write!(f, "`{upper}` is an upper-case letter"),
            Self::Character(ascii) if ascii.is_ascii_graphic() => write!(f, "`{ascii}` is not allowed"),
            // A letter that looks like another one is told by its number.
            Self::Character(other) => write!(f, "the character U+{:04X} is not allowed", u32::from(*other)),
            Self::Separators => f.write_str("`.`, `_` and `-` stand alone between letters or digits"),
        }
    }
}

/// Checks a name: lower-case ASCII letters and digits, parted by single `.`, `_` or `-`.
pub(super) fn check(text: &str) -> Result<(), NameFault> {
    let separator = |c: char| matches!(c, '.' | '_' | '-');
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || separator(c);
    if text.is_empty() {
        return Err(NameFault::Empty);
    }
    if let Some(wrong) = text.chars().find(|&c| !allowed(c)) {
        return Err(NameFault::Character(wrong));
    }
    if text.len() > LONGEST {
        return Err(NameFault::Long(text.len()));
    }
    if text.split(separator).any(str::is_empty) {
        return Err(NameFault::Separators);
    }
    Ok(())
}

/// Whether a text is a path of repositories as registries take it: parts of lower-case letters and digits, joined by `.`,
/// `_`, `__` or any number of `-`.
pub(super) fn is_path(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_part)
}

fn is_part(part: &str) -> bool {
    let joint = |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let at_edges = part.starts_with(plain) && part.ends_with(plain);
    at_edges && part.split(plain).all(|between| between.is_empty() || joint(between))
}

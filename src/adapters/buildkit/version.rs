//! Reads versions as tools print them, and compares them with requirements. Not responsible for: running the tool.

use semver::{Comparator, Op, Prerelease, Version, VersionReq};

/// The first text in a tool's output that looks like a version: numbers with dots between them, else the first number.
/// `1.80` is `1.80.0`; a fourth number is dropped; a pre-release is kept (`1.82.0-nightly`).
pub(super) fn first_in(output: &str) -> Option<Version> {
    let starts = || {
        let mut before = None;
        output.char_indices().filter_map(move |(at, char)| {
            let fresh = char.is_ascii_digit() && !matches!(before, Some(c) if char::is_ascii_digit(&c) || c == '.');
            before = Some(char);
            fresh.then_some(at)
        })
    };
    let dotted = starts().find_map(|at| parse(&output[at..], 2));
    dotted.or_else(|| starts().find_map(|at| parse(&output[at..], 1)))
}

/// A version at the start of the text, with at least this many numbers.
fn parse(text: &str, least: usize) -> Option<Version> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let numbers: Vec<&str> = text[..end].split('.').filter(|part| !part.is_empty()).collect();
    if numbers.len() < least {
        return None;
    }
    let number = |at: usize| numbers.get(at).map_or(Some(0), |part| part.parse().ok());
    let mut version = Version::new(number(0)?, number(1)?, number(2)?);
    if let Some(rest) = text[end..].strip_prefix('-') {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-').unwrap_or(rest.len());
        version.pre = Prerelease::new(rest[..end].trim_end_matches(['.', '-'])).unwrap_or(Prerelease::EMPTY);
    }
    Some(version)
}

/// Whether a version meets a requirement. A pre-release counts as its release, unless the requirement itself names a
/// pre-release: `1.82.0-nightly` is new enough for `>=1.80`, and Debian's `14.2.0-19` is not a pre-release at all.
pub(super) fn meets(requirement: &VersionReq, version: &Version) -> bool {
    let strict = requirement.comparators.iter().any(|comparator| !comparator.pre.is_empty());
    if strict || version.pre.is_empty() {
        return requirement.matches(version);
    }
    let release = Version::new(version.major, version.minor, version.patch);
    requirement.matches(version) || requirement.matches(&release)
}

/// Reads a requirement as layers write it. A bare `1.80` means the same as in Cargo.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn requirement(text: &str) -> Result<VersionReq, String> {
    if text.trim() == "*" || text.trim().is_empty() {
        return Ok(VersionReq::STAR);
    }
    // People often write a space for "and"; semver wants commas.
    let parts: Vec<Comparator> = text
        .split(',')
        .flat_map(|part| split_and(part.trim()))
        .map(|part| part.parse().map_err(|error| format!("`{text}` is not a version requirement: {error}")))
        .collect::<Result<_, _>>()?;
    debug_assert!(parts.iter().all(|part| part.op != Op::Wildcard || part.patch.is_none()));
    Ok(VersionReq { comparators: parts })
}

/// `>=1.2 <2` as two comparators; `>= 1.2` as one.
fn split_and(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match parts.last_mut() {
            Some(last) if !last.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '*') => last.push_str(word),
            _ => parts.push(word.to_owned()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(output: &str) -> Option<String> {
        first_in(output).map(|version| version.to_string())
    }

    #[test]
    fn finds_the_version_in_what_tools_print() {
        let known = [
            ("cargo 1.80.1 (376290515 2024-07-16)", "1.80.1"),
            ("rustc 1.82.0-nightly (abc 2024-08-01)", "1.82.0-nightly"),
            ("gcc (Debian 14.2.0-19) 14.2.0", "14.2.0-19"),
            ("go version go1.22.1 linux/amd64", "1.22.1"),
            ("jq-1.7", "1.7.0"),
            ("v20.04", "20.4.0"),
            ("less 590 (GNU regular expressions)", "590.0.0"),
            ("BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1)", "1.35.0"),
            ("tool 1.2.3.4", "1.2.3"),
            ("2.0.", "2.0.0"),
        ];
        for (output, version) in known {
            assert_eq!(shown(output).as_deref(), Some(version), "{output}");
        }
        assert_eq!([shown(""), shown("no version here"), shown("99999999999999999999999")], [None, None, None]);
    }

    #[test]
    fn a_prerelease_counts_as_its_release_unless_asked() {
        let meets = |requirement: &str, output: &str| {
            meets(&super::requirement(requirement).expect("a requirement"), &first_in(output).expect("a version"))
        };
        assert!(meets(">=1.80", "1.80"));
        assert!(meets(">=1.80", "1.82.0-nightly"));
        assert!(meets(">= 14.2", "14.2.0-19"));
        assert!(meets("0.8", "0.8.2"));
        assert!(meets(">=1.2 <2", "1.9") && meets(">=1.2, <2", "1.9"));
        assert!(!meets(">=1.80", "1.79.9"));
        assert!(!meets(">=1.0.0-rc.2", "1.0.0-rc.1"));
        assert!(!meets("<2", "2.0.0"));
        assert!(meets("*", "0.0.1"));
        assert!(requirement("about two").is_err());
    }
}

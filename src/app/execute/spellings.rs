//! The ways in which a secret's value may stand in a log: its lines, and both in Base64 and in URLs. Not responsible for:
//! finding them there (`mask`).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter values occur by chance too often, bytes.
pub const SHORTEST: usize = 4;
/// Of longer values only the lines are known, bytes.
const ENCODED: usize = 64 * 1024;
/// How programs wrap Base64, in columns.
const WRAPPED: [usize; 2] = [64, 76];
/// What encoders of URLs leave as it is, beside letters and digits: RFC 3986, of a path, of a form, of `encodeURIComponent`
/// and of `encodeURI`.
const SAFE: [&str; 5] = ["-._~", "-._~/", "-._*", "-._~!'()*", "-._~:/?#[]@!$&'()*+,;="];
/// What stands behind `NAME=` so often that it is no secret.
const COMMON: [&str; 5] = ["true", "false", "null", "none", "default"];

/// Every way in which a value may be written. None is shorter than [`SHORTEST`] or holds a line end.
pub fn spellings(value: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(value);
    let mut plain = BTreeSet::new();
    for line in text.split(['\n', '\r']).map(str::trim) {
        plain.insert(line.to_owned());
        let assigned = line.split_once('=').map(|(_, value)| value.trim().trim_matches(['"', '\'']));
        plain.extend(assigned.filter(|value| !COMMON.contains(value)).map(str::to_owned));
    }
    plain.retain(|text| text.len() >= SHORTEST);
    let mut all = plain.clone();
    if value.len() <= ENCODED {
        for part in plain.iter().map(String::as_bytes).chain([value, value.trim_ascii()]) {
            all.extend(in_base64(part));
            all.extend(in_urls(part));
        }
    }
    all.retain(|text| text.len() >= SHORTEST);
    all
}

/// In Base64, at the three places that it may have in what is encoded. What stands before it and behind it is not known:
/// the letters that hold bits of both are left out, but where it ends the text.
fn in_base64(value: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
            let encoded = alphabet.encode([&[0; 2][..before], value].concat());
            let (end, over) = (&encoded[shared..], (before + value.len()) % 3);
            let padding = ["", "==", "="][over];
            found.push(end[..end.len() - usize::from(over > 0)].to_owned());
            found.push(end.to_owned());
            found.push(format!("{end}{padding}"));
            if before == 0 {
                for columns in WRAPPED.into_iter().filter(|columns| encoded.len() > *columns) {
                    // Base64 is ASCII: a part of it is text.
                    found.extend(
                        encoded.as_bytes().chunks(columns).map(|row| String::from_utf8_lossy(row).into_owned()),
                    );
                }
            }
        }
    }
    found
}

/// In a URL or a form, with digits in upper and in lower case.
fn in_urls(value: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for safe in SAFE {
        for (space, upper) in [("%20", true), ("%20", false), ("+", true), ("+", false)] {
            let encoded = |byte: &u8| match *byte {
                b' ' => space.to_owned(),
                byte if byte.is_ascii_alphanumeric() || safe.as_bytes().contains(&byte) => char::from(byte).to_string(),
                byte if upper => format!("%{byte:02X}"),
                byte => format!("%{byte:02x}"),
            };
            found.push(value.iter().map(encoded).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(value: &str, spelling: &str) {
        assert!(spellings(value.as_bytes()).contains(spelling), "{spelling} of {value}");
    }

    #[test]
    fn a_value_is_known_in_every_writing() {
        for spelling in ["p@ss w?rd>~", "cEBzcyB3P3JkPn4", "cEBzcyB3P3JkPn4=", "cEBzcyB3P3JkPn4", "p%40ss%20w%3Frd%3E~"]
        {
            holds("p@ss w?rd>~", spelling);
        }
        for spelling in ["p%40ss%20w%3frd%3e~", "p%40ss+w%3Frd%3E%7E", "p%40ss+w%3frd%3e%7e", "p@ss%20w?rd%3E~"] {
            holds("p@ss w?rd>~", spelling);
        }
        holds("abcd", "abcd");
        holds("KEY=\"abcd\"\r\nsecond line\n", "abcd");
        holds("KEY=\"abcd\"\r\nsecond line\n", "second line");
        holds("-----BEGIN-----\nabcdef\n", "YWJjZGVm");
        let known = spellings(b"DEBUG=true\nabc\n");
        assert!(!known.contains("true") && !known.contains("abc"), "{known:?}");
        assert!(spellings(&[0xff, 0xfe, 0xfd, 0xfc]).contains("//79/A=="), "bytes that are no text");
        assert!(known.iter().all(|text| text.len() >= SHORTEST && !text.contains('\n')));
    }

    #[test]
    fn in_base64_it_is_known_at_any_place() {
        let value = b"hidden-value?>";
        let known = spellings(value);
        for before in 0..7 {
            for behind in 0..7 {
                let text = [&b"x~:/y?."[..before], value, &b"@host/p"[..behind]].concat();
                for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                    let encoded = alphabet.encode(&text);
                    let core = known.iter().filter(|known| encoded.contains(known.as_str())).map(String::len).max();
                    // At each edge one letter has bits of what is beside it.
                    assert!(core.is_some_and(|letters| letters * 6 + 12 > value.len() * 8), "{encoded}");
                }
            }
        }
    }

    #[test]
    fn wrapped_base64_is_known_by_its_rows() {
        let value = "k".repeat(100);
        for row in STANDARD_NO_PAD.encode(&value).as_bytes().chunks(76) {
            holds(&value, std::str::from_utf8(row).expect("text"));
        }
    }

    #[test]
    fn of_a_long_value_the_lines_are_known() {
        let long = format!("{}\nlast line\n", "x".repeat(ENCODED));
        let known = spellings(long.as_bytes());
        assert_eq!(known.len(), 2);
        assert!(known.contains("last line"));
    }
}

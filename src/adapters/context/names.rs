//! Names of files in a listing: text, whatever bytes the file's own name has. Not responsible for: walking folders.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The name as text, without loss: bytes that are not UTF-8 become `\xNN`, and a backslash becomes two.
pub(super) fn escaped(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The file's own name for a name in a listing: reverses [`escaped`].
pub fn raw_name(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (byte, after) = match after {
            [b'\\', after @ ..] if first == b'\\' => (b'\\', after),
            [b'x', high, low, tail @ ..] if first == b'\\' => match hex(&[*high, *low]) {
                Some(byte) => (byte, tail),
                None => (first, after),
            },
            after => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_listing_leads_back_to_the_file() {
        for name in [&b"plain"[..], b"a\\b", b"a\\xffb", b"\xff\xfe\\", b"caf\xc3\xa9", b"caf\xe9", b"\\\\x41", b"\\x"]
        {
            let name = OsStr::from_bytes(name);
            assert_eq!(raw_name(&escaped(name)), name, "{}", escaped(name));
        }
        assert_eq!(escaped(OsStr::from_bytes(b"c\\d\xff")), "c\\\\d\\xff");
    }
}

//! JSON arrays as Go reads them. Not responsible for: JSON beyond what an instruction holds.

use serde_json::Value;

/// The strings of an array. `None`: it is no JSON. `Some(None)`: it holds other things than strings.
pub(super) fn strings(text: &str) -> Option<Option<Vec<String>>> {
    let list = match serde_json::from_str::<Vec<Value>>(text) {
        Ok(list) => list,
        // Go puts U+FFFD in place of half a surrogate pair.
        Err(_) => serde_json::from_str(&whole_surrogates(text)?).ok()?,
    };
    let text = |value| if let Value::String(text) = value { Some(text) } else { None };
    Some(list.into_iter().map(text).collect())
}

/// The text with `\uD800` to `\uDFFF` that stand alone replaced; `None` where there are none.
fn whole_surrogates(text: &str) -> Option<String> {
    let code = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let mut out = String::new();
    let mut at = 0;
    let mut changed = false;
    while let Some(c) = text[at..].chars().next() {
        let length = match (code(at), code(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                changed = true;
                at += 6;
                continue;
            }
            _ if c == '\\' => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            _ => c.len_utf8(),
        };
        out.push_str(&text[at..at + length]);
        at += length;
    }
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let list = |items: &[&str]| Some(Some(items.iter().map(|item| (*item).to_owned()).collect()));
        assert_eq!(strings("[]"), list(&[]));
        assert_eq!(strings(" [ \"a\\n\" ,\"\\ud83d\\ude00\"] "), list(&["a\n", "\u{1f600}"]));
        assert_eq!(strings("[\"\\ud83d\\\\u12\"]"), list(&["\u{fffd}\\u12"]));
        assert_eq!(strings("[\"a\", 1]"), Some(None));
        assert_eq!(strings("[null]"), Some(None));
        for text in ["[\"a\"", "['a']", "[\"a\"] b", "[\"a\",]", "[1e999]"] {
            assert_eq!(strings(text), None, "{text}");
        }
    }
}

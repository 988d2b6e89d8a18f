//! The names that are bound around directives, `--set NAME=VALUE`. A value is text, unless it reads as a Nickel value other
//! than a number: `'tag`, `["a", "b"]`, `{ a = 1 }`, `true`, `"text"`. So a commit's digest of digits stays text.

use super::syntax;
use crate::domain::model::Diagnostic;

/// Words that Nickel keeps for itself, and the name of its library.
const RESERVED: &[&str] = &[
    "let",
    "in",
    "rec",
    "fun",
    "if",
    "then",
    "else",
    "match",
    "import",
    "include",
    "null",
    "true",
    "false",
    "forall",
    "as",
    "default",
    "doc",
    "optional",
    "priority",
    "force",
    "not_exported",
    "or",
    "std",
    "_",
];

/// The text that stands before the directives': `let NAME = VALUE in …`.
pub(super) fn around(set: &[(String, String)]) -> Result<String, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut text = String::new();
    for (at, (name, value)) in set.iter().enumerate() {
        if !is_name(name) {
            let message = format!("`--set {name}=…`: `{name}` is no name that directives can use");
            faults.push(fault(message, "a name is letters, digits and `_`, and does not begin with a digit"));
        } else if set[..at].iter().any(|(earlier, _)| earlier == name) {
            faults.push(fault(format!("`{name}` is set twice"), "leave one of the two `--set` out"));
        } else {
            text.push_str(&format!("let {name} = {} in ", nickel(value)));
        }
    }
    if faults.is_empty() { Ok(text) } else { Err(faults) }
}

fn fault(message: String, help: &'static str) -> Diagnostic {
    Diagnostic::error("lian::directives::setting", message).help(help)
}

fn is_name(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(letters) && !RESERVED.contains(&name)
}

fn nickel(value: &str) -> String {
    let written = value.trim();
    let structured = written.starts_with(['"', '\'', '[', '{']) || matches!(written, "true" | "false");
    if structured && syntax::is_plain_value(written) { written.to_owned() } else { syntax::quoted(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_unless_they_are_written_as_something_else() {
        let set = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            around(&pairs).map_err(|faults| faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>())
        };
        assert_eq!(set(&[]), Ok(String::new()));
        assert_eq!(
            set(&[("sha", "12345678"), ("tags", r#"["a"]"#), ("who", "'agent"), ("x", "%{sha}\"")]),
            Ok(r#"let sha = "12345678" in let tags = ["a"] in let who = 'agent in let x = "\%{sha}\"" in "#.to_owned())
        );
        // What only looks like a value is text: nothing of it is evaluated.
        assert_eq!(set(&[("a", "[import \"/x\"]")]), Ok(r#"let a = "[import \"/x\"]" in "#.to_owned()));
        assert_eq!(set(&[("a", "1"), ("a", "2")]), Err(vec!["`a` is set twice".to_owned()]));
        for wrong in ["", "1a", "a b", "let", "std", "a.b", "é"] {
            assert!(set(&[(wrong, "x")]).is_err(), "{wrong}");
        }
    }
}

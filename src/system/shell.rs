//! Quotes words for a POSIX shell. Not responsible for: other syntaxes (Nickel, TOML, ssh's configuration).

/// A text as one word, always in single quotes. (`shlex` quotes only when needed, and mixes both kinds of quotes.)
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_reads_what_was_quoted() {
        assert_eq!(quoted("o'brien"), "'o'\\''brien'");
        for text in ["", "a b", "o'brien", "$HOME `id` \"x\" \\", "-n", "two\nlines", "~/*?[a]", "ä"] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}

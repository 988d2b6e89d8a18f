//! The here-documents that an instruction announces. Not responsible for: finding where they end.

use super::budget::Budget;
use super::expand::{Nothing, Rules, expand_by};

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The line that ends it.
    pub name: String,
    /// Whether tabs at the start of lines are ignored (`<<-`).
    pub chomp: bool,
    /// Whether variables in it are replaced: its name has no quotes.
    pub expand: bool,
}

/// The here-documents of a line. A line that the lexer cannot read (an open quote, bash's `${x^^}`) has none.
pub(super) fn all(line: &str) -> Result<Vec<Heredoc>, String> {
    let rules = Rules { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Rules::of('\\') };
    let words = expand_by(line, rules, &Nothing, &Budget::default()).map(|found| found.words).unwrap_or_default();
    let found: Result<Vec<_>, _> = words.iter().map(|word| one(word)).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// The names of what looks like here-documents in a line that the lexer cannot read, and why it cannot.
pub(super) fn unseen(line: &str) -> Vec<(String, String)> {
    let rules = Rules { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Rules::of('\\') };
    let Err(why) = expand_by(line, rules, &Nothing, &Budget::default()) else { return Vec::new() };
    let words = line.split_whitespace().filter_map(|word| one(word).ok().flatten());
    words.map(|found| (found.name, why.clone())).collect()
}

/// The here-document that a word is, if it is one: `<<EOF`, `3<<-'EOF'`.
pub(super) fn one(word: &str) -> Result<Option<Heredoc>, String> {
    let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = Rules { keep_unset: true, ..Rules::of('\\') };
    let words = expand_by(rest, plain, &Nothing, &Budget::default())?.words;
    let [name] = words.as_slice() else { return Ok(None) };
    let raw = expand_by(rest, Rules { raw_quotes: true, ..plain }, &Nothing, &Budget::default())?.words;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    match raw.as_slice() {
        [raw] => Ok(Some(Heredoc { name: name.clone(), chomp, expand: quotes(name) == quotes(raw) })),
        _ => Err(format!("`{word}` cannot name a here-document")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        let all = all(line).expect("sound");
        all.into_iter().map(|found| format!("{}{}{}", found.name, found.chomp as u8, found.expand as u8)).collect()
    }

    #[test]
    fn finds_what_buildkit_finds() {
        assert_eq!(names("RUN cat <<EOF 3<<-'A B' > /x; cat << \"C\""), ["EOF01", "A B10", "C00"]);
        for line in ["RUN cat <<<word", "RUN echo it's <<EOF", "RUN x=$((1<<2))", "RUN ${x^^} <<EOF", "RUN a<<EOF"] {
            assert_eq!(names(line), [""; 0], "{line}");
        }
    }
}

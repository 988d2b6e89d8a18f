//! Words with variables, as BuildKit's own lexer reads them.

use super::*;

fn shown(word: &str) -> String {
    let values: BTreeMap<String, String> = [("A", "one"), ("EMPTY", ""), ("V", "1.92.0-slim"), ("IMG", "reg.io/a/b:c")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    match expand_by(word, Rules::of('\\'), &values, &Budget::default()) {
        Ok(expanded) => expanded.text,
        Err(error) => format!("! {error}"),
    }
}

#[test]
fn replaces_like_buildkit() {
    let cases = [
        ("x$A-y", "xone-y"),
        ("${A}_b", "one_b"),
        ("$A_b", ""),
        ("'$A'", "$A"),
        ("\"$A b\"", "one b"),
        ("\\$A", "$A"),
        ("a$", "a$"),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE:-${A}x}", "onex"),
        ("${A:+yes}", "yes"),
        ("${NONE:+yes}", ""),
        ("${EMPTY+yes}", "yes"),
        ("${V%-*}", "1.92.0"),
        ("${V%.*}", "1.92"),
        ("${V%%.*}", "1"),
        ("${V#*.}", "92.0-slim"),
        ("${V##*.}", "0-slim"),
        ("${V/slim/full}", "1.92.0-full"),
        ("${V//./_}", "1_92_0-slim"),
        ("${IMG}", "reg.io/a/b:c"),
        ("${NONE:?say it}", "! NONE: say it"),
        ("${A", "! `}` is missing"),
        ("${}", "! `${` must be followed by a name"),
        ("'open", "! a single quote is not closed"),
    ];
    for (word, wanted) in cases {
        assert_eq!(shown(word), wanted, "{word}");
    }
    assert!(shown(&format!("{}x{}", "${N:-".repeat(500), "}".repeat(500))).contains("too deeply"));
}

#[test]
fn tells_which_names_had_no_value() {
    let none: BTreeMap<String, String> = BTreeMap::new();
    let expanded = expand_by("${B:-x}$C${D:+y}", Rules::of('\\'), &none, &Budget::default()).expect("sound");
    assert_eq!(expanded.text, "x");
    assert_eq!(expanded.unset.iter().map(String::as_str).collect::<Vec<_>>(), ["C", "D"]);
}

fn lexed(line: &str) -> Vec<String> {
    let rules = Rules { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Rules::of('\\') };
    expand_by(line, rules, &Nothing, &Budget::default()).map(|found| found.words).unwrap_or_default()
}

#[test]
fn splits_a_line_as_for_here_documents() {
    assert_eq!(lexed("RUN cat <<  EOF 'a b'\\ c"), ["RUN", "cat", "<<  EOF", "'a b'\\ c"]);
    assert_eq!(lexed("RUN echo ${x:0:3} $y \"${z:-q}\" <<E"), ["RUN", "echo", "${x:0:3}", "$y", "\"${z:-q}\"", "<<E"]);
    // BuildKit forgets what stands before a modifier in one word.
    assert_eq!(lexed("a<<${x:-y}"), ["${x:-y}"]);
    assert_eq!(lexed("RUN ${x^^} <<E"), [""; 0], "what it cannot read has no words");
}

#[test]
fn a_variable_of_which_nothing_is_known_makes_a_word_uncertain() {
    struct Unknown;
    impl Values for Unknown {
        fn get(&self, _: &str) -> Value {
            Value::Unknown
        }
    }
    for word in ["$A", "${A:?needed}", "${A:-b}", "${A#b}"] {
        let found = expand_by(word, Rules::of('\\'), &Unknown, &Budget::default()).expect("sound");
        assert!(found.uncertain, "{word}");
    }
    assert!(expand_by("${A!}", Rules::of('\\'), &Unknown, &Budget::default()).is_err());
}

//! What foreign text looks like on a screen, a log and a CI.

use proptest::prelude::*;

use super::*;

/// Whether no line of a text is what a CI obeys. Written apart from the code that it judges.
fn is_obeyed(text: &str) -> bool {
    text.split(['\n', '\r']).any(|line| {
        let begin = line.trim_start();
        let words = ["##[", "##vso[", "##teamcity["];
        begin.starts_with("::")
            || begin.starts_with("section_start:")
            || words.iter().any(|word| line.to_ascii_lowercase().contains(word))
    })
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || c == '\t' || !(c.is_control() || "\u{2028}\u{2029}\u{202e}\u{2066}".contains(c)))
}

#[test]
fn a_value_is_one_line_and_shows_what_is_in_it() {
    let evil = "app\n::error::x\r\t\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2028}\u{200b}";
    assert_eq!(shown(evil), "app\\n::error::x\\r\\t\\x1b[2J\\x7f\\u{9b}\\u{202e}\\u{2028}\\u{200b}");
    assert_eq!(shown("naïve 漢字 C:\\x"), "naïve 漢字 C:\\x");
    assert_eq!(shown("a\u{200d}b"), "a\\u{200d}b");
    assert_eq!(shown("👩\u{200d}🚀 می\u{200c}خواهم"), "👩\u{200d}🚀 می\u{200c}خواهم");
    assert_eq!(shown_lines("a\u{7}\nb"), "a\\x07\nb");
}

#[test]
fn a_builds_line_keeps_colours_where_they_are_wanted_and_moves_nothing() {
    let line = "\u{1b}[31mred\u{1b}[0m\ttab\u{1b}]0;title\u{7}!\r\n";
    assert_eq!(output_line(line, false), "red    tab!");
    assert_eq!(output_line(line, true), "\u{1b}[31mred\u{1b}[0m    tab!");
    assert_eq!(output_line("10%\r50%\r100%", true), "100%");
    assert_eq!(output_line("\u{1b}[2J\u{1b}[", true), "\\x1b[");
    assert_eq!(output_line("\u{1b}]0;not ended", false), "\\x1b]0;not ended");
    assert_eq!(output_line("\u{1b}Pdevice\u{1b}\\a\u{9b}b\u{1b}(Bc\u{1b}7", false), "a\\u{9b}bc");
    assert_eq!(output_line("\u{1b}[8mhidden \u{1b}[38;5;9mred\u{1b}[1;48;5;1m", true), "hidden \u{1b}[38;5;9mred");
}

#[test]
fn what_leaves_has_sound_colours_that_end_with_their_line() {
    let drawing = "\u{1b}[31mred \u{1b}[2J\nnext\u{7}\ttab\r\n\u{1b}[1mb\u{1b}[0m";
    assert_eq!(harmless(drawing, true), "\u{1b}[31mred \\x1b[2J\u{1b}[0m\nnext\\x07\ttab\n\u{1b}[1mb\u{1b}[0m");
    assert_eq!(harmless(drawing, false), "red \\x1b[2J\nnext\\x07\ttab\nb");
    assert_eq!(harmless("a\rb", false), "a\\rb");
}

#[test]
fn what_leaves_is_no_command() {
    let commands = [
        ("::error::x", "\\::error::x"),
        (" \u{a0}\t::add-mask::x", " \u{a0}\t\\::add-mask::x"),
        ("a\n::stop-commands::x", "a\n\\::stop-commands::x"),
        ("see ##[error]x", "see #\\#[error]x"),
        ("##VSO[task.x]##teamcity[x]", "#\\#VSO[task.x]#\\#teamcity[x]"),
        ("###[x", "##\\#[x"),
        ("section_start:1:x", "\\section_start:1:x"),
        ("\u{1b}[0m::error::x", "\\::error::x"),
        ("#\u{1b}[0m#[error]", "#\\#[error]"),
    ];
    for (text, expected) in commands {
        assert_eq!(harmless(text, false), expected);
    }
    assert_eq!(harmless("\u{1b}[0m ::error::x", true), "\u{1b}[0m \\::error::x");
    for plain in ["## heading", "a ::b::c", "let x: [u8; 2] # ## no", "std::vec"] {
        assert_eq!(harmless(plain, false), plain);
    }
}

#[test]
fn json_means_the_same_and_commands_nothing() {
    let value = serde_json::json!({ "log": "##[error]\u{9b}\u{2028}\u{7f}\u{1b}\u{e0041}\u{202e} ###\n" });
    let text = harmless_json(&value.to_string());
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    assert!(is_plain(&text) && !is_obeyed(&text), "{text}");
}

#[test]
fn places_in_sources_stay_true() {
    let source = "a\u{1b}b\u{9b}c\u{202e}d\u{e0041}e\tf\n";
    let cleaned = shown_source(source);
    assert_eq!(cleaned, "a?b¿c\u{fffd}d\u{1f6c7}e\tf\n");
    assert_eq!(cleaned.find('f'), source.find('f'));
}

/// Text of pieces that mean something to a terminal or a CI.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\u{1b}",
        "[",
        "m",
        "31",
        ";",
        "0",
        "J",
        "]",
        "\u{7}",
        "\\",
        "\u{9b}",
        "\r",
        "\n",
        "\t",
        " ",
        ":",
        "::",
        "#",
        "##",
        "vso",
        "teamcity",
        "[x",
        "section_start:",
        "\u{2028}",
        "\u{202e}",
        "\u{a0}",
        "\u{85}",
        "\u{1b}[0m",
        "é",
        "\u{200b}",
        "error::",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_that_leaves_commands(text in pieces()) {
        let left = harmless(&text, false);
        prop_assert!(is_plain(&left) && !is_obeyed(&left), "{left:?}");
        let line = shown(&text);
        prop_assert!(is_plain(&line) && !line.contains(['\n', '\t']), "{line:?}");
        let output = harmless(&output_line(&text, false), false);
        prop_assert!(is_plain(&output) && !is_obeyed(&output) && !output.contains('\n'), "{output:?}");
        prop_assert_eq!(harmless(&left, false), left, "a second time changes nothing");
    }

    #[test]
    fn on_a_terminal_only_colours_are_left(text in pieces()) {
        let left = harmless(&text, true);
        for line in left.lines() {
            let mut plain = String::new();
            let mut rest = line;
            let mut last = None;
            while let Some(at) = rest.find('\u{1b}') {
                plain.push_str(&rest[..at]);
                let end = rest[at..].find('m').expect("a colour ends") + at + 1;
                prop_assert!(is_colour(&rest[at..end]), "{line:?}");
                last = Some(&rest[at..end]);
                rest = &rest[end..];
            }
            plain.push_str(rest);
            prop_assert!(is_plain(&plain), "{line:?}");
            prop_assert!(last.is_none_or(|last| last == "\u{1b}[0m" || last == "\u{1b}[m"), "{line:?}");
        }
    }
}

//! Measures, pads, shortens and sanitises text for terminals. Not responsible for: colours.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub use crate::domain::base::counted as count;

/// Columns that a text takes, without its escape sequences.
pub fn width(text: &str) -> usize {
    if text.contains('\u{1b}') { clean(text).width() } else { text.width() }
}

/// Pads on the right to this many columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Pads on the left to this many columns.
pub fn pad_left(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Cuts to this many columns, with an ellipsis if anything is missing. Only for text without escape sequences.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut taken = 1;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

/// `€0.03`, `CHF 1.20`: from millionths of the currency's unit, rounded up to hundredths.
pub fn money(currency: &str, micros: u64) -> String {
    let cents = micros.div_ceil(10_000);
    let number = format!("{}.{:02}", cents / 100, cents % 100);
    match currency {
        "EUR" => format!("€{number}"),
        "USD" => format!("${number}"),
        other => format!("{other} {number}"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Sanitises one line of untrusted text for a terminal: removes escape sequences (they could rewrite the screen or
/// its title), control characters and direction overrides; replaces tabs by blanks. Of a line rewritten with `\r`,
/// keeps the last version.
pub fn clean(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => drop(escape(&mut chars)),
            '\t' => text.push_str("    "),
            c if c.is_control() || turns(c) => {}
            c => text.push(c),
        }
    }
    text
}

/// Sanitises several lines, each with [`clean`].
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Sanitises rendered text that contains untrusted parts: keeps only colours, and those only if `colour` is set.
pub fn tame(drawing: &str, colour: bool) -> String {
    let mut text = String::with_capacity(drawing.len());
    let mut chars = drawing.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match escape(&mut chars) {
                Some(parameters) if colour => text.push_str(&format!("\u{1b}[{parameters}m")),
                _ => {}
            },
            '\n' => text.push('\n'),
            '\t' => text.push_str("    "),
            c if c.is_control() || turns(c) => {}
            c => text.push(c),
        }
    }
    text
}

/// Sanitises source code: replaces control characters by others of the same byte length, so that offsets stay valid.
pub fn clean_source(text: &str) -> String {
    let replaced = |c: char| match c {
        '\n' | '\r' | '\t' => c,
        c if turns(c) => '\u{fffd}',
        c if c.is_control() && c.len_utf8() == 2 => '¿',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(replaced).collect()
}

/// Characters that change the text direction: they could disguise the text.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Consumes an escape sequence; returns its parameters if it only sets a colour.
fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    match chars.next() {
        Some('[') => {
            let mut parameters = String::new();
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    let plain = parameters.chars().all(|c| c.is_ascii_digit() || c == ';');
                    return (c == 'm' && plain).then_some(parameters);
                }
                parameters.push(c);
            }
        }
        // Titles, links and device commands end with a bell or a string terminator.
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\ttab\u{1b}]0;title\u{7}!\r\n"), "red    tab!");
        assert_eq!(clean("10%\r50%\r100%"), "100%");
        assert_eq!(clean("\u{1b}[2J\u{1b}["), "");
        assert_eq!(clean("\u{1b}Pdevice\u{1b}\\a\u{9b}b\u{202e}c"), "abc");
    }

    #[test]
    fn a_drawing_keeps_colours_where_they_are_wanted() {
        let drawing = "\u{1b}[31mred\u{1b}[0m \u{1b}[2J\u{1b}[5;5Hgone\nnext\u{7}";
        assert_eq!(tame(drawing, true), "\u{1b}[31mred\u{1b}[0m gone\nnext");
        assert_eq!(tame(drawing, false), "red gone\nnext");
    }

    #[test]
    fn places_in_sources_stay_true() {
        let source = "a\u{1b}b\u{9b}c\u{202e}d\te\n";
        let cleaned = clean_source(source);
        assert_eq!(cleaned, "a?b¿c\u{fffd}d\te\n");
        assert_eq!(cleaned.find('d'), source.find('d'));
    }

    #[test]
    fn widths_are_columns() {
        assert_eq!(cut("naïve 漢字 text", 10), "naïve 漢…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(pad("漢", 4), "漢  ");
        assert_eq!(pad_left("漢", 4), "  漢");
        assert_eq!(width("\u{1b}[32m漢\u{1b}[0m"), 2);
    }
}

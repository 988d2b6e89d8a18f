//! Measures, pads and shortens text for terminals. Not responsible for: colours; what foreign text may hold (see
//! `domain::base`).

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::domain::base::output_line;
pub use crate::domain::base::{counted as count, shown};

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
        other => format!("{} {number}", shown(other)),
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

/// A line that a build or a tool wrote, without its colours.
pub fn clean(line: &str) -> String {
    output_line(line, false)
}

/// The same of several lines.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_columns() {
        assert_eq!(cut("naïve 漢字 text", 10), "naïve 漢…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(pad("漢", 4), "漢  ");
        assert_eq!(pad_left("漢", 4), "  漢");
        assert_eq!(width("\u{1b}[32m漢\u{1b}[0m"), 2);
    }
}

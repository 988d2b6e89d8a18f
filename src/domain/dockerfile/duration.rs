//! Durations as Go writes them: `1h2m3.5s`. Not responsible for: which durations make sense.

/// Nanoseconds; `None` if the text is no duration.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let limit = 1u64 << 63;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let whole = if digits == 0 { 0 } else { rest[..digits].parse::<u64>().ok().filter(|n| *n <= limit)? };
        rest = &rest[digits..];
        let mut fraction = "";
        if let Some(behind) = rest.strip_prefix('.') {
            let length = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
            (fraction, rest) = behind.split_at(length);
        }
        if digits == 0 && fraction.is_empty() {
            return None;
        }
        let length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, behind) = rest.split_at(length);
        rest = behind;
        let unit: u64 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let part: f64 = format!("0.{fraction}0").parse().ok()?;
        let time = whole.checked_mul(unit).filter(|n| *n <= limit)?;
        let time = time + (part * unit as f64) as u64;
        total = total.checked_add(time).filter(|n| *n <= limit)?;
    }
    match (negative, total) {
        (true, total) if total == limit => Some(i64::MIN),
        (true, total) => i64::try_from(total).ok().map(|n| -n),
        (false, total) => i64::try_from(total).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn reads_what_go_reads() {
        assert_eq!(nanoseconds("1m30s"), Some(90_000_000_000));
        assert_eq!(nanoseconds("1.5ms"), Some(1_500_000));
        assert_eq!(nanoseconds("-.5s"), Some(-500_000_000));
        assert_eq!(nanoseconds("0"), Some(0));
        for text in ["", "5", "s", ".s", "1x", "1 s", "9999999999h"] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}

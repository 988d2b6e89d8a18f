//! Counted nouns for people: one place that knows plurals. Not responsible for: units of time and size (see `time`).

/// `1 layer`, `2 layers`, `0 registries`, `2 leases of dead runs`: the first word of the noun takes the plural.
pub fn counted(number: usize, noun: &str) -> String {
    let (head, rest) =
        noun.split_once(" of ").map_or((noun, String::new()), |(head, rest)| (head, format!(" of {rest}")));
    if number == 1 { format!("1 {noun}") } else { format!("{number} {}{rest}", plural(head)) }
}

fn plural(noun: &str) -> String {
    let before = noun.chars().rev().nth(1).unwrap_or('a');
    match noun.chars().next_back() {
        Some('y') if !"aeiou".contains(before) => format!("{}ies", &noun[..noun.len() - 1]),
        Some('s' | 'x' | 'z') => format!("{noun}es"),
        Some('h') if matches!(before, 'c' | 's') => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// The verb that agrees with a number: `is` for one, `are` for none and for more.
pub fn agrees<'a>(number: usize, one: &'a str, more: &'a str) -> &'a str {
    if number == 1 { one } else { more }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_else_is_many() {
        let said = |noun| [0, 1, 2].map(|number| counted(number, noun));
        assert_eq!(said("minute"), ["0 minutes", "1 minute", "2 minutes"]);
        assert_eq!(said("registry"), ["0 registries", "1 registry", "2 registries"]);
        assert_eq!(said("day"), ["0 days", "1 day", "2 days"]);
        assert_eq!(said("patch"), ["0 patches", "1 patch", "2 patches"]);
        assert_eq!(said("started hour"), ["0 started hours", "1 started hour", "2 started hours"]);
        let runners = "runner of dead runs";
        assert_eq!(said(runners), ["0 runners of dead runs", "1 runner of dead runs", "2 runners of dead runs"]);
        assert_eq!([0, 1, 2].map(|number| agrees(number, "waits", "wait")), ["wait", "waits", "wait"]);
    }
}

//! Quotes what a program said about its failure: the cause, not only the last line, which often just sums up. Not
//! responsible for: what the words mean.

/// The most lines that are quoted.
const LINES: usize = 3;
/// The most characters of a line.
const CHARS: usize = 400;

/// The lines of an error output that name a cause, in one line; `None` if it has none. `summaries` are words of lines
/// that only sum up or give general advice. They are quoted only if there is nothing else.
pub fn cause(words: &str, summaries: &[&str]) -> Option<String> {
    let lines = || words.lines().map(str::trim).filter(|line| line.chars().any(char::is_alphanumeric));
    let sums_up = |line: &&str| summaries.iter().any(|summary| line.contains(summary));
    let mut told: Vec<&str> = Vec::new();
    for line in lines().filter(|line| !sums_up(line)) {
        if !told.contains(&line) {
            told.push(line);
        }
    }
    if told.is_empty() {
        told.extend(lines().next_back());
    }
    // What a program says first is what happened; what it says last is what it gave up with.
    if told.len() > LINES {
        told.drain(1..=told.len() - LINES);
    }
    let short = |line: &str| match line.char_indices().nth(CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    };
    let told: Vec<String> = told.into_iter().map(short).collect();
    Some(told.join("; ")).filter(|told| !told.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_quoted_and_not_the_line_that_sums_up() {
        let docker = "Error response from daemon: driver failed\nError: failed to start containers: x\n";
        let summaries = ["failed to start containers"];
        assert_eq!(cause(docker, &summaries).as_deref(), Some("Error response from daemon: driver failed"));
        assert_eq!(cause("Error: failed to start containers: x", &summaries).as_deref().map(str::len), Some(36));
        let ssh = "@@@@@@\n@ WARNING @\n@@@@@@\nLoad key \"k\": invalid format\nroot@h: Permission denied.";
        let told = cause(ssh, &[]).expect("words");
        assert_eq!(told, "@ WARNING @; Load key \"k\": invalid format; root@h: Permission denied.");
        assert_eq!(cause(" \n@@@\n", &[]), None);
        assert_eq!(cause("one\ntwo\nthree\ntwo\nfour\nfive", &[]).as_deref(), Some("one; four; five"));
        assert_eq!(cause(&"ä".repeat(1000), &[]).map(|line| line.chars().count()), Some(CHARS + 1));
    }
}

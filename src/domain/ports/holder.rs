//! Who holds a runner that many share, as its holder wrote it there. Not responsible for: the lock that makes it true.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::base::{human_duration, shown};

/// The most characters of a field that are shown.
const CHARS: usize = 64;

/// Who holds a runner. Everybody who may log in there can read it: it holds nothing secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// `user@machine`.
    pub owner: String,
    /// The run.
    pub run: String,
    /// The folder of the run's project, by its name.
    pub workspace: String,
    /// The lease.
    pub lease: String,
}

/// A runner that somebody holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The holder; `None` if it left no name.
    pub by: Option<Holder>,
    /// For how long, by the runner's own clock.
    pub age: Option<Duration>,
}

impl Holder {
    /// What a runner's lock file says after its first line, which is the time. `None` if it is nothing of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let Self { owner, run, workspace, lease } = serde_json::from_str(text).ok()?;
        let read =
            Self { owner: bounded(&owner), run: bounded(&run), workspace: bounded(&workspace), lease: bounded(&lease) };
        (read != Self::default()).then_some(read)
    }
}

impl Held {
    /// From what a runner's lock file holds (its holder's time in seconds, and its name) and the runner's time now.
    pub fn parse(now: &str, text: &str) -> Self {
        let (since, holder) = text.split_once('\n').unwrap_or((text, ""));
        let seconds = |text: &str| text.trim().parse::<u64>().ok();
        let age = seconds(since).and_then(|since| Some(seconds(now)?.saturating_sub(since)));
        Self { by: Holder::parse(holder), age: age.map(Duration::from_secs) }
    }
}

impl fmt::Display for Held {
    /// `held by ana@laptop (run 7f3a9c21, workspace shop) for 12m 03s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(Holder { owner, run, workspace, .. }) => {
                let of = if workspace.is_empty() { String::new() } else { format!(", workspace {workspace}") };
                write!(f, "held by {owner} (run {run}{of})")?;
            }
            None => f.write_str("held by somebody who left no name")?,
        }
        match self.age {
            Some(age) => write!(f, " for {}", human_duration(Duration::from_secs(age.as_secs().max(1)))),
            None => Ok(()),
        }
    }
}

/// Foreign text as a part of one line, bounded.
fn bounded(text: &str) -> String {
    let begin: String = text.chars().take(CHARS).collect();
    let more = if begin.len() < text.len() { "…" } else { "" };
    shown(&begin) + more
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::base::mutated::mutated_texts;

    proptest! {
        #[test]
        fn any_bytes_are_a_holder_or_nobody(
            now in mutated_texts(&["1723", "18446744073709551615", "0"]),
            text in mutated_texts(&[
                "1000\n{\"owner\": \"ana@laptop\", \"run\": \"7f3a\", \"workspace\": \"shop\", \"lease\": \"1\"}\n",
                "18446744073709551615\n{}",
            ]),
        ) {
            let held = Held::parse(&String::from_utf8_lossy(&now), &String::from_utf8_lossy(&text));
            let said = held.to_string();
            prop_assert!(said.starts_with("held by "));
            prop_assert!(!said.contains(char::is_control) && said.len() < 3_000, "{said}");
        }
    }

    #[test]
    fn what_a_holder_wrote_is_read_and_told() {
        let holder = Holder {
            owner: "ana@laptop".into(),
            run: "7f3a9c21".into(),
            workspace: "shop".into(),
            lease: "7f3a9c21-1".into(),
        };
        let text = format!("1000\n{}\n", serde_json::to_string(&holder).expect("plain data"));
        let held = Held::parse("1723", &text);
        assert_eq!(held, Held { by: Some(holder), age: Some(Duration::from_secs(723)) });
        assert_eq!(held.to_string(), "held by ana@laptop (run 7f3a9c21, workspace shop) for 12m 03s");
    }

    #[test]
    fn foreign_text_is_bounded_and_moves_no_cursor() {
        let text = format!("{{\"owner\": \"\\u001b[2J{}\", \"run\": \"\\u202eabc\\n\"}}", "x".repeat(5000));
        let read = Holder::parse(&text).expect("an object");
        assert!(read.owner.starts_with("\\x1b[2Jxxx") && read.owner.chars().count() < 80, "{read:?}");
        assert_eq!(read.run, "\\u{202e}abc\\n");
        let nobody = "held by somebody who left no name";
        for text in ["", "9", "soon\n[1]", "\n{}", "x\n{\"owner\": 3}", "5\n{\"owner\": \"cut o"] {
            let held = Held::parse("3", text);
            assert!(held.by.is_none() && held.to_string().starts_with(nobody), "{text:?}: {held}");
        }
        // A clock that was set back makes no age of centuries.
        assert_eq!(Held::parse("3", "9\n{}").age, Some(Duration::ZERO));
    }
}

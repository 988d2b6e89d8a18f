//! The flags of instructions: which there are, and which of them take a value. Not responsible for: what values mean.

use super::words::{Bad, Piece};
use crate::domain::base::nearest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `true` or `false`, or nothing.
    Switch,
    /// One value; the flag stands once.
    One,
    /// A value each time.
    Many,
}

/// A flag with a value.
#[derive(Debug)]
pub(super) struct Flag {
    pub name: &'static str,
    /// The value, with the place of the value if it stands there as it is meant, else of the whole flag.
    pub value: Piece,
}

/// Reads flags. `line` is the line that the pieces are cut from.
pub(super) fn read(
    line: &[u8],
    flags: &[Piece],
    known: &[(&'static str, Takes)],
    command: &str,
) -> Result<Vec<Flag>, Bad> {
    let mut found: Vec<Flag> = Vec::new();
    let mut switches = Vec::new();
    for flag in flags {
        let (name, value) = match flag.text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.text.as_str(), None),
        };
        let bare = name.strip_prefix("--").unwrap_or(name);
        let Some((known, takes)) = known.iter().copied().find(|(known, _)| *known == bare) else {
            return Err(unknown(flag, name, known, command));
        };
        if takes != Takes::Many && (switches.contains(&known) || found.iter().any(|flag| flag.name == known)) {
            return Err(Bad::at(flag, format!("`{name}` is there twice"), "keep one of them"));
        }
        match (takes, value) {
            (Takes::Switch, None) => switches.push(known),
            (Takes::Switch, Some(value)) if ["true", "false"].contains(&value.to_ascii_lowercase().as_str()) => {
                switches.push(known);
            }
            (Takes::Switch, Some(_)) => {
                let message = format!("`{}` is neither true nor false", flag.text);
                return Err(Bad::at(flag, message, format!("write `{name}`, or `{name}=false`")));
            }
            (Takes::One | Takes::Many, None) => {
                let message = format!("`{name}` has no value");
                return Err(Bad::at(flag, message, format!("write `{name}=…`")));
            }
            (Takes::One | Takes::Many, Some(value)) => {
                let exact = line[flag.start..flag.end] == *flag.text.as_bytes();
                let start = if exact && !value.is_empty() { flag.end - value.len() } else { flag.start };
                found.push(Flag { name: known, value: Piece { text: value.to_owned(), start, end: flag.end } });
            }
        }
    }
    Ok(found)
}

fn unknown(flag: &Piece, name: &str, known: &[(&'static str, Takes)], command: &str) -> Bad {
    let command = command.to_uppercase();
    let names = known.iter().map(|(known, _)| *known);
    let help = match nearest(name.trim_start_matches('-'), names.clone()) {
        Some(meant) => format!("did you mean `--{meant}`?"),
        None if known.is_empty() => {
            format!("{command} has no flags: for an argument that begins with `--`, write `--` before it")
        }
        None => format!("{command} knows `--{}`", names.collect::<Vec<_>>().join("`, `--")),
    };
    Bad::at(flag, format!("`{name}` is not a flag of {command}"), help)
}

//! How far a command may go without asking: what the command line says of trust. Not responsible for: what is wanted.

use std::path::PathBuf;

use super::want::Want;

/// What the command line, or LIAN_TRUST, grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Given {
    /// Nothing: what is recorded counts.
    #[default]
    Nothing,
    /// Everything that can be granted.
    All,
    /// What is in this file, too.
    File(PathBuf),
}

/// Asks a person whether all of this is granted.
pub type Ask = fn(&[Want]) -> bool;

/// How far a command may go.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// What the command line grants.
    pub given: Given,
    /// Asks, if somebody is there.
    pub ask: Option<Ask>,
}

impl std::str::FromStr for Given {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" => Self::Nothing,
            "all" => Self::All,
            file => Self::File(file.into()),
        })
    }
}

//! The result of one of `doctor`'s checks. Not responsible for: the checks.

/// The result of one check.
pub struct Finding {
    /// The name of what was checked.
    pub name: String,
    /// Its status.
    pub state: State,
    /// What was found.
    pub told: String,
    /// The next action.
    pub mend: Option<String>,
}

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Well,
    /// Some commands do not work without it.
    Advice,
    /// No build works without it.
    Missing,
}

impl State {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Advice => "advice",
            Self::Missing => "missing",
        }
    }
}

impl Finding {
    /// It works.
    pub fn well(name: impl Into<String>, told: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Well, told: told.into(), mend: None }
    }

    /// No build works without it, and this is the next action.
    pub fn missing(name: impl Into<String>, told: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Missing, told: told.into(), mend: Some(mend.into()) }
    }
}

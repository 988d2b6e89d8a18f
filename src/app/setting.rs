//! A value with its origin: flag, environment, workflow or default. Not responsible for: what the values mean.

use std::ops::Deref;

/// The origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable that stands for a flag.
    Environment,
    /// The workflow.
    Workflow,
    /// The default.
    Default,
}

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// The flag's value if it was given, else the workflow's, else the default.
    pub fn choose(flag: Option<T>, workflow: Option<T>, default: impl FnOnce() -> T) -> Self {
        match (flag, workflow) {
            (Some(value), _) => Self { value, origin: Origin::Flag },
            (None, Some(value)) => Self { value, origin: Origin::Workflow },
            (None, None) => Self::default(default()),
        }
    }

    /// A default value.
    pub fn default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    /// Whether a flag or the environment set it: it then overrides the workflow.
    pub fn is_for_this_command(&self) -> bool {
        matches!(self.origin, Origin::Flag | Origin::Environment)
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

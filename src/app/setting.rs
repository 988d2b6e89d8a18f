//! A value that can be said in several places, and which of them said it. Not responsible for: what the values mean.

use std::ops::Deref;

/// Who said a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable that stands for a flag.
    Environment,
    /// The workflow.
    Workflow,
    /// Nobody: it is the default.
    Default,
}

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Who said it.
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

    /// A value that nobody said.
    pub fn default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    /// Whether it was said for this command, by flag or environment: then it wins over the workflow.
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

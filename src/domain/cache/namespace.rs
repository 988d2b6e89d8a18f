//! Namespaces: the parts of a registry that belong to a workspace's CI, to its helping jobs, or to one actor's sessions. Not
//! responsible for: who may use which (see `access`).

use std::fmt;

use super::word::{self, NameFault};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name, if it can be one: lower-case ASCII letters and digits, parted by single `.`, `_` or `-`, at most 63.
            pub fn parse(text: &str) -> Result<Self, NameFault> {
                word::check(text).map(|()| Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A workspace: what is built together and shares its caches.
    Workspace
);
name!(
    /// Who a person or an agent is.
    ActorId
);

/// The part of a CI namespace that its helping jobs write.
const AUX: &str = "aux";

/// A part of a registry that has one kind of writer. Different namespaces have different texts, and none lies in another but
/// [`Aux`](Self::Aux) in its [`Ci`](Self::Ci), whose own repositories have one part more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `ci/<workspace>`.
    Ci(Workspace),
    /// `ci/<workspace>/aux`.
    Aux(Workspace),
    /// `dev/<actor>-<workspace>`.
    Dev(ActorId, Workspace),
}

impl Namespace {
    /// Whether a repository, without registry and tag, lies in it. What is spelled as no registry has it lies nowhere.
    pub fn holds(&self, repository: &str) -> bool {
        let below = repository.strip_prefix(&self.to_string()).and_then(|rest| rest.strip_prefix('/'));
        let Some(below) = below.filter(|_| word::is_path(repository)) else { return false };
        // The part of helping jobs is theirs.
        !matches!(self, Self::Ci(_)) || below.split_once('/').is_none_or(|(first, _)| first != AUX)
    }

    /// Whose it is.
    pub fn workspace(&self) -> &Workspace {
        match self {
            Self::Ci(workspace) | Self::Aux(workspace) | Self::Dev(_, workspace) => workspace,
        }
    }

    /// The repository of an image in it.
    pub fn repository(&self, image: impl fmt::Display) -> String {
        format!("{self}/{image}")
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ci(workspace) => write!(f, "ci/{workspace}"),
            Self::Aux(workspace) => write!(f, "ci/{workspace}/{AUX}"),
            // The first `-` parts the two names: one in an actor's is written `__`, which no name has.
            Self::Dev(actor, workspace) => write!(f, "dev/{}-{workspace}", actor.as_str().replace('-', "__")),
        }
    }
}

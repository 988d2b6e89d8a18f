//! What a caller says of a build beside how it is run: who asks, for which workspace, which image, and what becomes of the
//! caches (`BuildDirectives`). Not responsible for: what an actor may read and write (see `domain::cache`).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The libraries whose layers a build may use where directives name none.
pub const LIBRARIES: [&str; 1] = ["lamina"];

/// Who asks for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// CI, for what is shipped.
    Ci,
    /// A person.
    Human,
    /// A program that works for a person.
    Agent,
    /// A helping job of CI, whose results are not shipped.
    CiAux,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ci => "ci",
            Self::Human => "human",
            Self::Agent => "agent",
            Self::CiAux => "ci_aux",
        })
    }
}

/// What becomes of the cache that a session fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It is written back after a success.
    Export,
    /// Nothing of it survives.
    Discard,
    /// After a failure cache and tags are what they were.
    Rollback,
}

/// What a build reads and writes of the shared caches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePolicy {
    /// Who asks.
    pub actor: Actor,
    /// What becomes of a session's cache; default: `Export`.
    #[serde(default)]
    pub disposition: Option<Disposition>,
    /// Namespaces or repositories that are read; default: all that the actor may read.
    #[serde(default)]
    pub reads: Option<Vec<String>>,
    /// Namespaces or repositories that are written; default: all that the actor may write.
    #[serde(default)]
    pub writes: Option<Vec<String>>,
}

/// The image that directives ask for, and what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `[registry/]namespace/name[:tag]`; default for a session: named after the workspace, in its own namespace.
    #[serde(default)]
    pub image: Option<String>,
    /// The build context; default: the project's root.
    #[serde(default)]
    pub context: Option<PathBuf>,
    /// The Dockerfile; default: the context's.
    #[serde(default)]
    pub dockerfile: Option<PathBuf>,
    /// The stage to build; default: the last one.
    #[serde(default)]
    pub target: Option<String>,
}

//! The interface for reading a layer's inputs from disk. Not responsible for: validating them.

use std::path::{Path, PathBuf};

use crate::domain::model::{Classified, FaultClass, Listing};

/// lian-build's own entries at a context's root, which are part of no build and so of no key. `.lian` changes during a
/// build. `.build-spec.ncl` chooses the runner; it does not affect content.
pub const OWN: [&str; 2] = [".lian", ".build-spec.ncl"];

/// A context could not be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ContextError {
    /// The folder does not exist.
    #[error("the context {path} does not exist")]
    #[diagnostic(code(lian::context::missing), help("create the folder, or correct `context`"))]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The folder or the Dockerfile lies outside the project.
    #[error("{path} leads outside the project {root}")]
    #[diagnostic(code(lian::context::outside), help("keep contexts and Dockerfiles below the project's root"))]
    Outside {
        /// The path, as declared.
        path: PathBuf,
        /// The project root.
        root: PathBuf,
    },
    /// The ignore file has an invalid pattern.
    #[error("{path}, line {line}: {what}")]
    #[diagnostic(code(lian::context::ignore_pattern), help("correct the pattern"))]
    Pattern {
        /// The ignore file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    #[diagnostic(code(lian::context::unreadable), help("check its permissions, or exclude it in .dockerignore"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl Classified for ContextError {
    fn class(&self) -> FaultClass {
        FaultClass::Build
    }
}

/// Reads build contexts. The calls block.
pub trait ContextReader: Send + Sync {
    /// Every entry that a build of `dockerfile` with `context` would see. Both paths must resolve to locations inside
    /// `project_root`.
    fn list(&self, project_root: &Path, context: &Path, dockerfile: &Path) -> Result<Listing, ContextError>;
}

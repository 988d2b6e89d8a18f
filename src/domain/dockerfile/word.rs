//! A word and where it stands. Not responsible for: what it means.

use crate::domain::base::Span;

/// A word of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written, without line continuations.
    pub text: String,
    /// Its bytes in the file.
    pub span: Span,
}

/// The id of a secret or of an ssh socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountId {
    /// The id.
    pub word: Word,
    /// Whether the build fails without it.
    pub required: bool,
}

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

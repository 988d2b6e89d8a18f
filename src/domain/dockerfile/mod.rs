//! Which images, stages, arguments and secrets a Dockerfile really uses, read as BuildKit 0.32 reads it. Not
//! responsible for: reading files, and whether a catalog agrees.

mod expand;
mod heredoc;
mod mounts;
mod parse;
mod references;
#[cfg(test)]
mod references_tests;
mod resolver;
#[cfg(test)]
mod tests;

pub use parse::{Arg, Dockerfile, Needs, Source, Stage, Word, parse};
pub use references::{read, references, triggers, triggers_in};
pub use resolver::{Reading, Triggers};

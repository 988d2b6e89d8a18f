//! Which images, stages, arguments and secrets a Dockerfile really uses, read as BuildKit 0.32 reads it. Not
//! responsible for: reading files, and whether a catalog agrees.

mod budget;
#[cfg(test)]
mod bytes_tests;
mod checks;
mod decider;
mod directives;
mod duration;
mod evaluate;
mod expand;
mod flags;
mod go;
mod heredoc;
mod instruction;
mod json;
mod lines;
mod lint;
mod lint_from;
mod mounts;
mod parse;
mod pattern;
mod platform;
mod references;
#[cfg(test)]
mod references_tests;
mod resolver;
mod selected;
mod source_text;
mod stage_names;
mod steps;
#[cfg(test)]
mod tests;
mod trigger;
mod values;
mod word;
mod words;

pub use mounts::MountFlag;
pub use parse::{parse, parse_source};
pub use references::{read, read_on_bare_images, references, triggers, triggers_in};
pub use resolver::{Reading, Triggers};
pub use source_text::SourceText;
pub use steps::{Arg, Copy, Dockerfile, Needs, Run, Source, Stage, Step, StepKind, Written};
pub use word::{MountId, Word};

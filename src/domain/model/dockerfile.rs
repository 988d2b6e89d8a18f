//! What a Dockerfile says about its neighbours, as data: the images that it uses and the names that it asks for.
//! Not responsible for: reading a Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::domain::base::{Platform, Span};

/// The instruction that names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UseKind {
    /// `FROM image`.
    From,
    /// `COPY --from=image`.
    Copy,
    /// `RUN --mount=from=image`.
    Mount,
}

/// One use of an image that is neither a stage of the same file nor `scratch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The reference, variables replaced.
    pub image: String,
    /// The instruction.
    pub kind: UseKind,
    /// Bytes of the image's word in the Dockerfile.
    pub span: Span,
    /// The stage that uses it, counted from 0.
    pub stage: usize,
    /// `FROM --platform=`, variables replaced.
    pub platform: Option<Platform>,
}

/// One `FROM` and what it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageName {
    /// The lower-case name after `AS`.
    pub name: Option<String>,
    /// Bytes of the name's word, or of the image's where there is none.
    pub span: Span,
}

/// What the stages that a build of the target reaches use and ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerfileFacts {
    /// Images, in the order of the file.
    pub uses: Vec<ImageUse>,
    /// Images of stages that this build does not reach, and that another build argument or target may.
    pub unreached: Vec<ImageUse>,
    /// Whether a stage that this build reaches stands on nothing: `FROM scratch`.
    pub from_scratch: bool,
    /// Names of every `ARG`, global or in a reached stage.
    pub declared_args: BTreeSet<String>,
    /// Ids of secret mounts, each with its first place.
    pub secret_ids: BTreeMap<String, Span>,
    /// Ids of ssh mounts, each with its first place.
    pub ssh_ids: BTreeMap<String, Span>,
    /// All stages, reached or not.
    pub stages: Vec<StageName>,
    /// The frontend that `# syntax=` asks for.
    pub syntax: Option<(String, Span)>,
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DockerfileFaultKind {
    /// It cannot be read as a Dockerfile.
    Parse,
    /// A stage is named that is not there, or not yet.
    UnknownStage,
    /// A variable in an image's name has no value, or stands where BuildKit replaces none.
    Variable,
    /// An image's name is no image reference.
    Image,
}

impl DockerfileFaultKind {
    /// The stable code of its diagnostic.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Parse => "lian::dockerfile::parse",
            Self::UnknownStage => "lian::dockerfile::unknown_stage",
            Self::Variable => "lian::dockerfile::variable",
            Self::Image => "lian::dockerfile::image",
        }
    }
}

/// One fault of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileFault {
    /// Which.
    pub kind: DockerfileFaultKind,
    /// What is wrong, without a full stop.
    pub message: String,
    /// Where in the Dockerfile; `None` where the layer's `target` is at fault.
    pub span: Option<Span>,
    /// The next action.
    pub help: Option<String>,
}

impl DockerfileFault {
    /// What the reader could not read, and where.
    pub fn parse(span: Span, message: impl Into<String>) -> Self {
        Self { kind: DockerfileFaultKind::Parse, message: message.into(), span: Some(span), help: None }
    }

    /// Sets the help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A layer's Dockerfile that was found, read or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileRead {
    /// The file, as displayed.
    pub file: PathBuf,
    /// What it says, or all that is wrong with it.
    pub facts: Result<DockerfileFacts, Vec<DockerfileFault>>,
}

//! What a Dockerfile uses, as data: images, arguments, secrets, stages. Not responsible for: reading a Dockerfile.

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

/// The `ONBUILD` line behind something that a Dockerfile does not say itself: it belongs to the image that a stage is
/// based on, and runs in that stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// That image, in familiar form.
    pub image: String,
    /// The byte range of the word in the image's own Dockerfile, if it is a layer of the catalog.
    pub span: Span,
}

/// One use of an image. Stages of the same file and `scratch` are not images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The reference, with its variables replaced.
    pub image: String,
    /// The instruction.
    pub kind: UseKind,
    /// The byte range of the image's word in the Dockerfile; for a trigger that of the `FROM` that runs it.
    pub span: Span,
    /// The stage that uses it, counted from 0.
    pub stage: usize,
    /// The platforms for which it is needed: the value of `FROM --platform=`, else what the layer is built for.
    pub platforms: Vec<Platform>,
    /// Whether the machine that builds decides these platforms (`FROM --platform=$BUILDPLATFORM`).
    pub for_builder: bool,
    /// Whether what the layer is built for decides them. If neither does, the Dockerfile fixes them.
    pub for_target: bool,
    /// The trigger that uses it; `None` if the Dockerfile does.
    pub trigger: Option<Trigger>,
}

impl ImageUse {
    /// Whether both are the same words of the Dockerfile with the same meaning, for whatever platforms.
    fn is_same(&self, other: &Self) -> bool {
        (&self.image, self.kind, self.span, self.stage) == (&other.image, other.kind, other.span, other.stage)
            && self.trigger == other.trigger
    }
}

/// What an image begins with on one platform, where a `FROM --platform=` says it: the one of the stage that is built, or
/// of the stage at the end of those that it is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlatform {
    /// The byte range of the value of `--platform=`.
    pub span: Span,
    /// What the layer is built for.
    pub wanted: Platform,
    /// What the stage is of.
    pub found: Platform,
    /// Whether the machine that builds decides that.
    pub for_builder: bool,
    /// Whether what the layer is built for decides that.
    pub for_target: bool,
}

/// The place of a mount: of a secret or an ssh socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlace {
    /// The byte range of its id in the Dockerfile; for a trigger that of the `FROM` that runs it.
    pub span: Span,
    /// The trigger that mounts it; `None` if the Dockerfile does.
    pub trigger: Option<Trigger>,
    /// Whether a mount of it is `required`: the build fails without it.
    pub required: bool,
}

/// One `FROM`, which begins a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageName {
    /// The lower-case name after `AS`.
    pub name: Option<String>,
    /// The byte range of the name's word, or of the image's word if there is no name.
    pub span: Span,
}

/// What the stages that a target needs use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerfileFacts {
    /// Images, in the order of the file.
    pub uses: Vec<ImageUse>,
    /// What the image begins with, on each platform where `FROM --platform=` says it.
    pub begins: Vec<StagePlatform>,
    /// Images of stages that this target does not need, and that another build argument or target may need.
    pub unreached: Vec<ImageUse>,
    /// Whether a needed stage is `FROM scratch`.
    pub from_scratch: bool,
    /// The names of all `ARG`s, global or in a needed stage.
    pub declared_args: BTreeSet<String>,
    /// The ids of secret mounts, each with its first place.
    pub secret_ids: BTreeMap<String, MountPlace>,
    /// The ids of ssh mounts, each with its first place.
    pub ssh_ids: BTreeMap<String, MountPlace>,
    /// Images, in familiar form, that BuildKit looks up and takes nothing from: it reads the triggers of an image even
    /// where that is only copied from.
    pub looked_up: BTreeSet<String>,
    /// All stages, whether needed or not.
    pub stages: Vec<StageName>,
    /// Needed stages that have the name of an image that is used, each with the place of its name. A named context
    /// would replace such a stage.
    pub shadows: BTreeMap<String, Span>,
    /// The frontend that `# syntax=` names.
    pub syntax: Option<(String, Span)>,
    /// What BuildKit's rules of style find, on the first platform.
    pub lint: Vec<LintFinding>,
    /// Files of the context that are copied, as far as their names are known, with the bytes of the instruction: where
    /// it is an error if the ignore file leaves them out (`# check=error=true`).
    pub must_exist: Vec<(String, Span)>,
    /// What may fail the build and hangs on an image whose configuration is not known.
    pub doubts: Vec<DockerfileFault>,
}

/// What one of BuildKit's rules of style finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintFinding {
    /// BuildKit's name of the rule.
    pub rule: &'static str,
    /// What is found, without a full stop.
    pub message: String,
    /// The place in the Dockerfile.
    pub span: Span,
    /// Whether it holds whatever the images say on which stages are based.
    pub sure: bool,
}

impl DockerfileFacts {
    /// Adds what the same Dockerfile uses on another platform.
    pub fn merge(&mut self, other: Self) {
        for used in other.uses {
            match self.uses.iter_mut().find(|known| known.is_same(&used)) {
                Some(known) => {
                    let new = used.platforms.into_iter().filter(|platform| !known.platforms.contains(platform));
                    known.platforms.extend(new.collect::<Vec<_>>());
                    known.for_builder |= used.for_builder;
                    known.for_target |= used.for_target;
                }
                None => self.uses.push(used),
            }
        }
        self.uses.sort_by_key(|used| used.stage);
        self.begins.extend(other.begins);
        self.unreached.extend(other.unreached);
        self.unreached.retain(|unused| !self.uses.iter().any(|used| used.is_same(unused)));
        self.from_scratch |= other.from_scratch;
        self.declared_args.extend(other.declared_args);
        for (id, place) in other.secret_ids {
            let required = place.required;
            self.secret_ids.entry(id).or_insert(place).required |= required;
        }
        for (id, place) in other.ssh_ids {
            let required = place.required;
            self.ssh_ids.entry(id).or_insert(place).required |= required;
        }
        self.looked_up.extend(other.looked_up);
        self.shadows.extend(other.shadows);
    }
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DockerfileFaultKind {
    /// It cannot be read as a Dockerfile.
    Parse,
    /// A stage is named that does not exist, or only later.
    UnknownStage,
    /// A variable in an image's name has no value, or BuildKit replaces no variable there.
    Variable,
    /// An image's name is not an image reference.
    Image,
    /// Triggers (`ONBUILD`) that never end.
    Trigger,
    /// A rule of style that the file itself makes an error (`# check=error=true`).
    Lint,
}

impl DockerfileFaultKind {
    /// The stable code of its diagnostic.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Parse => "lian::dockerfile::parse",
            Self::UnknownStage => "lian::dockerfile::unknown_stage",
            Self::Variable => "lian::dockerfile::variable",
            Self::Image => "lian::dockerfile::image",
            Self::Trigger => "lian::dockerfile::trigger",
            Self::Lint => "lian::dockerfile::lint",
        }
    }
}

/// One fault of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileFault {
    /// The kind of fault.
    pub kind: DockerfileFaultKind,
    /// What is wrong, without a full stop.
    pub message: String,
    /// The place in the Dockerfile; `None` if the layer's `target` is wrong.
    pub span: Option<Span>,
    /// The next action.
    pub help: Option<String>,
}

impl DockerfileFault {
    /// A text that cannot be read as a Dockerfile, and its place.
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

/// A layer's Dockerfile that was found, whether it could be read or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileRead {
    /// The path to show.
    pub file: PathBuf,
    /// What it uses, or all its faults.
    pub facts: Result<DockerfileFacts, Vec<DockerfileFault>>,
}

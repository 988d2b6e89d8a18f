//! Errors of the use cases, with their fault class. Not responsible for: showing them, exit codes.

use crate::domain::model::{Classified, Diagnostic, Fault, FaultClass, Sources};

/// A use case failed.
#[derive(Debug)]
pub struct Error {
    /// The error to show.
    pub what: ErrorKind,
    /// Its fault class.
    pub class: FaultClass,
}

/// The content of an error.
#[derive(Debug)]
pub enum ErrorKind {
    /// One module's error.
    Report(miette::Report),
    /// Faults in the user's files, and the source texts they point into.
    Files(Vec<Diagnostic>, Sources),
}

/// An external failure that ends a command rather than a step.
#[derive(Debug, thiserror::Error)]
#[error("{}", text(.0))]
struct Outside(Fault);

impl Classified for Outside {
    fn class(&self) -> FaultClass {
        self.0.class()
    }
}

fn text(fault: &Fault) -> String {
    match &fault.evidence {
        Some(evidence) if !fault.message.contains(evidence.as_str()) => format!("{}: {evidence}", fault.message),
        _ => fault.message.clone(),
    }
}

impl miette::Diagnostic for Outside {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.0.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.what {
            ErrorKind::Report(error) => error.fmt(f),
            ErrorKind::Files(faults, _) => f.write_str(faults.first().map_or("faults", |fault| fault.message.as_str())),
        }
    }
}

impl Error {
    /// A fault of a provider or a service.
    pub fn outside(fault: Fault) -> Self {
        Outside(fault).into()
    }

    /// Faults in the user's files.
    pub fn files(faults: Vec<Diagnostic>, sources: Sources) -> Self {
        Self { what: ErrorKind::Files(faults, sources), class: FaultClass::Build }
    }

    /// This machine refuses an operation that does not concern a user's file.
    pub fn machine(error: std::io::Error) -> Self {
        MachineError(error).into()
    }
}

impl<E: miette::Diagnostic + Classified + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self { class: error.class(), what: ErrorKind::Report(error.into()) }
    }
}

/// A fault of this machine.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("a system call failed: {0}")]
#[diagnostic(code(lian::cli::machine), help("`lian-build doctor` shows what is missing"))]
struct MachineError(std::io::Error);

impl Classified for MachineError {
    fn class(&self) -> FaultClass {
        FaultClass::Unavailable
    }
}

/// Errors in the command line itself.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum UsageError {
    /// A substitute is not of the form `oci-layout:DIR`, or its reference is invalid.
    #[error("`--base-image {given}`: {what}")]
    #[diagnostic(
        code(lian::cli::base_image),
        help("write --base-image docker.io/library/debian:trixie-slim=oci-layout:DIR")
    )]
    BaseImage {
        /// As typed.
        given: String,
        /// What is wrong.
        what: String,
    },
    /// A named file does not exist.
    #[error("{what} {path} cannot be read: {cause}")]
    #[diagnostic(code(lian::cli::unreadable), help("{help}"))]
    Unreadable {
        /// Its purpose.
        what: String,
        /// The file.
        path: String,
        /// The system's error.
        cause: String,
        /// The next action.
        help: String,
    },
    /// Files of a project lead its catalog out of it.
    #[error("the catalog of this project, {path}, leads outside it, to {target}")]
    #[diagnostic(
        code(lian::project::catalog_outside),
        help("if you mean that one, name it: `--catalog {target}`, or `check {target}`")
    )]
    CatalogOutside {
        /// As the project names it.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Not a valid image name.
    #[error("`--image {given}` does not name an image to build: {what}")]
    #[diagnostic(
        code(lian::cli::image_name),
        help(
            "write --image [registry/]namespace/name[:tag], in lower case: team/app, registry.example:5000/team/app:v1"
        )
    )]
    ImageName {
        /// As typed.
        given: String,
        /// What is wrong with it.
        what: String,
    },
    /// The image's name and the flag contradict each other.
    #[error("`--image` names the registry {image}, and `--registry` says {registry}")]
    #[diagnostic(code(lian::cli::two_registries), help("leave `--registry` out, or the registry in `--image`"))]
    TwoRegistries {
        /// The image's value.
        image: String,
        /// The flag's value.
        registry: String,
    },
    /// A registry address on the command line is invalid.
    #[error("the registry `{given}` {what}")]
    #[diagnostic(code(lian::cli::registry), help("{help}"))]
    Registry {
        /// As typed.
        given: String,
        /// What is wrong with it.
        what: String,
        /// The next action.
        help: String,
    },
    /// `--plain-http` without a registry.
    #[error("`--plain-http` is about a registry, and images go to an OCI layout here")]
    #[diagnostic(
        code(lian::cli::no_registry),
        help("name the registry: --registry ADDRESS, or --image ADDRESS/team/app")
    )]
    NoRegistry,
    /// Images would go to a layout, but this runner does not send them back.
    #[error("runners that build by themselves (`context_transfer = 'rsync`) need a registry to push to, and {why}")]
    #[diagnostic(code(lian::cli::needs_registry), help("{help}"))]
    NeedsRegistry {
        /// Why images go to a layout.
        why: String,
        /// The next action.
        help: String,
    },
    /// Several external images cannot be resolved.
    #[error("{what}")]
    #[diagnostic(
        code(lian::registries::unreachable),
        help(
            "check the network and the names, or substitute local copies: `--base-image REF=oci-layout:DIR` for each"
        )
    )]
    Unresolved {
        /// Each with its reason.
        what: String,
    },
    /// Directives where a workflow is expected.
    #[error("{file} holds directives, and this command takes a workflow")]
    #[diagnostic(code(lian::cli::directives), help("build them: `lian-build dispatch {file}`"))]
    Directives {
        /// The file.
        file: String,
    },
    /// Required secrets have no value.
    #[error("secrets without a value: {missing}")]
    #[diagnostic(
        code(lian::cli::missing_secret),
        help("give each its value, by the variable or the file that its layer's `secrets` names")
    )]
    MissingSecrets {
        /// Each with its layer and what is missing.
        missing: String,
    },
}

impl Classified for UsageError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Unresolved { .. } => FaultClass::Unavailable,
            Self::BaseImage { .. }
            | Self::Unreadable { .. }
            | Self::CatalogOutside { .. }
            | Self::ImageName { .. }
            | Self::TwoRegistries { .. }
            | Self::Registry { .. }
            | Self::NoRegistry
            | Self::Directives { .. }
            | Self::NeedsRegistry { .. }
            | Self::MissingSecrets { .. } => FaultClass::Configuration,
        }
    }
}

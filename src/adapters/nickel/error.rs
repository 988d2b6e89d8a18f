//! The errors that prevent reading a catalog at all. Not responsible for: faults inside its files (those are
//! diagnostics).

use std::io;
use std::path::PathBuf;

use crate::domain::model::{Classified, FaultClass};

/// The catalog or the interpreter's process cannot be reached.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum NickelError {
    /// The catalog's folder does not exist.
    #[error("there is no catalog at {path}")]
    #[diagnostic(
        code(lian::nickel::no_catalog),
        help("name the folder that holds the layers, or begin with a smallest layer, which is two files:\n\n{first}")
    )]
    NoCatalog {
        /// The folder, as given.
        path: PathBuf,
        /// A layer to begin with.
        first: String,
    },
    /// The workflow's file does not exist.
    #[error("there is no workflow at {path}")]
    #[diagnostic(code(lian::nickel::no_workflow), help("name a file such as workflows/local.ncl"))]
    NoWorkflow {
        /// The file, as given.
        path: PathBuf,
    },
    /// A folder could not be read.
    #[error("cannot read {path}")]
    #[diagnostic(code(lian::nickel::unreadable), help("check that it exists and that you may read it"))]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A path is not UTF-8: Nickel's imports cannot name it.
    #[error("the path {path} is not UTF-8")]
    #[diagnostic(code(lian::nickel::path), help("rename the folder"))]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The evaluating process could not be started, or the connection to it failed.
    #[error("cannot evaluate Nickel in {program}")]
    #[diagnostic(
        code(lian::nickel::process),
        help("lian-build runs itself for this: check that the program exists and may be executed")
    )]
    Process {
        /// The program that was started.
        program: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The smallest layer, as two files to copy.
const FIRST_LAYER: [(&str, &str); 2] = [
    ("workflow.ncl", "{\n  name = \"hello\",\n  kind = 'app,\n  build_base = { image = \"debian:trixie-slim\" },\n}\n"),
    ("Dockerfile", "FROM debian:trixie-slim\nRUN echo hello > /hello\n"),
];

impl NickelError {
    /// There is no such folder.
    pub(super) fn no_catalog(path: PathBuf) -> Self {
        let file = |(name, text): &(&str, &str)| format!("{}\n{text}", path.join("hello").join(name).display());
        let first = FIRST_LAYER.iter().map(file).collect::<Vec<_>>().join("\n");
        let first = format!("{first}\nThen type `lian-build check`. The fields of a layer: README.md, \"A layer\"");
        Self::NoCatalog { path, first }
    }
}

impl Classified for NickelError {
    fn class(&self) -> FaultClass {
        match self {
            Self::NoCatalog { .. } | Self::NoWorkflow { .. } => FaultClass::Configuration,
            Self::Unreadable { .. } | Self::NotUtf8 { .. } => FaultClass::Build,
            Self::Process { .. } => FaultClass::Unavailable,
        }
    }
}

//! Errors of a project's state folder. Not responsible for: the history in it (see `adapters::store`).

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::model::{Classified, FaultClass};

/// The state of a project cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StateError {
    /// The folder came with a repository.
    #[error("git tracks {}: whoever wrote the repository wrote that, so it is not your state", path.display())]
    #[diagnostic(
        code(lian::state::tracked),
        help("leave `--state` and LIAN_STATE out, or name a folder outside the repository")
    )]
    Tracked {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be said whether the folder came with a repository.
    #[error("nobody can tell whether git tracks {}", path.display())]
    #[diagnostic(
        code(lian::state::untold),
        help("leave `--state` and LIAN_STATE out, or name a folder outside the repository")
    )]
    Untold {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The folder is another project's.
    #[error("{} is the state of {}, and this is {}", path.display(), recorded.display(), root.display())]
    #[diagnostic(
        code(lian::state::other_project),
        help("each project has a state of its own: leave `--state` and LIAN_STATE out, or name another folder")
    )]
    OtherProject {
        /// The folder.
        path: PathBuf,
        /// The project of this command.
        root: PathBuf,
        /// The project in the folder's record.
        recorded: PathBuf,
    },
    /// The folder holds something else.
    #[error("{} is there, and holds no state of lian-build", path.display())]
    #[diagnostic(
        code(lian::state::not_state),
        help("name a folder that is empty, or not there yet: lian-build makes it yours alone")
    )]
    NotState {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be read or written.
    #[error("lian-build keeps its state in {}, and that cannot be used", path.display())]
    #[diagnostic(
        code(lian::state::unusable),
        help(
            "make it a folder of yours that can be written to, or choose another one: `--state DIR` or LIAN_STATE for this \
             project, LIAN_DATA_DIR for everything. `lian-build where` says what is where"
        )
    )]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A run of an older lian-build goes on in the project's `.lian`.
    #[error("a run of an older lian-build uses {}, so it cannot be taken over now", path.display())]
    #[diagnostic(code(lian::state::in_use), help("run it again when that run is done"))]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The `.lian` of before could not be moved.
    #[error("{} cannot be moved to {}", from.display(), to.display())]
    #[diagnostic(
        code(lian::state::take_over),
        help(
            "mend that, and run it again: it goes on where it stopped. Or delete the folder, if no runner is still to be \
             given back: its images are built again"
        )
    )]
    TakeOver {
        /// The folder in the project.
        from: PathBuf,
        /// The state folder.
        to: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl Classified for StateError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Tracked { .. } | Self::Untold { .. } | Self::OtherProject { .. } | Self::NotState { .. } => {
                FaultClass::Configuration
            }
            Self::Unusable { .. } | Self::InUse { .. } | Self::TakeOver { .. } => FaultClass::Unavailable,
        }
    }
}

impl StateError {
    /// Wraps an I/O error of the folder.
    pub(super) fn unusable(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Unusable { path, source }
    }

    /// Wraps an error of git's index.
    pub(super) fn untold(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Untold { path, source }
    }
}

//! Which paths of the context a build asks for by name. BuildKit asks for just these, in a header of HTTP. Not responsible
//! for: whether they exist.

use super::values;
use crate::domain::base::Span;
use crate::domain::model::DockerfileFault;

/// The paths of a context that a build takes.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Whether it is asked for all, or for what is not known here.
    open: bool,
    /// Whether a path is beyond ASCII: then BuildKit encodes them all.
    encoded: bool,
    /// The first path that no header can hold, and its place.
    unsendable: Option<(String, Span)>,
}

impl Selected {
    /// Adds a path, as a step names it; `None` where that is not known.
    pub(super) fn add(&mut self, path: Option<&str>, place: Span) {
        let Some(path) = path.filter(|path| !values::is_root(&format!("/{path}"))) else {
            self.open = true;
            return;
        };
        self.encoded |= !path.is_ascii();
        if self.unsendable.is_none() && path.contains(|c: char| c.is_ascii_control()) {
            self.unsendable = Some((path.to_owned(), place));
        }
    }

    /// The fault of a path that BuildKit cannot ask for.
    pub(super) fn fault(&self) -> Option<DockerfileFault> {
        let (path, place) = self.unsendable.as_ref().filter(|_| !self.open && !self.encoded)?;
        let message = format!("BuildKit cannot ask for `{}`: its name holds a control character", path.escape_debug());
        Some(
            DockerfileFault::parse(*place, message)
                .help("give the file another name, or copy the folder that it is in"),
        )
    }
}

//! Finds a catalog's files and the folders that imports may come from. Not responsible for: reading the files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::NickelError;
use super::protocol::Shown;
use crate::domain::base::{LayerName, SourceLocation, Span};
use crate::domain::model::Diagnostic;
use crate::system::resolved;

/// A folder of a catalog that declares a layer.
pub(super) struct Found {
    /// The folder's name.
    pub folder: String,
    /// Its `workflow.ncl`.
    pub file: PathBuf,
}

/// A file as the interpreter is to open it: what a link leads to, so that imports are found beside that; the link itself
/// where it leads out of the project, or to nothing, so that this is told of it.
pub(super) fn actual(file: &Path, project_root: &Path) -> PathBuf {
    match fs::canonicalize(file) {
        Ok(target) if target.starts_with(resolved(project_root)) => target,
        _ => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            file.file_name().map_or_else(|| file.to_owned(), |name| resolved(folder).join(name))
        }
    }
}

/// The layers' files below a catalog, sorted, and the faults of folders that are links to elsewhere.
pub(super) fn layers(
    actual: &Path,
    shown: &[Shown],
    scope: &[PathBuf],
) -> Result<(Vec<Found>, Vec<Diagnostic>), NickelError> {
    let unreadable = |source: io::Error| NickelError::Unreadable { path: Shown::path(shown, actual), source };
    let mut found = Vec::new();
    let mut faults = Vec::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(actual).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.sort();
    for name in names {
        let folder = actual.join(&name);
        let file = folder.join("workflow.ncl");
        if name.as_encoded_bytes().starts_with(b".") || !folder.is_dir() || fs::symlink_metadata(&file).is_err() {
            continue;
        }
        let place = SourceLocation { file: Shown::path(shown, &file), span: Span::default() };
        let Some(name) = name.to_str() else {
            let message = format!("the folder {} is not named in UTF-8", folder.display());
            faults.push(Diagnostic::error("lian::nickel::path", message).help("rename the folder"));
            continue;
        };
        let layer = LayerName::new(name);
        match fs::canonicalize(&file) {
            Err(error) => faults.push(
                Diagnostic::error("lian::nickel::unreadable", format!("cannot read {}: {error}", place.file.display()))
                    .help("correct the link, or remove it")
                    .layer(&layer),
            ),
            // It may point to a file of another user, so its text is not read, not even to show the fault.
            Ok(target) if !scope.iter().any(|folder| target.starts_with(folder)) => faults.push(
                Diagnostic::error(
                    "lian::nickel::import_outside",
                    format!("{} is a link that leads outside the project", place.file.display()),
                )
                .help("move the folder into the project, or allow it with `--allow-import DIR`")
                .layer(&layer),
            ),
            Ok(_) => found.push(Found { folder: name.to_owned(), file }),
        }
    }
    Ok((found, faults))
}

/// How paths are shown: the catalog as the user wrote it, and files of the working directory relative to it.
pub(super) fn shown(given: &Path, actual: &Path) -> Vec<Shown> {
    let mut shown = vec![Shown { actual: actual.to_owned(), shown: given.to_owned() }];
    if let Ok(here) = std::env::current_dir().and_then(fs::canonicalize) {
        shown.push(Shown { actual: here, shown: PathBuf::new() });
    }
    shown
}

/// The folders that imports may come from.
pub(super) fn scope(project_root: &Path, allowed: &[PathBuf]) -> Vec<PathBuf> {
    let canonical = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    std::iter::once(project_root).chain(allowed.iter().map(PathBuf::as_path)).map(canonical).collect()
}

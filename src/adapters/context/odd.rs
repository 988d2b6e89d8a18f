//! Finds what no build can take from a context: pipes and devices. Not responsible for: reading files.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::files::{self, Located};
use super::ignore::{Ignore, Inherited};
use super::walk::{below, ignore_file};
use crate::domain::model::{Declared, Diagnostic};

/// A folder to be read.
struct Folder {
    path: PathBuf,
    /// Its path for patterns; empty for the context itself.
    shown: Vec<u8>,
    inherited: Inherited,
}

/// What `check` reports about a layer's files: those that it names, and what no build can take from its context.
/// A walk that takes too long is left where it is once the time `is_spent`.
pub fn check_files(
    declared: &Declared,
    project_root: &Path,
    is_spent: &dyn Fn() -> bool,
) -> Result<Located, Vec<Diagnostic>> {
    let located = files::check_files(declared, project_root)?;
    let root = files::resolve(project_root).unwrap_or_else(|_| project_root.to_owned());
    let odd = odd_files(&root, &declared.context_dir(), &declared.dockerfile_path(), is_spent);
    if odd.is_empty() { Ok(located) } else { Err(odd.iter().map(|path| odd_fault(declared, path)).collect()) }
}

/// The fault of a pipe or device: BuildKit would wait for its content, or send the whole device.
fn odd_fault(declared: &Declared, path: &Path) -> Diagnostic {
    let layer = &declared.layer.name;
    let message = format!("the context of `{layer}` holds {}, a pipe or a device", files::tidy(path).display());
    let fault = files::at(declared, "context", "lian::context::odd_file", message);
    fault.help("remove it, or leave it out with .dockerignore")
}

/// The pipes and devices of a context that its ignore file does not leave out, sorted. What cannot be read is passed
/// over: whoever reads the files tells it.
fn odd_files(root: &Path, context: &Path, dockerfile: &Path, is_spent: &dyn Fn() -> bool) -> Vec<PathBuf> {
    let Ok((ignore, _)) = ignore_file(root, context, dockerfile) else { return Vec::new() };
    let mut found = Vec::new();
    let mut folders = vec![Folder { path: context.to_owned(), shown: Vec::new(), inherited: Inherited::default() }];
    while let Some(folder) = folders.pop().filter(|_| !is_spent()) {
        for entry in fs::read_dir(&folder.path).into_iter().flatten().flatten() {
            // The folder itself knows the kind, so that no file is asked for it.
            let Ok(kind) = entry.file_type() else { continue };
            let odd = kind.is_fifo() || kind.is_block_device() || kind.is_char_device();
            if !odd && !kind.is_dir() {
                continue;
            }
            let shown = below(&folder.shown, &entry.file_name());
            let (excluded, inherited) = ignore.excludes(&shown, &folder.inherited);
            if odd && !excluded {
                found.push(entry.path());
            } else if kind.is_dir() && may_hold(&ignore, &shown, excluded) {
                folders.push(Folder { path: entry.path(), shown, inherited });
            }
        }
    }
    found.sort();
    found
}

fn may_hold(ignore: &Ignore, folder: &[u8], excluded: bool) -> bool {
    !excluded || ignore.may_except_below(folder)
}

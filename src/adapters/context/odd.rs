//! Finds what no build can take from a context: pipes and devices. Not responsible for: reading files.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::effort::{Effort, TooMuch};
use super::files::{self, Located};
use super::ignore::{Ignore, Inherited};
use super::walk::{below, ignore_file};
use crate::domain::model::{Declared, Diagnostic};
use crate::domain::ports::ContextError;

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
    let (context, dockerfile) = (declared.context_dir(), declared.dockerfile_path());
    // What cannot be read is passed over: whoever reads the files tells it.
    let Ok((ignore, _)) = ignore_file(&root, &context, &dockerfile) else { return Ok(located) };
    let walked = odd_files(&ignore, &context, is_spent, &mut Effort::default());
    let odd = walked.map_err(|TooMuch| vec![too_much(declared, &context)])?;
    if odd.is_empty() { Ok(located) } else { Err(odd.iter().map(|path| odd_fault(declared, path)).collect()) }
}

/// The fault of a pipe or device: BuildKit would wait for its content, or send the whole device.
fn odd_fault(declared: &Declared, path: &Path) -> Diagnostic {
    let layer = &declared.layer.name;
    let message = format!("the context of `{layer}` holds {}, a pipe or a device", files::tidy(path).display());
    let fault = files::at(declared, "context", "lian::context::odd_file", message);
    fault.help("remove it, or leave it out with .dockerignore")
}

/// The fault of an ignore file that takes too long: the build would not be read, either.
fn too_much(declared: &Declared, context: &Path) -> Diagnostic {
    let error = ContextError::Patterns { path: context.to_owned() };
    let message = format!("the ignore file of `{}`: {error}", declared.layer.name);
    let help = miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default();
    files::at(declared, "context", "lian::context::too_many_patterns", message).help(help)
}

/// The pipes and devices of a context that its ignore file does not leave out, sorted.
pub(super) fn odd_files(
    ignore: &Ignore,
    context: &Path,
    is_spent: &dyn Fn() -> bool,
    effort: &mut Effort,
) -> Result<Vec<PathBuf>, TooMuch> {
    let mut found = Vec::new();
    let mut folders = vec![Folder { path: context.to_owned(), shown: Vec::new(), inherited: Inherited::default() }];
    while let Some(folder) = folders.pop() {
        effort.let_go(folder.inherited.count());
        for entry in fs::read_dir(&folder.path).into_iter().flatten().flatten() {
            // The folder itself knows the kind, so that no file is asked for it.
            let Ok(kind) = entry.file_type() else { continue };
            let odd = kind.is_fifo() || kind.is_block_device() || kind.is_char_device();
            if !odd && !kind.is_dir() {
                continue;
            }
            if is_spent() {
                return Ok(found);
            }
            let shown = below(&folder.shown, &entry.file_name());
            let (excluded, inherited) = ignore.excludes(&shown, &folder.inherited, effort)?;
            if odd && !excluded {
                found.push(entry.path());
            } else if kind.is_dir() && (!excluded || ignore.may_except_below(&shown, effort)?) {
                effort.keep(inherited.count())?;
                folders.push(Folder { path: entry.path(), shown, inherited });
            }
        }
    }
    found.sort();
    Ok(found)
}

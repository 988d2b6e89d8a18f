//! Whether a layer's files exist and lie inside the project. Not responsible for: reading the files of the context.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::domain::base::nearest;
use crate::domain::dockerfile::SourceText;
use crate::domain::model::{Declared, Diagnostic};
use crate::domain::ports::ContextError;
use crate::system::read::{self, Cap};

/// The path with all links and `..` resolved.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, ContextError> {
    let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    here.canonicalize().map_err(|source| ContextError::Unreadable { path: path.to_owned(), source })
}

/// The resolved path, if it lies inside the resolved root.
pub(super) fn inside(root: &Path, path: &Path) -> Result<PathBuf, ContextError> {
    let resolved = match resolve(path) {
        // A missing path may still be known to lie outside, which is the graver fault.
        Err(_) if leaves(root, path) => {
            return Err(ContextError::Outside { path: tidy(path), root: root.to_owned() });
        }
        Err(ContextError::Unreadable { path, source }) if source.kind() == ErrorKind::NotFound => {
            return Err(ContextError::Missing { path: tidy(&path) });
        }
        resolved => resolved?,
    };
    if resolved.starts_with(root) {
        Ok(resolved)
    } else {
        Err(ContextError::Outside { path: tidy(path), root: root.to_owned() })
    }
}

/// Whether the nearest existing ancestor of a missing path lies outside the root.
fn leaves(root: &Path, path: &Path) -> bool {
    let tidied = tidy(path);
    let existing = tidied.ancestors().skip(1).find_map(|ancestor| resolve(ancestor).ok());
    existing.is_some_and(|ancestor| !ancestor.starts_with(root))
}

/// The bytes of a file in the resolved root, through whatever links lead to it; `None` if nothing is there, or a
/// folder, which BuildKit takes for nothing.
pub(super) fn whole(root: &Path, path: &Path) -> Result<Option<Vec<u8>>, ContextError> {
    let unreadable = |source| ContextError::Unreadable { path: tidy(path), source };
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        found => found.map_err(unreadable)?,
    };
    let resolved = match inside(root, path) {
        Err(ContextError::Missing { path }) => return Err(ContextError::Dangling { path }),
        resolved => resolved?,
    };
    if resolved.is_dir() {
        return Ok(None);
    }
    read::of_project(root, &resolved, Cap::Dockerfile).map(Some).map_err(unreadable)
}

/// The path as a person would write it: `catalog/rust/../../lamina/rust` is `lamina/rust`, unless a link makes that
/// another place.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = tidy_words(path);
    if tidied.as_os_str().is_empty() {
        tidied.push(".");
    }
    let folder = |path: &Path| path.parent().and_then(|folder| resolve(folder).ok());
    let same = match (path.canonicalize(), tidied.canonicalize()) {
        (Ok(path), Ok(tidied)) => path == tidied,
        (Err(_), Err(_)) => folder(path) == folder(&tidied),
        _ => false,
    };
    if same { tidied } else { path.to_owned() }
}

/// A layer's Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The path to show. It can be opened from the working directory.
    pub dockerfile: PathBuf,
    /// Its text.
    pub source: SourceText,
}

/// Finds a context and a Dockerfile inside the project and reads the Dockerfile.
pub fn locate(project_root: &Path, context: &Path, dockerfile: &Path) -> Result<Located, ContextError> {
    let root = resolve(project_root)?;
    let folder = inside(&root, context)?;
    if !folder.is_dir() {
        return Err(ContextError::Unreadable { path: tidy(context), source: ErrorKind::NotADirectory.into() });
    }
    let resolved = inside(&root, dockerfile)?;
    let shown = tidy(dockerfile);
    let unreadable = |source| ContextError::Unreadable { path: shown.clone(), source };
    // BuildKit reads bytes: a comment in Latin-1 does no harm.
    let text = read::of_project(&root, &resolved, Cap::Dockerfile).map_err(unreadable)?;
    Ok(Located { dockerfile: shown, source: SourceText::new(&text) })
}

/// What `check` reports about a layer's context and Dockerfile. Both faults are reported together, at the fields of the
/// declaration.
pub(super) fn check_files(declared: &Declared, project_root: &Path) -> Result<Located, Vec<Diagnostic>> {
    let context = declared.context_dir();
    let dockerfile = declared.dockerfile_path();
    let error = match locate(project_root, &context, &dockerfile) {
        Ok(located) => return file_name_fault(declared, &dockerfile).map_or(Ok(located), |fault| Err(vec![fault])),
        Err(error) => error,
    };
    let mut faults = Vec::new();
    let context_fault = context_fault(declared, project_root, &context);
    let implied = declared.layer.dockerfile.is_none() && context_fault.is_some();
    faults.extend(context_fault);
    if !implied {
        faults.extend(dockerfile_fault(declared, project_root, &dockerfile));
    }
    if faults.is_empty() {
        // The file was corrected, or damaged further, between the two reads.
        faults.push(at(declared, "context", "lian::context::unreadable", told(&error)).help("try again"));
    }
    Err(faults)
}

/// The fault of a Dockerfile's name by which BuildKit does not find it: it takes the name for a pattern, and sends it in a
/// header of HTTP.
fn file_name_fault(declared: &Declared, dockerfile: &Path) -> Option<Diagnostic> {
    let name = dockerfile.file_name()?.to_string_lossy();
    let what = if name.trim() != name {
        "begins or ends with a blank"
    } else if name.starts_with('!') {
        "begins with `!`"
    } else if name.contains(['[', '\\']) {
        "holds `[` or `\\`"
    } else if name.is_ascii() && name.contains(|c: char| c.is_ascii_control()) {
        "holds a control character"
    } else {
        return None;
    };
    let layer = &declared.layer.name;
    let message = format!(
        "the Dockerfile of `{layer}`, {}, has a name that {what}: BuildKit takes it for a pattern",
        tidy(dockerfile).display()
    );
    Some(at(declared, "dockerfile", "lian::dockerfile::file_name", message).help("rename it"))
}

pub(super) fn told(error: &ContextError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The field's place, or the place of the layer's name if the field has its default.
pub(super) fn at(declared: &Declared, field: &str, code: &'static str, message: String) -> Diagnostic {
    let (field, text) =
        if declared.places.contains_key(field) { (field, "declared here") } else { ("name", "this layer") };
    Diagnostic::error(code, message).layer(&declared.layer.name).label(declared.place(field), text)
}

fn context_fault(declared: &Declared, project_root: &Path, context: &Path) -> Option<Diagnostic> {
    let layer = &declared.layer.name;
    let found = resolve(project_root).and_then(|root| inside(&root, context));
    Some(match found {
        Ok(folder) if folder.is_dir() => return None,
        Ok(_) => {
            let message = format!("the context of `{layer}`, {}, is not a folder", tidy(context).display());
            at(declared, "context", "lian::context::missing", message).help("name the folder that holds it")
        }
        Err(ContextError::Missing { path }) => {
            let message = format!("the context of `{layer}`, {}, does not exist", path.display());
            let help = neighbour(&path, Path::is_dir).map_or_else(
                || "create the folder, or correct `context`".to_owned(),
                |near| format!("did you mean `{}`?", Path::new(&declared.layer.context).with_file_name(near).display()),
            );
            at(declared, "context", "lian::context::missing", message).help(help)
        }
        Err(error) => outside(declared, "context", &format!("the context of `{layer}`"), &error),
    })
}

fn dockerfile_fault(declared: &Declared, project_root: &Path, dockerfile: &Path) -> Option<Diagnostic> {
    let layer = &declared.layer.name;
    let field = if declared.layer.dockerfile.is_some() { "dockerfile" } else { "context" };
    let found = resolve(project_root).and_then(|root| inside(&root, dockerfile));
    let resolved = match found {
        Ok(resolved) => resolved,
        Err(ContextError::Missing { path }) => {
            let message = format!("the Dockerfile of `{layer}`, {}, does not exist", path.display());
            let help = match (neighbour(&path, Path::is_file), &declared.layer.dockerfile) {
                (Some(near), Some(given)) => {
                    format!("did you mean `{}`?", Path::new(given).with_file_name(near).display())
                }
                (Some(near), None) => format!(
                    "there is a `{near}`: name it with `dockerfile = \"{}\"`",
                    tidy_words(&Path::new(&declared.layer.context).join(&near)).display()
                ),
                (None, _) => "write it, or name another with `dockerfile`".to_owned(),
            };
            return Some(at(declared, field, "lian::dockerfile::missing", message).help(help));
        }
        Err(error) => return Some(outside(declared, field, &format!("the Dockerfile of `{layer}`"), &error)),
    };
    let shown = tidy(dockerfile);
    if !resolved.is_file() {
        let message = format!("the Dockerfile of `{layer}`, {}, is not a file", shown.display());
        let help = match &declared.layer.dockerfile {
            Some(given) if resolved.join("Dockerfile").is_file() => format!("did you mean `{given}/Dockerfile`?"),
            _ => "name the file itself".to_owned(),
        };
        return Some(at(declared, field, "lian::dockerfile::missing", message).help(help));
    }
    let root = resolve(project_root).ok()?;
    match read::of_project(&root, &resolved, Cap::Dockerfile) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            let message = format!("the Dockerfile of `{layer}`, {}, is longer than 4 MiB", shown.display());
            Some(
                at(declared, field, "lian::dockerfile::parse", message)
                    .help("move what it carries into files of the context"),
            )
        }
        Err(error) => {
            let message = format!("the Dockerfile of `{layer}`, {}, cannot be read: {error}", shown.display());
            Some(at(declared, field, "lian::dockerfile::missing", message).help("check its permissions"))
        }
    }
}

pub(super) fn outside(declared: &Declared, field: &str, what: &str, error: &ContextError) -> Diagnostic {
    match error {
        ContextError::Outside { path, root } => {
            let shown = path.display();
            let message = match resolve(path) {
                Ok(target) if lies_inside(root, path) => {
                    format!("{what}, {shown}, leads outside the project through a link, to {}", target.display())
                }
                _ => format!("{what}, {shown}, lies outside the project"),
            };
            at(declared, field, "lian::context::outside", message).help(
                "copy in what is needed: a project is the nearest folder with a `.git`, else the one around the catalog",
            )
        }
        error => at(declared, field, "lian::context::unreadable", format!("{what}: {}", told(error)))
            .help("check its permissions"),
    }
}

/// Whether a path lies inside the root as written. If it does, only a link can lead it out.
fn lies_inside(root: &Path, path: &Path) -> bool {
    let absolute = std::env::current_dir().and_then(|here| here.canonicalize()).map(|here| here.join(path));
    absolute.is_ok_and(|absolute| tidy_words(&absolute).starts_with(root))
}

/// The path without `.` and `..`, without regard to links.
fn tidy_words(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            part => tidied.push(part),
        }
    }
    tidied
}

/// The name of a sibling of a missing path: a similar name, or one that is known to be used instead.
fn neighbour(path: &Path, fits: impl Fn(&Path) -> bool) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok).take(10_000);
    let mut names: Vec<String> =
        entries.filter(|e| fits(&e.path())).filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    if wanted == "Dockerfile" && names.iter().any(|name| name == "Containerfile") {
        return Some("Containerfile".to_owned());
    }
    nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}

//! Whether a layer's ignore file can be read as the build needs it. Not responsible for: what its patterns mean.

use std::path::Path;

use super::files::{at, outside, resolve, told};
use super::walk::ignore_file;
use crate::domain::model::{Declared, Diagnostic};
use crate::domain::ports::ContextError;

/// What `check` reports about a layer's ignore file: that it cannot be read as the build would have to.
pub fn ignore_fault(declared: &Declared, project_root: &Path) -> Option<Diagnostic> {
    let (context, dockerfile) = (declared.context_dir(), declared.dockerfile_path());
    let read = resolve(project_root).and_then(|root| ignore_file(&root, &context, &dockerfile));
    let error = read.err()?;
    let what = format!("the ignore file of `{}`", declared.layer.name);
    let code = |code| at(declared, "context", code, format!("{what}: {}", told(&error)));
    let help = miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default();
    Some(match &error {
        ContextError::Pattern { .. } => code("lian::context::ignore_pattern").help(help),
        ContextError::Dangling { .. } => code("lian::context::dangling").help(help),
        ContextError::Outside { .. } => outside(declared, "context", &what, &error),
        _ => code("lian::context::unreadable").help("make it a file that may be read, or remove it"),
    })
}

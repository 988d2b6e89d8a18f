//! Whether a layer's ignore file can be read as the build needs it. Not responsible for: what its patterns mean.

use std::path::Path;

use super::files::{at, outside, resolve, told};
use super::walk::ignore_file;
use crate::domain::base::{SourceLocation, Span};
use crate::domain::model::{Declared, Diagnostic, DockerfileFaultKind};
use crate::domain::ports::ContextError;

/// The most comparisons of sources with patterns: some seconds. Real files take some thousands.
const MOST: usize = 1 << 27;

/// The files of the context that a Dockerfile must not copy because the ignore file leaves them out
/// (`# check=error=true`). `copied`: what it copies, with the place.
pub fn ignored_copies(
    declared: &Declared,
    project_root: &Path,
    dockerfile: &Path,
    copied: &[(String, Span)],
) -> Vec<Diagnostic> {
    let (context, file) = (declared.context_dir(), declared.dockerfile_path());
    let read = resolve(project_root).and_then(|root| ignore_file(&root, &context, &file));
    let Ok((ignore, _)) = read else { return Vec::new() };
    let fault = |span: Span, message: String, help: &str| {
        Diagnostic::error(DockerfileFaultKind::Lint.code(), message)
            .layer(&declared.layer.name)
            .label(SourceLocation { file: dockerfile.to_owned(), span }, "here")
            .help(help)
    };
    let (mut faults, mut left) = (Vec::new(), MOST);
    for (source, span) in copied {
        let Some(rest) = left.checked_sub(ignore.comparisons(source.len())) else {
            let message =
                "CopyIgnoredFile: the ignore file is too long to compare with all that is copied, from here on";
            faults.push(fault(
                *span,
                message.to_owned(),
                "take `# check=error=true` out, or patterns of the ignore file",
            ));
            break;
        };
        left = rest;
        if ignore.leaves_out_source(source) {
            let message = format!("CopyIgnoredFile: the ignore file leaves out `{source}`, which is copied here");
            let help = "the file asks for it with `# check=error=true`: take the pattern out of the ignore file, or copy something else";
            faults.push(fault(*span, message, help));
        }
    }
    faults
}

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

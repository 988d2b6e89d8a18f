//! A copy of the Dockerfile whose ignore file also excludes lian-build's own files. Nothing of the user's is changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::domain::ports::{BuildRequest, OWN};

/// The request with a copy of its Dockerfile in `folder` and an ignore file beside it, which BuildKit prefers to the
/// context's own; `None` if the context holds none of lian-build's files.
pub(super) fn shadowed(request: &BuildRequest, folder: &Path) -> std::io::Result<Option<BuildRequest>> {
    if !OWN.iter().any(|own| request.context.join(own).exists()) {
        return Ok(None);
    }
    let name = request.dockerfile.file_name().unwrap_or(request.dockerfile.as_os_str());
    let copy = folder.join(name);
    std::fs::copy(&request.dockerfile, &copy)?;
    let patterns = [ignore_of(&request.dockerfile), request.context.join(".dockerignore")]
        .into_iter()
        .find(|file| file.is_file())
        .map_or(Ok(String::new()), std::fs::read_to_string)?;
    std::fs::write(ignore_of(&copy), format!("{patterns}\n{}\n", OWN.join("\n")))?;
    Ok(Some(BuildRequest { dockerfile: copy, ..request.clone() }))
}

fn ignore_of(dockerfile: &Path) -> PathBuf {
    let mut name = OsString::from(dockerfile);
    name.push(".dockerignore");
    name.into()
}

//! A Dockerfile's stand-in whose ignore file leaves out what is lian-build's own. Not responsible for: changing anything of the user's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::domain::ports::{BuildRequest, OWN};

/// Where the context holds any of it: the request on a copy of its Dockerfile in `folder`, with an ignore file beside it,
/// which BuildKit prefers to the context's own.
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

//! Lays out the Dockerfile and the ignore file of a build as the layer's key knows them. Nothing of the user's is
//! changed or read again. Not responsible for: reading them (see the adapter `context`).

use std::ffi::OsString;
use std::path::Path;

use super::scratch::unwritten;
use crate::domain::model::Fault;
use crate::domain::ports::{BuildRequest, OWN};

/// The request with its Dockerfile in `folder` and an ignore file beside it, which BuildKit prefers to the context's
/// own. It also leaves out lian-build's own files.
///
/// The name of the folder, which is this build's alone, stands in it as one more pattern. A daemon takes what builds at
/// the same time ask for in the same words for one thing, and the patterns are part of the words: without a session's id
/// in them (see `argv`) one build would be given the context of another.
pub(super) fn laid_out(request: &BuildRequest, folder: &Path) -> Result<BuildRequest, Fault> {
    let own = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = folder.join("dockerfile");
    let dockerfile = folder.join(request.dockerfile.file_name().unwrap_or("Dockerfile".as_ref()));
    let mut ignore = OsString::from(&dockerfile);
    ignore.push(".dockerignore");
    let mut patterns = request.definition.ignore.clone().unwrap_or_default();
    patterns.extend(format!("\n{}\n.lian/{own}\n", OWN.join("\n")).into_bytes());
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&dockerfile, &request.definition.dockerfile))
        .and_then(|()| std::fs::write(&ignore, patterns))
        .map_err(|error| unwritten(&folder, &error))?;
    Ok(BuildRequest { dockerfile, ..request.clone() })
}

//! What is lian-build's own in the user's world: tokens, keys, state. No build is ever given it. Not responsible for:
//! what the user grants.

use std::path::Path;

use crate::adapters::providers::{Credential, registry};
use crate::app::project::Project;

/// Whether a variable holds a credential of lian-build's own, or names its file.
pub(super) fn is_own_variable(name: &str) -> bool {
    let of_provider = |credential: &Credential| credential.variables.contains(&name);
    let secret = ["TOKEN", "SECRET", "KEY", "IDENTITY", "PASSWORD"].iter().any(|word| name.contains(word));
    registry().iter().filter_map(|known| known.credential.as_ref()).any(of_provider)
        || (name.starts_with("LIAN_") && secret)
}

/// Why a file can never be given to a build; `None` if the user may grant it. `path` has all links resolved.
pub(super) fn why_never(path: &Path, project: &Project) -> Option<String> {
    if path.starts_with("/proc") || path.starts_with("/dev") {
        return Some("it is no file, but a view into this machine's processes".to_owned());
    }
    let actual = |folder: &Path| std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if [project.user(), project.state()].iter().any(|folder| path.starts_with(actual(folder))) {
        return Some("it is part of lian-build's own state".to_owned());
    }
    let credentials = registry().iter().filter_map(|known| known.credential.as_ref());
    for variable in credentials.flat_map(|credential| credential.variables) {
        let named = std::env::var_os(variable).filter(|value| !value.is_empty());
        if named.is_some_and(|file| std::fs::canonicalize(file).is_ok_and(|file| file == path)) {
            return Some(format!("{variable} names it, so it holds a token of lian-build's own"));
        }
    }
    None
}

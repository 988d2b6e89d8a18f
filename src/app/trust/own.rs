//! What is lian-build's own in the user's world: tokens, keys, state. No build is ever given it. Not responsible for:
//! what the user grants.

use std::path::Path;

use crate::adapters::providers::registry;
use crate::app::project::Project;

/// Whether a variable holds a credential of lian-build's own, or names its file: exactly those that the providers read.
/// Another name that looks like one is the user's, to grant or not.
pub(super) fn is_own_variable(name: &str) -> bool {
    let credentials = registry().iter().filter_map(|known| known.credential.as_ref());
    credentials.flat_map(|credential| credential.variables).any(|own| *own == name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_providers_log_in_with_is_lian_builds_own_and_nothing_that_only_looks_like_it() {
        for own in ["HCLOUD_TOKEN", "HCLOUD_TOKEN_FILE", "PROXMOX_TOKEN", "LIAN_POOL_TOKEN", "LIAN_POOL_IDENTITY"] {
            assert!(is_own_variable(own), "{own}");
        }
        for other in ["NPM_TOKEN", "LIAN_TEST_TOKEN", "TOKEN", ""] {
            assert!(!is_own_variable(other), "{other}");
        }
    }

    #[test]
    fn state_and_views_into_processes_are_never_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = std::fs::canonicalize(folder.path()).expect("a folder");
        let state = root.join("state");
        std::fs::create_dir(&state).expect("writable");
        let project = Project::of_folder(&root, Some(&state)).expect("a project");
        for never in ["/proc/self/environ", "/dev/fd/3"].map(Path::new).into_iter().chain([&*state.join("keys/id")]) {
            assert!(why_never(never, &project).is_some(), "{}", never.display());
        }
        assert_eq!(why_never(&root.join("token"), &project), None);
    }
}

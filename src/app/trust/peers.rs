//! How the API that gets a credential is recognised, by a project's word and by the user's. Not responsible for: the
//! address, and the TLS itself.

use std::path::Path;

use crate::adapters::providers::{Peer, Reach};
use crate::app::config::Config;
use crate::domain::base::Digest;
use crate::system::read::{self, Cap};
use crate::system::resolved;

/// What must stay as it is for a grant of this address to hold. The file of a CA outside the project is the user's, and
/// is not opened; one in the project changes with the next pull.
pub fn terms(config: &Config, reach: &Reach) -> String {
    let Some(Peer::Ca(file)) = &reach.peer else { return reach.terms.clone() };
    let actual = resolved(file);
    let Ok(below) = actual.strip_prefix(config.project.root()) else {
        return format!("{} {}", reach.terms, actual.display());
    };
    let bytes = read::of_project(config.project.root(), &actual, Cap::Certificates);
    let content = bytes.map_or_else(|error| error.kind().to_string(), |bytes| Digest::of(bytes).to_string());
    format!("{} {} {content}", reach.terms, below.display())
}

/// Whether the user says the same of how it is recognised.
pub fn is_users(config: &Config, peer: &Peer, fingerprint: Option<&str>, ca: Option<&Path>) -> bool {
    match peer {
        Peer::Fingerprint(pinned) => fingerprint.is_some_and(|own| hex_of(own) == hex_of(pinned)),
        Peer::Ca(file) => ca.is_some_and(|own| is_same_file(config, own, file)),
    }
}

fn hex_of(fingerprint: &str) -> String {
    fingerprint.trim().replace(':', "").to_lowercase()
}

/// The same file, or the project's own copy of it.
fn is_same_file(config: &Config, own: &Path, named: &Path) -> bool {
    if resolved(own) == resolved(named) {
        return true;
    }
    let copy = read::of_project(config.project.root(), named, Cap::Certificates);
    copy.is_ok_and(|copy| read::of_user(own, Cap::Certificates).is_ok_and(|own| own == copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::providers::ReachKind;
    use crate::app::project::Project;

    #[test]
    fn a_ca_of_the_project_is_what_it_holds_and_one_outside_is_where_it_lies() {
        let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let root = std::fs::canonicalize(folder.path()).expect("a folder");
        let project = Project::of_folder(&root, Some(&outside.path().join("state"))).expect("a project");
        let config = Config::of_project(project, None);
        let (copy, own) = (root.join("ca.pem"), outside.path().join("ca.pem"));
        let reach =
            |file: &Path| Reach { peer: Some(Peer::Ca(file.into())), ..Reach::of(ReachKind::Endpoint, "https://p") };
        let write = |file: &Path, text: &str| std::fs::write(file, text).expect("written");
        let same = || is_users(&config, &Peer::Ca(copy.clone()), None, Some(&own));
        write(&copy, "one");
        write(&own, "one");
        assert!(same(), "a copy of the user's");
        let (before, outer) = (terms(&config, &reach(&copy)), terms(&config, &reach(&own)));
        write(&copy, "two");
        write(&own, "three");
        assert!(!same());
        assert_ne!(terms(&config, &reach(&copy)), before);
        assert_eq!(terms(&config, &reach(&own)), outer, "it was opened");
        // Through a link, what lies outside is still not opened.
        std::fs::remove_file(&copy).expect("removed");
        std::os::unix::fs::symlink(&own, &copy).expect("a link");
        assert_eq!(terms(&config, &reach(&copy)), outer);
        assert!(same(), "it is the user's own file");
    }

    #[test]
    fn a_fingerprint_is_the_same_however_it_is_written() {
        let config = Config::of_project(
            Project::of_folder(Path::new("/"), Some(Path::new("/nowhere"))).expect("a project"),
            None,
        );
        let is_it = |own: Option<&str>| is_users(&config, &Peer::Fingerprint("AB:CD".to_owned()), own, None);
        assert!(is_it(Some("ab:cd")) && is_it(Some(" abcd")));
        assert!(!is_it(None) && !is_it(Some("ab:ce")) && !is_it(Some("")));
    }
}

//! Describes what differs between two versions of a layer. Not responsible for: deciding what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::base::LayerName;
use crate::domain::model::{FileEntry, KeyParts, ParentKey, Why, WhyKind};

/// The cause for a layer whose parent is built in the same plan.
pub(super) fn rebuilds(parent: &LayerName) -> Why {
    Why { kind: WhyKind::Base, detail: format!("base {parent} rebuilds") }
}

/// Everything that differs, the likeliest causes first: Dockerfile, context, arguments, promises, settings, parents.
pub fn differences(old: &KeyParts, new: &KeyParts) -> Vec<Why> {
    let mut why = Vec::new();
    let mut say = |kind, detail: String| why.push(Why { kind, detail });
    if old.dockerfile != new.dockerfile {
        say(WhyKind::Dockerfile, "dockerfile changed".to_owned());
    }
    let (before, now) = (without_dockerfile(old, new), without_dockerfile(new, old));
    if let Some(files) = changed_files(&before, &now) {
        match only_by_umask(&before, &now) {
            true => say(WhyKind::Modes, format!("modes changed: {files}")),
            false => say(WhyKind::Context, format!("context changed: {files}")),
        }
    } else if old.ignore != new.ignore {
        say(WhyKind::Context, "context changed: its ignore file".to_owned());
    }
    for name in changed_names(&old.build_args, &new.build_args) {
        say(WhyKind::BuildArg, format!("build arg {name} changed"));
    }
    if old.tools != new.tools {
        say(WhyKind::Tools, "tool list changed".to_owned());
    }
    if old.artifact_paths != new.artifact_paths {
        say(WhyKind::Tools, "artifact paths changed".to_owned());
    }
    for setting in changed_settings(old, new) {
        say(WhyKind::Settings, format!("{setting} changed"));
    }
    for name in changed_names(&old.parents, &new.parents) {
        let parent = |parts: &KeyParts| parts.parents.get(name).cloned();
        match (parent(old), parent(new)) {
            (Some(ParentKey::External(_)), Some(ParentKey::External(_))) => {
                say(WhyKind::BaseMoved, format!("base image {name} moved"));
            }
            (None, _) => say(WhyKind::Base, format!("base {name} is new")),
            (_, None) => say(WhyKind::Base, format!("base {name} is gone")),
            _ => say(WhyKind::Base, format!("base {name} changed")),
        }
    }
    why
}

/// The files of a context without the Dockerfile inside it, because its change is a cause of its own.
fn without_dockerfile(parts: &KeyParts, other: &KeyParts) -> BTreeMap<String, FileEntry> {
    let is_dockerfile = |path: &String, entry: &FileEntry| {
        entry.digest == parts.dockerfile && other.files.get(path).is_some_and(|entry| entry.digest == other.dockerfile)
    };
    parts
        .files
        .iter()
        .filter(|(path, entry)| !is_dockerfile(path, entry))
        .map(|(p, e)| (p.clone(), e.clone()))
        .collect()
}

/// Whether two contexts differ by what git does not keep of a mode, as under another umask.
fn only_by_umask(old: &BTreeMap<String, FileEntry>, new: &BTreeMap<String, FileEntry>) -> bool {
    let plain = |files: &BTreeMap<String, FileEntry>| {
        let plain = |entry: &FileEntry| FileEntry { mode: entry.kind.git_mode(entry.mode), ..entry.clone() };
        files.iter().map(|(path, entry)| (path.clone(), plain(entry))).collect::<BTreeMap<_, _>>()
    };
    plain(old) == plain(new)
}

fn changed_settings(old: &KeyParts, new: &KeyParts) -> Vec<&'static str> {
    let parts = [
        ("target", old.target == new.target),
        ("platform", old.platforms == new.platforms),
        ("frontend", old.frontend == new.frontend),
        ("labels", old.labels == new.labels),
        ("secret ids", old.secret_ids == new.secret_ids),
        ("ssh ids", old.ssh_ids == new.ssh_ids),
        ("key schema", old.schema == new.schema),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn changed_names<'a, T: PartialEq>(old: &'a BTreeMap<String, T>, new: &'a BTreeMap<String, T>) -> Vec<&'a String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).collect()
}

/// The first changed path and the number of others, files before folders; `None` if nothing changed.
fn changed_files(old: &BTreeMap<String, FileEntry>, new: &BTreeMap<String, FileEntry>) -> Option<String> {
    let changed = changed_names(old, new);
    let is_folder = |path: &&&String| {
        [old, new]
            .iter()
            .filter_map(|files| files.get(**path))
            .all(|entry| entry.kind == crate::domain::model::FileKind::Folder)
    };
    let files: Vec<_> = changed.iter().filter(|path| !is_folder(path)).collect();
    let (first, count) = match files.first() {
        Some(first) => (**first, files.len()),
        None => (*changed.first()?, changed.len()),
    };
    let only_mode = match (old.get(first), new.get(first)) {
        (Some(old), Some(new)) => old.digest == new.digest && old.kind == new.kind,
        _ => false,
    };
    let note = match (old.contains_key(first), new.contains_key(first)) {
        (true, false) => " (gone)",
        _ if only_mode => " (its mode)",
        _ => "",
    };
    Some(match count {
        1 => format!("{first}{note}"),
        _ => format!("{first}{note}, +{} more", count - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Digest;
    use crate::domain::model::FileKind;

    fn entry(content: &str, mode: u32) -> FileEntry {
        FileEntry { kind: FileKind::File, mode, digest: Digest::of(content) }
    }

    fn files(list: &[(&str, &str, u32)]) -> BTreeMap<String, FileEntry> {
        list.iter().map(|(path, content, mode)| ((*path).to_owned(), entry(content, *mode))).collect()
    }

    #[test]
    fn names_the_first_file_and_counts_the_rest() {
        let old = files(&[("a", "1", 0o644), ("b", "1", 0o644), ("c", "1", 0o644)]);
        let new = files(&[("a", "1", 0o644), ("b", "2", 0o644), ("d", "1", 0o644)]);
        assert_eq!(changed_files(&old, &new).as_deref(), Some("b, +2 more"));
        assert_eq!(changed_files(&old, &old), None);
    }

    #[test]
    fn another_umask_is_told_from_another_mode() {
        let (old, new) =
            (files(&[("run.sh", "1", 0o755), ("a", "1", 0o644)]), files(&[("run.sh", "1", 0o775), ("a", "1", 0o664)]));
        assert!(only_by_umask(&old, &new));
        assert!(!only_by_umask(&old, &files(&[("run.sh", "1", 0o644), ("a", "1", 0o644)])), "it lost its execute bit");
        assert!(!only_by_umask(&old, &files(&[("run.sh", "2", 0o775), ("a", "1", 0o664)])), "its content changed");
    }

    #[test]
    fn says_when_only_the_mode_changed_or_a_file_is_gone() {
        let old = files(&[("run.sh", "1", 0o644)]);
        assert_eq!(changed_files(&old, &files(&[("run.sh", "1", 0o755)])).as_deref(), Some("run.sh (its mode)"));
        assert_eq!(changed_files(&old, &files(&[])).as_deref(), Some("run.sh (gone)"));
    }
}

//! Contexts on disk, and ignore files against BuildKit's own answers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Effort, Ignore, Inherited, Reader, check_files, locate};
use crate::domain::base::Digest;
use crate::domain::model::{Declared, FileKind, Listing};
use crate::domain::ports::{ContextError, ContextReader, Modes};

/// A project with a context `c` and what is put into it.
struct Project(tempfile::TempDir);

impl Project {
    fn with(files: &[(&str, &str)]) -> Self {
        let project = Self(tempfile::tempdir().expect("a temporary folder"));
        project.put("c/Dockerfile", "FROM scratch\nCOPY . /\n");
        for (path, text) in files {
            project.put(&format!("c/{path}"), text);
        }
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    }

    fn try_list(&self) -> Result<Listing, ContextError> {
        Reader::default().list(self.0.path(), &self.path("c"), &self.path("c/Dockerfile"))
    }

    fn list(&self) -> Listing {
        self.try_list().expect("a readable context")
    }

    fn names(&self) -> String {
        self.list().files.into_keys().collect::<Vec<_>>().join(" ")
    }
}

#[derive(serde::Deserialize)]
struct Vectors {
    files: Vec<String>,
    tree: Vec<String>,
    cases: Vec<(String, String)>,
}

fn vectors() -> Vectors {
    let text = include_str!("../../../tests/fixtures/dockerignore/vectors.json");
    serde_json::from_str(text).expect("the vectors")
}

#[test]
fn what_lian_build_writes_itself_is_part_of_no_build() {
    let before = Project::with(&[("kept", "x"), (".dockerignore", "!catalog/lian.lock\n"), ("catalog/x", "x")]);
    let listed = before.list();
    for own in ["lian.lock", "catalog/lian.lock", ".lian/lian.db", ".build-spec.ncl"] {
        before.put(&format!("c/{own}"), "x");
    }
    assert_eq!(before.list(), listed);
}

#[test]
fn ignores_what_buildkit_ignores() {
    let Vectors { files, tree, cases } = vectors();
    let project = Project::with(&[]);
    fs::remove_file(project.path("c/Dockerfile")).expect("gone");
    for file in &files {
        project.put(&format!("c/{file}"), "");
    }
    assert!(cases.len() > 600);
    let mut wrong = Vec::new();
    for (ignore, wanted) in &cases {
        project.put("c/Dockerfile.dockerignore", ignore);
        let found = match project.try_list() {
            Ok(listing) => tree.iter().map(|path| if listing.files.contains_key(path) { '1' } else { '0' }).collect(),
            Err(ContextError::Pattern { .. }) => "error".to_owned(),
            Err(error) => panic!("{error}"),
        };
        if found != *wanted {
            wrong.push(format!("{ignore:?}\n  found  {found}\n  wanted {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// An independent reading of a pattern's text, by trying everything.
fn naive(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**/") {
        return naive(rest, path) || path.match_indices('/').any(|(at, _)| naive(rest, &path[at + 1..]));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let stop = path.find('/').unwrap_or(path.len());
            (0..=stop).any(|at| path.is_char_boundary(at) && naive(&pattern[1..], &path[at..]))
        }
        (Some('?'), Some(c)) => c != '/' && naive(&pattern[1..], &path[c.len_utf8()..]),
        (Some(p), Some(c)) => p == c && naive(&pattern[p.len_utf8()..], &path[c.len_utf8()..]),
        _ => false,
    }
}

/// Whether the last pattern that matches the path or a folder above it leaves it out.
fn naive_excludes(patterns: &[(bool, String)], path: &str) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let above: Vec<&str> = ends.map(|at| &path[..at]).collect();
    let hit = |pattern: &str| above.iter().any(|path| naive(pattern, path));
    patterns.iter().rev().find(|(_, pattern)| hit(pattern)).is_some_and(|(exception, _)| !exception)
}

proptest! {
    /// The exception, if any, comes last and names the path itself: moby skips patterns that could change nothing, and
    /// with them what a folder would hand down. The vectors hold those cases.
    #[test]
    fn the_last_match_wins(
        out in proptest::collection::vec(pattern(), 0..4),
        back in any::<bool>(),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let patterns: Vec<(bool, String)> =
            out.into_iter().map(|p| (false, p)).chain(back.then(|| (true, path.clone()))).collect();
        let text: String = patterns.iter().map(|(not, p)| format!("{}{p}\n", if *not { "!" } else { "" })).collect();
        let ignore = Ignore::parse(&text).expect("sound patterns");
        let mut inherited = Inherited::default();
        let mut excluded = false;
        for at in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let mut effort = Effort::default();
            (excluded, inherited) = ignore.excludes(&path[..at], &inherited, &mut effort).expect("little work");
            if excluded && at < path.len() && !ignore.may_except_below(&path[..at], &mut effort).expect("little work") {
                prop_assert!(naive_excludes(&patterns, &path), "nothing below {} is let through", &path[..at]);
            }
        }
        prop_assert_eq!(excluded, naive_excludes(&patterns, &path), "{} with {:?}", path, text);
    }

    #[test]
    fn never_panics_on_an_ignore_file(text in "([!#/*?\\[\\]^a-c.\\\\ -]{0,8}\n){0,4}", path in "\\PC{0,8}") {
        if let Ok(ignore) = Ignore::parse(&text) {
            let mut effort = Effort::default();
            let _ = ignore.excludes(&path, &Inherited::default(), &mut effort);
            let _ = ignore.may_except_below(&path, &mut effort);
        }
    }

    /// A byte or a mode decides; the order in which files came to be, and what is left out, do not.
    #[test]
    fn every_byte_and_mode_counts(
        files in proptest::collection::btree_map("[a-d]{1,2}/[a-d]{1,3}", "[xy]{0,3}", 1..6),
        change in 0usize..6,
        which in any::<prop::sample::Index>(),
    ) {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let mut reversed = files.clone();
        reversed.reverse();
        let ignored = (".dockerignore", "out\n**/*.skip\n");
        let project = Project::with(&files);
        project.put("c/.dockerignore", ignored.1);
        let before = project.list();
        let twin = Project::with(&reversed);
        twin.put("c/.dockerignore", ignored.1);
        prop_assert_eq!(&before, &twin.list());
        let (path, text) = files[which.index(files.len())];
        let full = project.path(&format!("c/{path}"));
        let equal = match change {
            0 => { fs::write(&full, format!("{text}z")).expect("written"); false }
            1 => { fs::set_permissions(&full, fs::Permissions::from_mode(0o600)).expect("set"); false }
            2 => { fs::rename(&full, full.with_extension("new")).expect("renamed"); false }
            3 => {
                let folder = full.parent().expect("a folder");
                fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("set");
                false
            }
            4 => {
                let time = std::time::SystemTime::UNIX_EPOCH;
                fs::File::options().append(true).open(&full).and_then(|file| file.set_modified(time)).expect("set");
                true
            }
            _ => {
                project.put("c/out/x", "1");
                fs::write(full.with_extension("skip"), "1").expect("written");
                true
            }
        };
        prop_assert_eq!(before == project.list(), equal);
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof!["[ab]{1,2}", "[ab]?\\*[ab]?", "\\?[ab]?", Just("**".to_owned())];
    proptest::collection::vec(part, 1..4).prop_map(|mut parts| {
        parts.dedup();
        // `**` at an end is compared as text, which the vectors cover.
        if parts.last().is_some_and(|last| last == "**") {
            parts.push("a".to_owned());
        }
        if parts[0] == "**" {
            parts.push("*".to_owned());
        }
        parts.join("/")
    })
}

#[test]
fn lists_kinds_modes_and_digests() {
    let project = Project::with(&[("a/run", "#!"), ("sock-not", "")]);
    fs::set_permissions(project.path("c/a/run"), fs::Permissions::from_mode(0o4755)).expect("set");
    symlink("../outside", project.path("c/link")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(project.path("c/sock")).expect("a socket");
    let listing = project.list();
    assert_eq!(project.names(), "Dockerfile a a/run link sock-not");
    let entry = |name: &str| &listing.files[name];
    assert_eq!((entry("a/run").kind, entry("a/run").mode), (FileKind::File, 0o4755));
    assert_eq!((entry("link").kind, entry("link").mode), (FileKind::Link, 0));
    assert_eq!(entry("link").digest, Digest::of("../outside"));
    assert_eq!(entry("a").kind, FileKind::Folder);
    assert_eq!((listing.bytes, listing.ignore.clone()), (24, None));
}

#[test]
fn names_that_are_no_text_are_kept_apart() {
    let project = Project::with(&[("a\\xff", "1"), ("b", "")]);
    let name = std::ffi::OsStr::from_bytes(b"a\xff");
    fs::write(project.path("c").join(name), "2").expect("a file");
    assert_eq!(project.names(), "Dockerfile a\\\\xff a\\xff b");
}

#[test]
fn what_a_builder_reads_itself_has_no_attributes() {
    // Not every file system in memory has attributes.
    let project = Project(tempfile::tempdir_in("/var/tmp").expect("a folder"));
    for (path, text) in [("c/Dockerfile", "FROM scratch\n"), ("c/plain", "1"), ("c/sub/marked", "2")] {
        project.put(path, text);
    }
    let apart = |modes| {
        let copy = super::told_apart(&project.path("c"), &project.list(), modes).expect("readable");
        copy.map(|copy| (copy.path().join("sub/marked"), copy))
    };
    assert!(apart(Modes::AsIs).is_none(), "there are none");
    let marked = project.path("c/sub/marked");
    let attribute = |path: &Path| rustix::fs::getxattr(path, "user.note", &mut [0_u8; 8][..]);
    rustix::fs::setxattr(&marked, "user.note", b"note", rustix::fs::XattrFlags::empty()).expect("an attribute");
    let (copied, _copy) = apart(Modes::AsIs).expect("a copy");
    assert!(attribute(&marked).is_ok() && attribute(&copied).is_err());
    assert_eq!(fs::read(&copied).expect("a file"), b"2");
    // Its time tells that it is another file than the one that BuildKit may have got before.
    let time = |path: &Path| fs::metadata(path).expect("a file").modified().expect("a time");
    assert_ne!(time(&marked), time(&copied));
    assert!(apart(Modes::Git).is_none(), "rsync does not carry them");
    rustix::fs::removexattr(&marked, "user.note").expect("removed");
    rustix::fs::setxattr(project.path("c/sub"), "user.note", b"note", rustix::fs::XattrFlags::empty()).expect("one");
    assert!(apart(Modes::AsIs).is_some_and(|(copied, _)| attribute(copied.parent().expect("a folder")).is_err()));
}

#[test]
fn the_ignore_file_beside_the_dockerfile_wins() {
    let project = Project::with(&[("x", ""), ("y", ""), (".dockerignore", "x\n")]);
    assert_eq!(project.names(), ".dockerignore Dockerfile y");
    let context = project.list().ignore.expect("an ignore file");
    project.put("c/Dockerfile.dockerignore", "y\nDockerfile*\n.dockerignore\n");
    assert_eq!(project.names(), "x");
    assert_ne!(project.list().ignore, Some(context));
}

#[test]
fn an_ignore_file_without_patterns_counts_as_none() {
    let project = Project::with(&[("x", "")]);
    for nothing in ["", "\n", "# all of it\n\n"] {
        project.put("c/.dockerignore", nothing);
        let listing = project.list();
        assert_eq!((listing.ignore, listing.files.contains_key("x")), (None, true), "{nothing:?}");
    }
    project.put("c/.dockerignore", "!x\n");
    assert!(project.list().ignore.is_some());
}

#[test]
fn tells_the_line_of_a_bad_pattern() {
    let project = Project::with(&[(".dockerignore", "# fine\nx\n[a\n")]);
    let error = project.try_list().expect_err("a bad pattern");
    assert!(matches!(error, ContextError::Pattern { line: 3, .. }), "{error}");
}

#[test]
fn refuses_what_leads_outside() {
    let project = Project::with(&[]);
    let inner = project.path("c");
    let list =
        |context: &Path, dockerfile: &Path| Reader::default().list(&inner, context, dockerfile).expect_err("outside");
    let dockerfile = inner.join("Dockerfile");
    project.put("Dockerfile", "FROM scratch\n");
    assert!(matches!(list(&inner.join(".."), &dockerfile), ContextError::Outside { .. }));
    assert!(matches!(list(&inner, &inner.join("../Dockerfile")), ContextError::Outside { .. }));
    assert!(matches!(list(&inner.join("../nowhere"), &dockerfile), ContextError::Outside { .. }));
    assert!(matches!(list(&inner.join("nowhere"), &dockerfile), ContextError::Missing { .. }));
    symlink("/etc", inner.join("etc")).expect("a link");
    assert!(matches!(list(&inner.join("etc"), &dockerfile), ContextError::Outside { .. }));
    assert!(locate(&inner, &inner, &dockerfile).is_ok());
}

#[test]
fn refuses_pipes_unless_they_are_left_out() {
    let project = Project::with(&[]);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, project.path("c/pipe"), rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    assert!(matches!(project.try_list(), Err(ContextError::Unreadable { .. })));
    project.put("c/.dockerignore", "pipe");
    assert_eq!(project.names(), ".dockerignore Dockerfile");
}

#[test]
fn hashes_many_files_like_few() {
    let files: Vec<(String, String)> = (0..200).map(|at| (format!("f{at:03}"), "x".repeat(at * 1000))).collect();
    let project = Project::with(&files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>());
    let listing = project.list();
    for (path, text) in &files {
        assert_eq!(listing.files[path].digest, Digest::of(text), "{path}");
    }
}

fn declared(folder: &Path, context: &str, dockerfile: Option<&str>) -> Declared {
    let mut layer = serde_json::json!({
        "name": "app", "kind": "app", "build_base": "debian", "context": context,
    });
    if let Some(dockerfile) = dockerfile {
        layer["dockerfile"] = dockerfile.into();
    }
    let layer = serde_json::from_value(layer).expect("a layer");
    Declared { layer, file: folder.join("catalog/app/workflow.ncl"), places: BTreeMap::new() }
}

#[test]
fn check_tells_every_fault_of_a_layer() {
    let project = Project::with(&[("Containerfile", ""), ("bin", "")]);
    fs::create_dir_all(project.path("catalog/app")).expect("a folder");
    fs::create_dir_all(project.path("e")).expect("a folder");
    fs::write(project.path("e/Dockerfile"), b"FROM \xff").expect("a file");
    project.put("f/Containerfile", "");
    let root = project.0.path().canonicalize().expect("there");
    let shown = |context: &str, dockerfile: Option<&str>| match check_files(
        &declared(&root, context, dockerfile),
        &root,
        &|| false,
    ) {
        Ok(located) => format!("found {}", located.dockerfile.display()),
        Err(faults) => {
            let line = |fault: &crate::domain::model::Diagnostic| {
                format!("{}: {} ({})", fault.code, fault.message, fault.help.as_deref().unwrap_or("no help"))
            };
            faults.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    };
    let cases = [
        ("../../c", None),
        ("../../d", None),
        ("../../c", Some("../../c/Dockerfil")),
        ("../../d", Some("../../nowhere/Dockerfile")),
        ("../../..", None),
        ("../../c", Some("../../c")),
        ("../../c/bin", None),
        ("../../e", None),
        ("../../f", None),
    ];
    let text: Vec<_> = cases
        .iter()
        .map(|(c, d)| format!("{c} {d:?}\n{}", shown(c, *d).replace(root.to_str().expect("text"), "ROOT")))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

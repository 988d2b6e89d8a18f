//! Tests of git's index against git itself: every version, worktrees, damage.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::domain::base::mutated::mutated;

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments).current_dir(folder);
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").output();
    let output = output.expect("git runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(folder: &Path, name: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("below")).expect("writable");
    std::fs::write(path, name).expect("writable");
}

/// A repository whose index holds these files.
fn repository(format: &str, names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    git(dir.path(), &["init", "--quiet", "--object-format", format]);
    for name in names {
        write(dir.path(), name);
        git(dir.path(), &["add", "-f", name]);
    }
    dir
}

fn tracked(dir: &tempfile::TempDir, path: &str) -> bool {
    let root = std::fs::canonicalize(dir.path()).expect("a folder");
    tracks(&root.join(path)).expect("an index")
}

#[test]
fn every_format_of_an_index_is_read_as_git_reads_it() {
    let names = [".lia", ".lian-other", ".lian/lian.db", ".lib/x", "a/long/path/to/a/file", "a/long/path/to/another"];
    for format in ["sha1", "sha256"] {
        let dir = repository(format, &names);
        for version in ["2", "4"] {
            git(dir.path(), &["update-index", "--index-version", version]);
            for (path, expected) in [
                (".lian", true),
                (".lian/lian.db", true),
                (".lian/lian.db/x", true),
                (".li", false),
                ("a/long", true),
                ("b", false),
            ] {
                assert_eq!(tracked(&dir, path), expected, "{path} in version {version} of {format}");
            }
        }
        // The extended flags of version 3.
        git(dir.path(), &["update-index", "--index-version", "2"]);
        write(dir.path(), "later");
        git(dir.path(), &["add", "--intent-to-add", "later"]);
        assert!(tracked(&dir, ".lian") && tracked(&dir, "later") && !tracked(&dir, "never"));
        git(dir.path(), &["rm", "-r", "--quiet", "--cached", ".lian"]);
        assert!(!tracked(&dir, ".lian"), "{format}");
    }
}

#[test]
fn a_worktree_a_submodule_and_a_repository_further_up_are_asked() {
    let dir = repository("sha1", &[".lian/x", "other"]);
    git(dir.path(), &["commit", "--quiet", "-m", "x"]);
    git(dir.path(), &["worktree", "add", "--quiet", "tree"]);
    assert!(tracked(&dir, "tree/.lian") && !tracked(&dir, "tree/.lean"));
    // A `.git` in the folder itself, or below the one that tracks it, hides nothing.
    std::fs::create_dir(dir.path().join(".lian/.git")).expect("writable");
    assert!(tracked(&dir, ".lian") && tracked(&dir, ".lian/x") && !tracked(&dir, ".lian/y"));
}

#[test]
fn an_index_that_nobody_understands_is_not_an_empty_one() {
    let dir = repository("sha1", &["a", "b"]);
    assert!(!tracked(&dir, "c"));
    let index = dir.path().join(".git/index");
    let whole = std::fs::read(&index).expect("an index");
    let root = std::fs::canonicalize(dir.path()).expect("a folder");
    for damaged in [&whole[..whole.len() - 3], &whole[..30], b"DIRC", b"", b"DIRC\0\0\0\x02\xff\xff\xff\xff"] {
        std::fs::write(&index, damaged).expect("writable");
        tracks(&root.join("c")).expect_err("it was understood");
    }
    std::fs::write(&index, &whole).expect("writable");
    git(dir.path(), &["update-index", "--split-index"]);
    assert_eq!(tracks(&root.join("c")).expect_err("it was understood").kind(), io::ErrorKind::Unsupported);
    std::fs::remove_file(&index).expect("removable");
    assert!(!tracked(&dir, "a"), "no index, no files");
    std::os::unix::fs::symlink("/dev/zero", &index).expect("writable");
    tracks(&root.join("c")).expect_err("a link was followed");
}

/// Indexes of each version, as git writes them.
fn written() -> Vec<Vec<u8>> {
    let dir = repository("sha1", &["a", "a-b", "some/long/path/x", "some/long/path/y"]);
    let index = |version: &str| {
        git(dir.path(), &["update-index", "--index-version", version]);
        std::fs::read(dir.path().join(".git/index")).expect("an index")
    };
    vec![index("2"), index("4")]
}

#[test]
fn any_bytes_are_an_index_or_an_error() {
    proptest!(|(index in mutated(written()), wanted in mutated(vec![b"some/long".to_vec(), b"a".to_vec()]))| {
        // Whether it is found is another matter: it ends, and an empty index is understood.
        drop(names_it(&index, &wanted));
    });
    // A count of entries that are not there is not gone through.
    let mut many = b"DIRC\0\0\0\x04\xff\xff\xff\xff".to_vec();
    many.extend([0; 2_000]);
    names_it(&many, b"a").expect_err("it was understood");
}

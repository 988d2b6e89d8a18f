//! Images that are stale, incomplete or not what their key says, and what becomes of them. Not responsible for: what
//! stands on an image that is gone (see `apply`), links (see `links`).

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::runners::{SESSION, project_on};
use crate::support::buildkitd::daemon_root;
use crate::support::project::{Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

fn apply(project: &Project, more: &[&str]) -> Ran {
    let mut arguments = vec!["apply", "--format", "json"];
    arguments.extend(more);
    project.lian(&arguments).exits(0)
}

/// Removes the tags of one image from the project's layout.
fn forget(project: &Project, image: &str) {
    let path = project.state().join("images/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
    let entries = index["manifests"].as_array_mut().expect("entries");
    let before = entries.len();
    let name = |entry: &Value| text(&entry["annotations"]["org.opencontainers.image.ref.name"]).to_owned();
    entries.retain(|entry| !name(entry).starts_with(&format!("{image}:")));
    assert!(entries.len() < before, "there was no {image}");
    std::fs::write(path, index.to_string()).expect("writable");
}

#[test]
fn a_layer_whose_artifacts_are_gone_is_built_again() {
    let project = Project::with_base();
    project.layer(
        "tools",
        &format!("{BASE}\n  artifact_paths = [\"/tool\"],"),
        "FROM base.example/busybox:1\nRUN echo tool > /tool\n",
    );
    let copies = "FROM base.example/busybox:1\nCOPY --from=lamina/tools-artifacts /tool /tool\n";
    project.layer("app", &format!("{BASE}\n  build_inputs = [\"tools\"],"), copies);
    assert_eq!(apply(&project, &[]).outcomes(), ["app=built", "tools=built"]);

    forget(&project, "lamina/tools-artifacts");
    project.write("catalog/app/Dockerfile", &format!("{copies}RUN cat /tool\n"));
    assert_eq!(apply(&project, &[]).outcomes(), ["app=built", "tools=built"]);
    assert!(project.digest("lamina/tools-artifacts:latest").is_some());
    assert_eq!(apply(&project, &[]).outcomes(), ["app=reused", "tools=reused"]);

    // Whatever uses it: somebody elsewhere may.
    forget(&project, "lamina/tools-artifacts");
    assert_eq!(apply(&project, &[]).outcomes(), ["app=reused", "tools=built"]);
    assert!(project.digest("lamina/tools-artifacts:latest").is_some());
}

/// The files of this name below a folder.
fn found(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => found(&entry.path(), name),
        Ok(_) if entry.file_name() == *name => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(found).collect()
}

/// Images keep none of them, but steps would see them, and so could what they write.
#[test]
fn attributes_of_files_are_in_no_build_as_they_are_in_no_key() {
    let project = Project::with_base();
    let name = format!("marked-{}", std::process::id());
    project.layer("app", BASE, "FROM base.example/busybox:1\nCOPY . /files/\nRUN ls -l /files\n");
    project.write(&format!("catalog/app/{name}"), "content").write("catalog/app/plain", "content");
    let path = project.path().join("catalog/app").join(&name);
    let attribute = |path: &Path| rustix::fs::getxattr(path, "trusted.lian", &mut [0_u8; 8][..]);
    rustix::fs::setxattr(&path, "trusted.lian", b"note", rustix::fs::XattrFlags::empty()).expect("an attribute");
    assert!(attribute(&path).is_ok());
    assert_eq!(apply(&project, &[]).outcomes(), ["app=built"]);
    let built = found(&daemon_root(), &name);
    assert!(built.len() >= 2, "it was sent, and copied: {built:?}");
    for copy in built {
        assert!(attribute(&copy).is_err(), "{} has it", copy.display());
    }
    rustix::fs::removexattr(&path, "trusted.lian").expect("removed");
    assert_eq!(apply(&project, &[]).outcomes(), ["app=reused"]);
}

/// Writes a file of the context, and the time that all files get in archives and many checkouts.
fn write_at_no_time(project: &Project, path: &str, content: &str) {
    project.write(path, content);
    let file = std::fs::File::options().write(true).open(project.path().join(path)).expect("opened");
    file.set_modified(std::time::UNIX_EPOCH).expect("changed");
}

#[test]
fn a_file_counts_by_its_content_though_size_and_time_are_the_same() {
    let project = Project::with_base();
    let dockerfile =
        |content: &str| format!("FROM base.example/busybox:1\nCOPY version /\nRUN grep {content} /version\n");
    // Both contexts look the same but for the content.
    for (layer, content) in [("one", "1.0"), ("two", "2.0")] {
        project.layer(layer, BASE, "");
        for (path, content) in [("version", content.to_owned()), ("Dockerfile", dockerfile(content))] {
            write_at_no_time(&project, &format!("catalog/{layer}/{path}"), &content);
        }
    }
    assert_eq!(apply(&project, &["--parallel", "1"]).outcomes(), ["one=built", "two=built"]);
    // One context, as it was and as it is now.
    for (path, content) in [("version", "3.0".to_owned()), ("Dockerfile", dockerfile("3.0"))] {
        write_at_no_time(&project, &format!("catalog/one/{path}"), &content);
    }
    assert_eq!(apply(&project, &[]).outcomes(), ["one=built", "two=reused"]);
    assert!(!project.path().join(".lian").exists(), "a copy of a context was made in the project");
}

/// A layer that copies a folder of this mode with this file in it, and fails if either is not what it gets.
fn folder_of(project: &Project, layer: &str, mode: u32, content: &str) {
    let fields = format!("{BASE}\n  build_args = {{ MODE = \"{mode:o}\", CONTENT = \"{content}\" }},");
    project.layer(
        layer,
        &fields,
        "FROM base.example/busybox:1\nCOPY d /d\nARG MODE\nARG CONTENT\n\
         RUN stat -c %a /d/in && test $(stat -c %a /d/in) = $MODE && grep -q $CONTENT /d/in/f\n",
    );
    write_at_no_time(project, &format!("catalog/{layer}/d/in/f"), content);
    let folder = project.path().join(format!("catalog/{layer}/d/in"));
    std::fs::set_permissions(folder, Permissions::from_mode(mode)).expect("changed");
}

#[test]
fn a_folder_counts_by_its_mode_though_nothing_else_changes() {
    let project = Project::with_base();
    folder_of(&project, "one", 0o755, "f");
    assert_eq!(apply(&project, &[]).outcomes(), ["one=built"]);
    folder_of(&project, "one", 0o700, "f");
    assert_eq!(apply(&project, &[]).outcomes(), ["one=built"]);
    folder_of(&project, "one", 0o2755, "f");
    assert_eq!(apply(&project, &[]).outcomes(), ["one=built"]);
    // What was built before is still what its key says.
    folder_of(&project, "one", 0o755, "f");
    assert_eq!(apply(&project, &["--force", "one"]).outcomes(), ["one=built"]);
}

#[test]
fn a_folder_counts_by_its_mode_on_a_runner_that_asks_for_the_context() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    for mode in [0o755, 0o700, 0o755] {
        folder_of(&project, "one", mode, "f");
        let ran = apply(&project, &["--force", "one"]);
        assert_eq!(ran.outcomes(), ["one=built"]);
    }
}

#[test]
fn contexts_that_differ_by_the_modes_of_folders_alone_do_not_mix() {
    let project = Project::with_base();
    for (layer, mode) in [("a", 0o755), ("b", 0o711), ("c", 0o755), ("d", 0o750)] {
        folder_of(&project, layer, mode, "same");
    }
    let built = ["a=built", "b=built", "c=built", "d=built"];
    assert_eq!(apply(&project, &["--parallel", "1"]).outcomes(), built);
}

#[test]
fn contexts_that_are_sent_at_the_same_time_do_not_mix() {
    let project = Project::with_base();
    for content in ["ant", "bee", "cat", "dog", "eel", "fox"] {
        folder_of(&project, content, 0o755, content);
    }
    let outcomes = apply(&project, &["--parallel", "6"]).outcomes();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.ends_with("=built")).count(), 6, "{outcomes:?}");
}

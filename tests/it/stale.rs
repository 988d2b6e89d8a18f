//! Images that are stale, incomplete or not what their key says, and what becomes of them. Not responsible for: what
//! stands on an image that is gone (see `apply`), links (see `links`).

use serde_json::Value;

use crate::support::project::{Project, Ran, text};

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

//! Dockerfiles that only BuildKit used to read aright, built on a real buildkitd by the binary.

use crate::support::project::Project;

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

#[test]
fn the_line_behind_a_doubled_escape_is_an_instruction() {
    let project = Project::with_base();
    project.layer("tools", BASE, "FROM base.example/busybox:1\nRUN echo tool > /tool.txt\n");
    let fields = format!("{BASE}\n  build_inputs = [\"tools\"],\n  artifact_paths = [\"/tool.txt\"],");
    project.layer(
        "app",
        &fields,
        "FROM base.example/busybox:1\nENV WINDIR C:\\\\data\\\\\nCOPY --from=lamina/tools /tool.txt /tool.txt\n\
         RUN cat /tool.txt\n",
    );
    project.lian(&["check"]).exits(0);
    let built = project.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(built.outcomes(), ["app=built", "tools=built"]);
}

#[test]
fn empty_forms_are_built() {
    let project = Project::with_base();
    for (name, line) in [
        ("a", "CMD []"),
        ("b", "ENTRYPOINT [ ]"),
        ("c", "CMD"),
        ("d", "ENTRYPOINT"),
        ("e", "ONBUILD ENTRYPOINT []"),
        ("f", "RUN x=abc; echo ${x:0:2} && cat <<EOF > /doc\nRUN inside\nEOF\nRUN cat /doc"),
    ] {
        project.layer(name, BASE, &format!("FROM base.example/busybox:1\nRUN true\n{line}\n"));
    }
    project.lian(&["check"]).exits(0);
    let built = project.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(built.outcomes(), ["a=built", "b=built", "c=built", "d=built", "e=built", "f=built"]);
}

#[test]
fn an_ignore_file_and_a_dockerfile_in_latin_1_are_read_the_second_time_as_the_first() {
    let project = Project::with_base();
    let fields = format!("{BASE}\n  context = \"../..\",");
    project.layer("app", &fields, "unused\n");
    let bytes = |path: &str, content: &[u8]| std::fs::write(project.path().join(path), content).expect("writable");
    bytes(".dockerignore", b"# pr\xe9paration\n*.log\n.git\n");
    bytes("Dockerfile", b"# pr\xe9paration\nFROM base.example/busybox:1\nCOPY a.txt /a.txt\n");
    project.write("a.txt", "a\n").write("a.log", "a\n");
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=built"]);
    assert!(project.path().join(".lian").is_dir(), "the context holds lian-build's own folder");
    project.write("a.log", "b\n");
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=reused"]);
    project.write("a.txt", "b\n");
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=built"]);
}

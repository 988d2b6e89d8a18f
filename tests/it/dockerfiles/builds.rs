//! Dockerfiles that only BuildKit used to read aright, built on a real buildkitd by the binary.

use std::os::unix::ffi::OsStrExt as _;

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
    project.write("a.log", "b\n");
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=reused"]);
    project.write("a.txt", "b\n");
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=built"]);
}

#[test]
fn a_pattern_in_latin_1_leaves_out_what_the_build_leaves_out() {
    let project = Project::with_base();
    let text = "FROM base.example/busybox:1\nCOPY . /c\nRUN ls /c/caf* && ! ls /c/*.log && ! ls /c/plain*\n";
    project.layer("app", BASE, text);
    let folder = project.path().join("catalog/app");
    let bytes = |name: &[u8], content: &[u8]| {
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), content).expect("writable");
    };
    // BuildKit hands the first pattern on with U+FFFD in it, which is no byte of the name.
    bytes(b".dockerignore", b"caf\xe9.txt\n*\xe9.log\nplain\xc3\xa9\n");
    bytes(b"caf\xe9.txt", b"a");
    bytes(b"\xe9.log", b"a");
    bytes(b"plain\xc3\xa9", b"a");
    let apply = || project.lian(&["apply", "--format", "json"]).exits(0).outcomes();
    assert_eq!(apply(), ["app=built"]);
    bytes(b"\xe9.log", b"b");
    bytes(b"plain\xc3\xa9", b"b");
    assert_eq!(apply(), ["app=reused"]);
    bytes(b"caf\xe9.txt", b"b");
    assert_eq!(apply(), ["app=built"], "the file is in the image");
}

#[test]
fn rules_of_style_that_a_file_makes_errors_are_faults_before_the_build() {
    let project = Project::with_base();
    let strict = "# check=error=true\nFROM base.example/busybox:1\n";
    project.layer("sound", BASE, &format!("{strict}ARG A=1\nRUN echo $A\nCMD [\"true\"]\n"));
    project.layer("skipped", BASE, &format!("{strict}# check=skip=MaintainerDeprecated\nMAINTAINER me\n"));
    project.lian(&["check"]).exits(0);
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["skipped=built", "sound=built"]);
    project.layer("ignored", BASE, &format!("{strict}COPY a.log /\n"));
    project.write("catalog/ignored/.dockerignore", "*.log\n").write("catalog/ignored/a.log", "a\n");
    project.layer("casing", BASE, &format!("{strict}run true\n"));
    let told = project.lian(&["check", "--format", "json"]).exits(1).stdout;
    for rule in ["CopyIgnoredFile: ", "ConsistentInstructionCasing: "] {
        assert!(told.contains(rule), "{told}");
    }
}

#[test]
fn what_no_build_can_be_given_is_a_fault_of_the_check() {
    let project = Project::with_base();
    let with = |line: &str| {
        project.layer("app", BASE, &format!("FROM base.example/busybox:1\nRUN {line} true\n"));
        project.lian(&["check", "--format", "json"])
    };
    for (flag, told) in [
        ("--mount=type=secret,id=token,required", "secret `token`, which is not declared: the mount is `required`"),
        ("--mount=type=ssh,required=true", "ssh socket `default`, which is not declared: the mount is `required`"),
        ("--device=vendor/class=one", "BuildKit's own frontend knows no `--device`"),
        ("--security=insecure", "`--security=insecure` asks for a privilege that no build is granted"),
        ("--network=host", "`--network=host` asks for a privilege that no build is granted"),
    ] {
        let said = with(flag).exits(1).json();
        assert!(said.to_string().contains(told), "{said}");
    }
    for flag in ["--mount=type=secret,id=token", "--mount=type=ssh", "--network=none", "--security=sandbox"] {
        with(flag).exits(0);
    }
    // A declared secret that has no value is told before anything is built, if a mount requires it.
    let fields = format!("{BASE}\n  secrets = [{{ id = \"token\", env = \"LIAN_TEST_NO_SUCH\" }}],");
    let text = "FROM base.example/busybox:1\nRUN --mount=type=secret,id=token,required true\n";
    project.layer("app", &fields, text);
    let said = project.lian(&["apply"]).exits(64).both();
    assert!(said.contains("`token` of layer `app`: the environment variable LIAN_TEST_NO_SUCH"), "{said}");
}

//! What counts as out of memory on a real host, end to end. Not responsible for: the texts (see `buildkit::classify`).

use crate::runners::{SESSION, project_on};
use crate::support::project::text;
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// As cargo ends where the kernel killed a compiler: a long line, many others, and an exit code of its own.
#[test]
fn a_compiler_that_the_kernel_killed_is_out_of_memory_however_long_its_command() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let (small, large) = (Sandbox::with(&public, 2, 2), Sandbox::with(&public, 4, 16));
    let project = project_on(&[(&small, 2, 2), (&large, 4, 16)], &key, SESSION);
    project.layer("cargo", BASE, "FROM base.example/busybox:1\nCOPY cargo /cargo\nRUN sh /cargo\n");
    project.write("catalog/cargo/.build-spec.ncl", "{ cpu = 2, memory_gb = 2 }");
    let command = "--extern a=/workspace/target/liba.rlib ".repeat(130);
    project.write(
        "catalog/cargo/cargo",
        &format!(
            "sh -c 'x=$(head -c 50000000 /dev/zero | tr \"\\0\" a); echo ${{#x}}' && exit 0\n\
             echo \"  process didn't exit successfully: \\`rustc {command}\\` (signal: 9, SIGKILL: kill)\"\n\
             for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo \"warning: unused $n\"; done\n\
             exit 101\n"
        ),
    );
    let ran = project.lian(&["apply", "--format", "json"]).exits(0);
    let events = ran.events();
    let retried = events.iter().find(|event| event["type"] == "step.retried").expect("a second try");
    assert_eq!(retried["fault"]["kind"], "out_of_memory", "{retried}");
    assert!(text(&retried["fault"]["evidence"]).ends_with(" of 33.6 MB"), "{retried}");
    assert!(retried["fault"]["log_tail"].to_string().contains("unused 20"), "{retried}");
}

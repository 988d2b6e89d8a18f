//! Tests of `classify`: the texts are those that BuildKit v0.32.2 wrote.

use super::*;

const RUN: &str = "[2/2] RUN make";

fn step(error: &str, tail: &[&str], oom: OomEvidence) -> Fault {
    let vertex = VertexFailure {
        name: RUN.to_owned(),
        error: error.to_owned(),
        log_tail: tail.iter().map(|line| (*line).to_owned()).collect(),
    };
    let text = format!(
        "Dockerfile:2\n--------------------\n   2 | >>> RUN make\n--------------------\nerror: failed to solve: {error}"
    );
    classify(&Failure { vertices: vec![vertex], text, exit: Some(1), oom })
}

fn counter() -> OomEvidence {
    OomEvidence::Counter { text: "memory.failcnt went from 0 to 7".to_owned() }
}

#[test]
fn a_step_that_ends_badly_is_a_failed_build() {
    let fault = step(r#"process "/bin/sh -c make" did not complete successfully: exit code: 2"#, &["boom"], counter());
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Build, "lian::buildkit::step_failed"));
    assert_eq!((fault.step.as_deref(), fault.log_tail), (Some(RUN), vec!["boom".to_owned()]));
}

#[test]
fn out_of_memory_wants_evidence() {
    let killed = r#"process "/bin/sh -c make" did not complete successfully: exit code: 137"#;
    assert_eq!(step(killed, &[], counter()).kind, FaultKind::OutOfMemory);
    assert_eq!(step(killed, &[], OomEvidence::None).kind, FaultKind::Build);

    let enomem =
        r#"ResourceExhausted: process "/bin/sh -c make" did not complete successfully: cannot allocate memory"#;
    assert_eq!(step(enomem, &[], OomEvidence::None).kind, FaultKind::OutOfMemory);

    let cargo = r#"process "/bin/sh -c cargo b" did not complete successfully: exit code: 101"#;
    let rustc = ["process didn't exit successfully: `rustc …` (signal: 9, SIGKILL: kill)"];
    assert_eq!(step(cargo, &rustc, counter()).kind, FaultKind::OutOfMemory);
    assert_eq!(step(cargo, &rustc, OomEvidence::None).kind, FaultKind::Build);
    assert_eq!(step(cargo, &["error[E0308]"], counter()).kind, FaultKind::Build);
}

#[test]
fn the_steps_own_text_proves_nothing() {
    let echo = r#"process "/bin/sh -c echo did not complete successfully: exit code: 137; echo OOM Killed: cannot allocate memory; false" did not complete successfully: exit code: 1"#;
    let fault = step(echo, &["Killed", "out of memory", "exit code: 137"], counter());
    assert_eq!((fault.kind, fault.evidence.as_deref()), (FaultKind::Build, Some("exit code 1")));
}

#[test]
fn a_harmless_vertex_error_is_not_the_cause() {
    let import = VertexFailure { name: "importing cache manifest".into(), error: "not found".into(), log_tail: vec![] };
    let real = VertexFailure {
        name: RUN.into(),
        error: "process \"x\" did not complete successfully: exit code: 3".into(),
        log_tail: vec![],
    };
    let cancelled = VertexFailure { name: "[b 2/2] RUN y".into(), error: "context canceled".into(), log_tail: vec![] };
    let text = format!("error: failed to solve: {}", real.error);
    let fault =
        classify(&Failure { vertices: vec![real, import, cancelled], text, exit: Some(1), ..Failure::default() });
    assert_eq!(fault.step.as_deref(), Some(RUN));
}

#[test]
fn names_what_is_missing() {
    let secret = step("secret tok: not found", &[], OomEvidence::None);
    assert_eq!((secret.kind, secret.code.as_str()), (FaultKind::Missing, "lian::buildkit::missing_secret"));
    assert!(secret.message.contains("`tok`"));
    let ssh = step("no SSH key \"\" forwarded from the client", &[], OomEvidence::None);
    assert_eq!(ssh.code, "lian::buildkit::missing_ssh");
    let copy = step("failed to calculate checksum of ref yq5::z84: \"/nofile\": not found", &[], OomEvidence::None);
    assert!(copy.message.contains("`/nofile`"), "{}", copy.message);
    let from = step("lstat /bin/nofile: no such file or directory", &[], OomEvidence::None);
    assert_eq!(from.code, "lian::buildkit::missing_file");
}

#[test]
fn the_world_is_not_the_layers_fault() {
    for why in
        ["EOF", "command [docker exec -i lian-1 buildctl dial-stdio] has exited with exit status 137, make sure …"]
    {
        let text = "error: failed to receive status: rpc error: code = Unavailable desc = error reading from server: ";
        let gone = classify(&Failure { text: format!("{text}{why}"), exit: Some(1), ..Failure::default() });
        assert_eq!((gone.kind, gone.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::daemon_gone"));
    }

    let error = "failed to do request: Head \"https://h/v2/library/nosuch/manifests/latest\": dial tcp: no such host";
    let vertex = VertexFailure { name: "[internal] load metadata".into(), error: error.into(), log_tail: vec![] };
    let text = format!(
        "error: failed to solve: nosuch: failed to resolve source metadata for h/library/nosuch:latest: {error}"
    );
    let pull = classify(&Failure { vertices: vec![vertex], text, exit: Some(1), ..Failure::default() });
    assert_eq!((pull.kind, pull.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::base_unreachable"));
    assert!(pull.message.starts_with("h/library/nosuch:latest"), "{}", pull.message);
    assert!(pull.help.is_some_and(|help| help.contains("--base-image h/library/nosuch:latest=oci-layout:DIR")));

    let full = step("write /x: no space left on device", &[], OomEvidence::None);
    assert_eq!((full.kind, full.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::disk_full"));
    let killed = classify(&Failure { exit: None, ..Failure::default() });
    assert_eq!(killed.code, "lian::buildkit::buildctl_killed");
}

#[test]
fn a_dockerfile_that_cannot_be_read_is_a_failed_build() {
    let text = "Dockerfile:2\n--------------------\n   2 | >>> RUNN a\n--------------------\nerror: failed to solve: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)";
    let fault = classify(&Failure { text: text.into(), exit: Some(1), ..Failure::default() });
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Build, "lian::buildkit::dockerfile"));
    assert!(fault.message.starts_with("dockerfile parse error on line 2"), "{}", fault.message);
}

#[test]
fn counters_tell_whose_kill_it_was() {
    let usage = |oom_kills, kernel_kills| Usage {
        oom_kills,
        kernel_kills,
        memory_peak: 7_800_000_000,
        memory_limit: 8_000_000_000,
        ..Usage::default()
    };
    assert_eq!(OomEvidence::between(&usage(1, 5), &usage(1, 5)), OomEvidence::None);
    assert_eq!(OomEvidence::between(&usage(1, 5), &usage(1, 6)), OomEvidence::Elsewhere);
    let text = "killed at 7.8 of 8.0 GB".to_owned();
    assert_eq!(OomEvidence::between(&usage(1, 5), &usage(2, 6)), OomEvidence::Counter { text });
}

#[test]
fn a_daemon_that_the_kernel_killed_is_out_of_memory_and_a_step_beside_it_is_not() {
    let text = "error: failed to solve: Unavailable: error reading from server: EOF".to_owned();
    let failure = |oom| Failure { vertices: Vec::new(), text: text.clone(), exit: Some(1), oom };
    assert_eq!(classify(&failure(OomEvidence::None)).kind, FaultKind::Infrastructure);
    let killed = classify(&failure(OomEvidence::Elsewhere));
    assert_eq!(killed.kind, FaultKind::OutOfMemory);
    assert!(killed.evidence.expect("evidence").contains("killed the BuildKit daemon"));
    let beside =
        step(r#"process "/bin/sh -c x" did not complete successfully: exit code: 137"#, &[], OomEvidence::Elsewhere);
    assert_eq!(beside.kind, FaultKind::Build);
}

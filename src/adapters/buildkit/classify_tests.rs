//! Tests of `classify`: the texts are those that BuildKit v0.32.2 wrote.

use super::*;

const RUN: &str = "[2/2] RUN make";

fn step(error: &str, tail: &[&str], oom: OomEvidence) -> Fault {
    let vertex = VertexFailure {
        name: RUN.to_owned(),
        error: error.to_owned(),
        log_tail: tail.iter().map(|line| (*line).to_owned()).collect(),
        tells_kill: tail.iter().any(|line| line.ends_with("(signal: 9, SIGKILL: kill)")),
        ..VertexFailure::default()
    };
    let text = format!(
        "Dockerfile:2\n--------------------\n   2 | >>> RUN make\n--------------------\nerror: failed to solve: {error}"
    );
    classify(&Failure { vertices: vec![vertex], text, exit: Some(1), oom, ..Failure::default() })
}

fn vertex(name: &str, error: &str) -> VertexFailure {
    VertexFailure { name: name.to_owned(), error: error.to_owned(), ..VertexFailure::default() }
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
fn a_message_that_says_nothing_is_told_as_none() {
    for error in ["", " ", "\r\n"] {
        let fault = classify(&Failure { vertices: vec![vertex(RUN, error)], exit: Some(1), ..Failure::default() });
        assert_eq!(fault.message, "buildctl failed without a message", "{error:?}");
    }
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
    let import = vertex("importing cache manifest", "not found");
    let real = vertex(RUN, "process \"x\" did not complete successfully: exit code: 3");
    let cancelled = vertex("[b 2/2] RUN y", "context canceled");
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
    let vertex = vertex("[internal] load metadata", error);
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
    let usage = |oom_kills, kernel_kills, daemon_starts| Usage {
        oom_kills,
        kernel_kills,
        killed_at: 7_800_000_000,
        memory_limit: 8_000_000_000,
        daemon_starts,
        ..Usage::default()
    };
    let between = |before: Usage, after: Usage| OomEvidence::between(&before, &after);
    assert_eq!(between(usage(1, 5, 9), usage(1, 5, 9)), OomEvidence::None);
    assert_eq!(between(usage(1, 5, 9), usage(1, 5, 10)), OomEvidence::None, "a daemon that was started again");
    assert_eq!(between(usage(1, 5, 9), usage(1, 6, 9)), OomEvidence::None, "a kill of somebody's on the same kernel");
    assert_eq!(between(usage(1, 5, 9), usage(1, 6, 10)), OomEvidence::Daemon);
    assert_eq!(between(usage(1, 5, 9), usage(1, 6, 0)), OomEvidence::Daemon, "its socket is gone");
    let text = "killed at 7.8 of 8.0 GB".to_owned();
    assert_eq!(between(usage(1, 5, 9), usage(2, 6, 9)), OomEvidence::Counter { text });
}

#[test]
fn a_daemon_that_the_kernel_killed_is_out_of_memory_and_a_step_beside_it_is_not() {
    let text = "error: failed to solve: Unavailable: error reading from server: EOF".to_owned();
    let failure = |oom| Failure { text: text.clone(), exit: Some(1), oom, ..Failure::default() };
    assert!(failure(OomEvidence::None).lost_daemon());
    assert_eq!(classify(&failure(OomEvidence::None)).kind, FaultKind::Infrastructure);
    let killed = classify(&failure(OomEvidence::Daemon));
    assert_eq!(killed.kind, FaultKind::OutOfMemory);
    assert!(killed.evidence.expect("evidence").contains("killed the BuildKit daemon"));
    let beside =
        step(r#"process "/bin/sh -c x" did not complete successfully: exit code: 137"#, &[], OomEvidence::Daemon);
    assert_eq!(beside.kind, FaultKind::Build);
}

/// What BuildKit wrote of a push that failed for this reason.
fn pushed(why: &str) -> Fault {
    let error = format!("failed to push 127.0.0.1:5998/acme/api: {why}");
    let text = format!("error: failed to solve: {error}");
    let vertices = vec![vertex("exporting to image", &error)];
    classify(&Failure { vertices, text, exit: Some(1), ..Failure::default() })
}

#[test]
fn a_registry_that_is_not_well_is_pushed_to_again() {
    let blob = "v2/a/b/blobs/sha256:a4ee235f83d510cbb86d2a6423557557172709351e4b1924383ee2eb3e73450c";
    for why in [
        format!("failed to do request: Head \"http://127.0.0.1:1/{blob}\": dial tcp 127.0.0.1:1: connect: connection refused"),
        format!("failed to do request: Head \"https://nosuch.invalid/{blob}\": dial tcp: lookup nosuch.invalid on 10.255.255.53:53: no such host"),
        format!("unexpected status from HEAD request to http://127.0.0.1:5998/{blob}: 429 Too Many Requests"),
        "unexpected status from POST request to http://127.0.0.1:5998/v2/five/b/blobs/uploads/: 500 Internal Server Error: oops".to_owned(),
        "unexpected status from PUT request to http://127.0.0.1:5998/v2/put5/b/blobs/uploads/x?digest=sha256%3Aa4ee235f83d510cbb86d2a6423557557172709351e4b1924383ee2eb3e73450c: 502 Bad Gateway: {}".to_owned(),
        format!("unexpected status from HEAD request to http://127.0.0.1:5998/{blob}: 503 Service Unavailable"),
    ] {
        let fault = pushed(&why);
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::push_failed"), "{why}");
        assert_eq!(fault.message, "127.0.0.1:5998/acme/api could not be pushed");
        assert!(fault.evidence.is_some_and(|evidence| evidence == why) && fault.help.is_some());
    }
}

#[test]
fn a_registry_that_refuses_is_not_asked_again() {
    for why in [
        "unexpected status from HEAD request to http://127.0.0.1:5999/v2/a/b/blobs/sha256:386f: 401 Unauthorized",
        "unexpected status from POST request to http://127.0.0.1:5998/v2/none/b/blobs/uploads/: 404 Not Found: {}",
        "denied",
        "push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    ] {
        let fault = pushed(why);
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::push_denied"), "{why}");
        let help = fault.help.expect("help");
        assert!(help.contains("docker login 127.0.0.1:5998") && help.contains("`127.0.0.1:5998/acme/api`"), "{help}");
    }
    let tls = pushed(
        "failed to do request: Head \"https://192.0.2.2:5997/v2/a/b/blobs/sha256:386f\": tls: first record does not look like a TLS handshake",
    );
    assert_eq!((tls.kind, tls.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::push_failed"));
    assert!(tls.help.is_some_and(|help| help.contains("plain_http")));
}

#[test]
fn a_registry_that_takes_no_writes_is_asked_whether_it_is_read_only() {
    let why =
        "unexpected status from POST request to https://mirror:5000/v2/a/b/blobs/uploads/: 405 Method Not Allowed";
    let text = format!("error: failed to solve: failed to push mirror:5000/a/b: {why}");
    let fault = classify(&Failure { text, exit: Some(1), ..Failure::default() });
    assert_eq!(fault.code, "lian::buildkit::push_denied");
    assert!(fault.message.contains("mirror:5000 refuses writes") && fault.message.contains("read-only?"), "{fault:?}");
}

#[test]
fn a_session_that_the_daemon_does_not_find_in_time_is_no_fault_of_the_layer() {
    let lost = "failed to get session: no active session for x5gyk81m: context deadline exceeded";
    let resolving = format!("failed to resolve source metadata for lamina/base:key-1: {lost}");
    for error in [lost, "failed to load cache key: no active sessions", &resolving] {
        let text = format!("error: failed to solve: {error}");
        let fault = classify(&Failure { text, exit: Some(1), ..Failure::default() });
        let told = (fault.kind, fault.code.as_str());
        assert_eq!(told, (FaultKind::Infrastructure, "lian::buildkit::no_session"), "{error}");
        assert!(fault.evidence.expect("BuildKit's words").contains("no active session"));
    }
    // A step's own words prove nothing.
    let own = step(
        r#"process "/bin/sh -c echo no active session for x" did not complete successfully: exit code: 1"#,
        &[],
        OomEvidence::None,
    );
    assert_eq!(own.kind, FaultKind::Build);
}

//! Builds on a real buildkitd: what they report, how they fail, how they are stopped, and how they are promoted.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lian_build::adapters::buildkit::HostCounters;
use lian_build::adapters::registry::OciLayout;
use lian_build::domain::base::{Digest, LayerName};
use lian_build::domain::model::{BuildEvent, FaultKind, ImageRecord, KEY_LABEL, KeyParts, VertexState};
use lian_build::domain::ports::{
    BuildRequest, Builder as _, Counters as _, ImageSource, ImageStore as _, NamedContext, SecretSource, SecretValue,
    Staged, StagedAt,
};

use crate::support::buildkitd::{scratch, stage};

fn quiet(_: BuildEvent) {}

/// The key parts of a layer that nothing is known of but its Dockerfile.
fn parts(dockerfile: &str) -> KeyParts {
    let text = serde_json::json!({
        "schema": 1, "layer": LayerName::from("tiny"), "dockerfile": Digest::of(dockerfile), "ignore": null,
        "target": null, "files": {}, "build_args": {}, "platform": "linux/amd64", "frontend": null, "secret_ids": [],
        "ssh_ids": [], "labels": {}, "tools": [], "artifact_paths": [], "parents": {},
    });
    serde_json::from_value(text).expect("key parts")
}

async fn failure(dockerfile: &str) -> lian_build::domain::model::Fault {
    let folder = scratch();
    let request = stage().request(folder.path(), dockerfile);
    stage().builder().build(&request, &quiet).await.expect_err("it fails")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_built_promoted_found_and_built_upon() {
    let folder = scratch();
    let layout = OciLayout::open(folder.path().join("images"), folder.path()).expect("a layout");
    let dockerfile = "FROM base\nRUN echo hello && echo \"$GREETING\" > /greeting\nARG GREETING\nRUN echo $GREETING";
    let staging = layout.staging().await.expect("staging");
    let parts = parts(dockerfile);
    let key = parts.key();
    let request = BuildRequest {
        staging: staging.path().to_owned(),
        labels: [(KEY_LABEL.to_owned(), key.to_string())].into(),
        build_args: [("GREETING".to_owned(), "good, morning=1".to_owned())].into(),
        ..stage().request(folder.path(), dockerfile)
    };
    let events = Mutex::new(Vec::new());
    let built = stage().builder().build(&request, &|event| events.lock().expect("a lock").push(event)).await;
    let built = built.expect("built");
    assert_eq!((built.steps, built.platforms.first()), (2, stage().daemon.platform()));

    let events = events.into_inner().expect("a lock");
    let said: String = events
        .iter()
        .filter_map(|event| if let BuildEvent::Log { text, .. } = event { Some(text.as_str()) } else { None })
        .collect();
    assert!(said.contains("hello") && said.contains("good, morning=1"), "{said}");
    let ended = |state| {
        events.iter().any(|event| {
            matches!(event, BuildEvent::Vertex { name, state: found, duration_ms: Some(_), .. }
            if name.contains("/3] RUN echo hello") && *found == state)
        })
    };
    assert!(ended(VertexState::Completed), "{events:?}");

    // The base's layer was linked into the staging folder, not written again.
    let ImageSource::Layout { dir, .. } = &stage().base else { panic!("a layout") };
    let shared = std::fs::read_dir(dir.join("blobs/sha256")).expect("blobs").flatten().any(|blob| {
        let staged = staging.path().join("blobs/sha256").join(blob.file_name());
        staged.metadata().is_ok_and(|staged| staged.ino() == blob.metadata().expect("a file").ino())
    });
    assert!(shared, "the export wrote the base's layer again");

    let name = "lamina/tiny".to_owned();
    let record = ImageRecord { parts, built_on: std::collections::BTreeMap::new() };
    let staging = StagedAt::Folder(request.staging);
    let staged =
        Staged { name: name.as_str().into(), staging, digest: built.digest, key: key.clone(), record, artifacts: None };
    layout.promote(&staged).await.expect("promoted");
    let found = layout.find("lamina/tiny", &key.tag()).await.expect("an answer").expect("found");
    assert_eq!((&found.digest, found.key), (&staged.digest, Some(key)));

    let upon = BuildRequest {
        named_contexts: vec![NamedContext {
            name: "lamina/tiny".into(),
            source: layout.source("lamina/tiny", &staged.digest),
        }],
        ..stage().request(folder.path(), "FROM lamina/tiny\nCOPY --from=lamina/tiny /greeting /copied\nRUN cat /copied")
    };
    stage().builder().build(&upon, &quiet).await.expect("built upon");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_build_is_cached_and_gives_the_same_digest() {
    let folder = scratch();
    let request = |folder: &Path| stage().request(folder, "FROM base\nRUN echo cached > /x\nRUN echo twice > /y");
    let first = stage().builder().build(&request(folder.path()), &quiet).await.expect("built");
    let second = stage().builder().build(&request(folder.path()), &quiet).await.expect("built");
    assert_eq!((second.steps, second.cached, &second.digest), (2, 2, &first.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_named_with_its_last_lines() {
    // One stream: BuildKit promises no order between standard output and standard error.
    let fault =
        failure("FROM base\nRUN true\nRUN for i in 1 2 3; do echo line $i >&2; done; echo boom >&2; exit 3").await;
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Build, "lian::buildkit::step_failed"));
    assert!(fault.step.as_deref().is_some_and(|step| step.contains("/3] RUN for i")), "{fault:?}");
    assert_eq!(fault.log_tail, ["line 1", "line 2", "line 3", "boom"]);
    assert_eq!(fault.evidence.as_deref(), Some("exit code 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machines_kernel_is_asked_what_it_counted() {
    let folder = scratch();
    let request = stage().request(folder.path(), "FROM base\nRUN echo counted\n");
    stage().builder().build(&request, &quiet).await.expect("built");
    let usage = HostCounters::default().usage().await.expect("counters");
    assert!(usage.memory_limit > 0 && usage.cpu_us > 0, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_alone_is_no_proof_of_memory() {
    let fault = failure("FROM base\nRUN sh -c 'kill -9 $$'; exit $?").await;
    assert_eq!((fault.kind, fault.evidence.as_deref()), (FaultKind::Build, Some("exit code 137")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_to_be_missing() {
    let secret = failure("FROM base\nRUN --mount=type=secret,id=token,required=true true").await;
    assert_eq!((secret.kind, secret.code.as_str()), (FaultKind::Missing, "lian::buildkit::missing_secret"));
    let file = failure("FROM base\nCOPY nosuch /").await;
    assert_eq!((file.kind, file.code.as_str()), (FaultKind::Missing, "lian::buildkit::missing_file"));
    assert!(file.message.contains("nosuch"), "{}", file.message);
    let folder = scratch();
    let source = ImageSource::Registry { name: "host.invalid/no/such".into(), digest: Digest::of("nothing") };
    let request = BuildRequest {
        named_contexts: vec![NamedContext { name: "host.invalid/no/such:1".into(), source }],
        ..stage().request(folder.path(), "FROM host.invalid/no/such:1")
    };
    let image = stage().builder().build(&request, &quiet).await.expect_err("it fails");
    assert_eq!((image.kind, image.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::base_unreachable"));
    assert!(image.message.contains("host.invalid/no/such@sha256:"), "{}", image.message);
    let dockerfile = failure("FROM base\nRUNN true").await;
    assert_eq!(dockerfile.code, "lian::buildkit::dockerfile");
    assert!(dockerfile.message.contains("did you mean RUN?"), "{}", dockerfile.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_arrive_from_variables_and_files_and_must_have_a_value() {
    let folder = scratch();
    let file = folder.path().join("a,secret");
    std::fs::write(&file, "from a file").expect("a file");
    let dockerfile = "FROM base\n\
        RUN --mount=type=secret,id=path --mount=type=secret,id=file \
        [ -s /run/secrets/path ] && [ \"$(cat /run/secrets/file)\" = 'from a file' ]";
    let mut request = stage().request(folder.path(), dockerfile);
    request.secrets = vec![
        SecretSource { id: "path".into(), value: SecretValue::Env("PATH".into()) },
        SecretSource { id: "file".into(), value: SecretValue::File(file) },
    ];
    stage().builder().build(&request, &quiet).await.expect("built");
    request.secrets[0].value = SecretValue::Env("LIAN_TEST_UNSET".into());
    let fault = stage().builder().build(&request, &quiet).await.expect_err("no value");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Missing, "lian::buildkit::missing_secret"));
    assert!(fault.message.contains("LIAN_TEST_UNSET"), "{}", fault.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syntax_line_fetches_no_frontend() {
    let folder = scratch();
    let request = stage().request(folder.path(), "# syntax=host.invalid/no/frontend:1\nFROM base\nRUN true");
    stage().builder().build(&request, &quiet).await.expect("built by the built-in frontend");
}

/// Processes whose command line holds this text. Zombies have none.
fn processes(text: &str) -> usize {
    let list = std::fs::read_dir("/proc").expect("/proc").flatten();
    list.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    })
    .count()
}

async fn becomes(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never became true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_build_ends_its_processes() {
    let folder = scratch();
    let request = stage().request(folder.path(), "FROM base\nRUN sleep 424242");
    let staging = request.staging.display().to_string();
    let build = tokio::spawn(async move { stage().builder().build(&request, &quiet).await });
    becomes("the step runs", || processes("sleep 424242") > 0).await;
    build.abort();
    becomes("buildctl is gone", || processes(&staging) == 0).await;
    becomes("the daemon has cancelled the step", || processes("sleep 424242") == 0).await;
}

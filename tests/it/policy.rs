//! What a build may fetch: the images that it is given and no other, whoever runs buildctl, whatever the Dockerfile's
//! reader overlooked.

use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use lian_build::adapters::buildkit::{HostCounters, RemoteBuildctl};
use lian_build::domain::base::Digest;
use lian_build::domain::model::{BuildEvent, Fault, FaultClass, FaultKind};
use lian_build::domain::ports::{BuildRequest, Builder as _, ImageSource, NamedContext, PushTarget};
use lian_build::system::exec::{Exec, Process};

use crate::support::buildkitd::{scratch, stage};
use crate::support::registry::Registry;

fn quiet(_: BuildEvent) {}

/// Pushes a tiny image into the registry and returns where it is.
async fn pushed(registry: &Registry, repository: &str, dockerfile: &str) -> ImageSource {
    let folder = scratch();
    let name = format!("{}/{repository}", registry.address());
    let push = Some(PushTarget { name: name.clone(), plain_http: true });
    let request = BuildRequest { push, ..stage().request(folder.path(), dockerfile) };
    let digest = stage().builder().build(&request, &quiet).await.expect("built").digest;
    ImageSource::Registry { name, digest }
}

fn digest(source: &ImageSource) -> Digest {
    let (ImageSource::Registry { digest, .. } | ImageSource::Layout { digest, .. }) = source;
    digest.clone()
}

async fn denied(dockerfile: &str, contexts: &[NamedContext]) -> Fault {
    let folder = scratch();
    let mut request = stage().request(folder.path(), dockerfile);
    request.named_contexts.extend(contexts.iter().cloned());
    let fault = stage().builder().build(&request, &quiet).await.expect_err("it was built");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Missing, "lian::buildkit::source_denied"), "{fault:?}");
    assert_eq!(fault.class(), FaultClass::Build);
    fault
}

#[tokio::test(flavor = "multi_thread")]
async fn no_image_is_fetched_that_was_not_given() {
    let registry = Registry::start();
    let tools = pushed(&registry, "lamina/tools", "FROM base\nRUN echo tool > /tool.txt\n").await;
    let stranger = format!("{}/lamina/tools", registry.address());
    let log = registry.log().len();
    let cases = [
        (format!("FROM base\n# {stranger}\nCOPY --from={stranger} /tool.txt /\n"), Some(3)),
        (format!("FROM base\nRUN --mount=from={stranger},target=/m true\n"), Some(2)),
        (format!("FROM {stranger}\n"), Some(1)),
        (format!("FROM base AS x\nONBUILD COPY --from={stranger} /tool.txt /\nFROM x\nRUN true\n"), Some(2)),
        // Its own digest makes it no less a stranger.
        (format!("FROM {stranger}@{}\n", digest(&tools)), None),
    ];
    for (dockerfile, line) in cases {
        let fault = denied(&dockerfile, &[]).await;
        assert!(fault.message.contains(&stranger), "{fault:?}");
        if let Some(line) = line {
            assert!(fault.message.contains(&format!("(Dockerfile, line {line}: ")), "{fault:?}");
        }
    }
    let asked = &registry.log()[log..];
    assert!(!asked.contains("lamina/tools"), "the registry was asked:\n{asked}");

    // A typo is told from what the build was given.
    let given = [NamedContext { name: "lamina/tools".into(), source: tools }];
    let fault = denied("FROM base\nCOPY --from=lamina/tols /tool.txt /\n", &given).await;
    assert!(fault.help.as_deref().is_some_and(|help| help.contains("did you mean `lamina/tools`?")), "{fault:?}");
    assert!(fault.message.contains("(Dockerfile, line 2: COPY --from=lamina/tols /tool.txt /)"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_of_a_base_fetch_nothing_either() {
    let registry = Registry::start();
    let stranger = format!("{}/lamina/tools", registry.address());
    let trigger = format!("FROM base\nONBUILD COPY --from={stranger} /tool.txt /\n");
    let source = pushed(&registry, "lamina/parent", &trigger).await;
    let fault = denied("FROM lamina/parent\n", &[NamedContext { name: "lamina/parent".into(), source }]).await;
    assert!(fault.message.contains(&stranger), "{fault:?}");
    assert!(fault.help.as_deref().is_some_and(|help| help.contains("ONBUILD")), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_used_at_its_digest_under_whatever_name() {
    let registry = Registry::start();
    let source = pushed(&registry, "lamina/tools", "FROM base\nRUN echo pinned > /which\n").await;
    let pinned = digest(&source);
    // None of its tags exists: it was pushed by its digest.
    let name = format!("{}/lamina/tools", registry.address());
    let folder = scratch();
    let build = |name: &str, dockerfile: String| {
        let named_contexts = vec![NamedContext { name: name.to_owned(), source: source.clone() }];
        let request = BuildRequest { named_contexts, ..stage().request(folder.path(), &dockerfile) };
        async move { stage().builder().build(&request, &quiet).await }
    };
    let check = "RUN [ \"$(cat /which)\" = pinned ]";
    build("lamina/tools", format!("FROM lamina/tools\n{check}\n")).await.expect("by a layer's name");
    build(&format!("{name}:1"), format!("FROM {name}:1\n{check}\n")).await.expect("by a tag that does not exist");
    let full = format!("{name}:1@{pinned}");
    build(&full, format!("FROM {full}\n{check}\n")).await.expect("by tag and digest");
    // A stage of the image's own name is a stage and not the image.
    let stage_of_its_name =
        format!("FROM word AS word\nRUN echo stage > /stage\nFROM word\n{check}\nRUN [ -f /stage ]\n");
    build("word", stage_of_its_name).await.expect("a stage that is called like its image");
}

/// Runs scripts here, as a runner would.
struct Here;

#[async_trait]
impl Exec for Here {
    async fn start(&self, script: &str) -> Result<Process, Fault> {
        let mut command = tokio::process::Command::new("sh");
        let tools = crate::support::buildkitd::binaries().buildctl;
        let path =
            format!("{}:{}", tools.parent().expect("a folder").display(), std::env::var("PATH").expect("a path"));
        command.args(["-c", script]).env("PATH", path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(Process::of(command.spawn().expect("a shell")))
    }

    async fn start_with_agent(&self, script: &str) -> Result<Process, Fault> {
        self.start(script).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buildctl_on_a_runner_holds_to_the_same_policy() {
    let registry = Registry::start();
    let stranger = format!("{}/lamina/tools", registry.address());
    let folder = scratch();
    let address = stage().daemon.address();
    let remote = RemoteBuildctl::new(Arc::new(Here), address, folder.path(), Arc::new(HostCounters::default()));
    let build = async |dockerfile: &str| {
        let push = Some(PushTarget { name: format!("{}/app", registry.address()), plain_http: true });
        let request = BuildRequest { push, ..stage().request(folder.path(), dockerfile) };
        let (path, policy) = remote.policy(&request);
        std::fs::write(path, policy).expect("writable");
        remote.build(&request, &[], &quiet).await
    };
    build("FROM base\nRUN echo remote > /x\n").await.expect("built");
    let fault = build(&format!("FROM base\nCOPY --from={stranger} /x /y\n")).await.expect_err("it was built");
    assert_eq!(fault.code, "lian::buildkit::source_denied");
    assert!(fault.message.contains("(Dockerfile, line 2: "), "{fault:?}");
}

#[test]
fn a_local_copy_cannot_stand_for_an_image_with_a_stages_name() {
    let ImageSource::Layout { dir, .. } = &stage().base else { panic!("the base is a layout") };
    let substitute = format!("--base-image=word=oci-layout:{}", dir.display());
    let project = crate::support::project::Project::new();
    let base = "  build_base = { image = \"word\" },";
    project.layer("app", base, "FROM word AS word\nRUN echo stage > /stage\n");
    project.lian(&["check"]).exits(0);
    let plan = || project.lian(&["plan", &substitute]);
    let refused = plan().exits(1).both();
    for told in ["lian::dockerfile::image", "stage `word`", "word-stage", "Dockerfile:1:14"] {
        assert!(refused.contains(told), "{told}: {refused}");
    }
    project.layer("app", base, "FROM word AS word-stage\nRUN echo stage > /stage\n");
    plan().exits(0);
}

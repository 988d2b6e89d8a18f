//! Verification on a real buildkitd: images of every kind, good ones and bad ones.

use lian_build::domain::model::{Fault, FaultKind, Tool};
use lian_build::domain::ports::{Builder as _, ImageSource, VerifyRequest};

use crate::support::buildkitd::{scratch, stage};

fn tool(name: &str) -> Tool {
    Tool { name: name.into(), version: None, probe: None }
}

fn version(name: &str, version: &str, probe: Option<&str>) -> Tool {
    Tool { name: name.into(), version: Some(version.into()), probe: probe.map(str::to_owned) }
}

/// Builds the Dockerfile, then verifies the image. Returns the verdict, and the folder of the artifacts image.
async fn verified(
    dockerfile: &str,
    tools: Vec<Tool>,
    artifact_paths: &[&str],
) -> (Result<Option<lian_build::domain::base::Digest>, Fault>, crate::support::buildkitd::Scratch) {
    let folder = scratch();
    let request = stage().request(folder.path(), dockerfile);
    let built = stage().builder().build(&request, &|_| ()).await.expect("built");
    let staging = folder.path().join("artifacts");
    std::fs::create_dir(&staging).expect("a folder");
    let request = VerifyRequest {
        image: ImageSource::Layout { dir: request.staging, digest: built.digest },
        platforms: built.platforms,
        tools,
        artifact_paths: artifact_paths.iter().map(|path| (*path).to_owned()).collect(),
        staging,
        push_artifacts: None,
        labels: [("a".to_owned(), "b".to_owned())].into(),
        configs: [].into(),
    };
    (stage().builder().verify(&request).await, folder)
}

const TOOL: &str =
    "RUN echo '#!/bin/sh' > /bin/mytool && echo 'echo mytool 1.82.0-nightly' >> /bin/mytool && chmod +x /bin/mytool";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_all_it_promises_passes() {
    let dockerfile =
        format!("FROM base\n{TOOL}\nRUN mkdir /out && echo 1 > /out/a && mkdir /out/sub && echo 2 > /out/sub/b");
    let tools = vec![
        tool("sh"),
        version("mytool", ">=1.80", None),
        Tool { name: "cat".into(), version: None, probe: Some("echo it\\'s | cat > /dev/null".into()) },
    ];
    let (verdict, folder) = verified(&dockerfile, tools, &["/bin/mytool", "/out/"]).await;
    let digest = verdict.expect("verified").expect("an artifacts image");

    // The artifacts image holds just these paths, at their places, and others can copy from it.
    let copying = "FROM base\nCOPY --from=art / /art\n\
        RUN cat /art/out/sub/b && /art/bin/mytool && [ \"$(ls /art | tr '\\n' ' ')\" = 'bin out ' ]";
    let mut request = stage().request(folder.path(), copying);
    request.named_contexts.push(lian_build::domain::ports::NamedContext {
        name: "art".into(),
        source: ImageSource::Layout { dir: folder.path().join("artifacts"), digest },
    });
    let fault = stage().builder().build(&request, &|_| ()).await.err();
    assert_eq!(fault, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_missing_is_named_at_once() {
    let dockerfile = format!("FROM base\n{TOOL}");
    let tools = vec![tool("nosuch"), tool("echo"), version("mytool", ">=2", None), tool("cargo")];
    let (verdict, folder) = verified(&dockerfile, tools, &["/bin/sh", "/no/such", "/bin/neither"]).await;
    let fault = verdict.expect_err("it lacks much");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Verification, "lian::verify::missing_tool"));
    assert_eq!(
        fault.message,
        "the image lacks `nosuch`, `cargo`; `mytool` is 1.82.0-nightly, not >=2; artifact paths are not in the image: \
         `/no/such`, `/bin/neither`"
    );
    assert!(!folder.path().join("artifacts/index.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_own_settings_do_not_disturb_the_probe() {
    let dockerfile = format!(
        "FROM base\n{TOOL}\nRUN mkdir -p /opt/bin /home/me && cp /bin/mytool /opt/bin/other && rm /bin/mytool\n\
         RUN rm /bin/mkdir\n\
         ENV PATH=/opt/bin:/bin GREETING=\"a \\\"quoted\\\" \\$word\"\nWORKDIR /home/me\nUSER 1000\n\
         SHELL [\"/nonexistent\", \"-c\"]\nENTRYPOINT [\"/bin/false\"]\n"
    );
    let tools = vec![version("other", "1.82", None), tool("sh")];
    let (verdict, _folder) = verified(&dockerfile, tools.clone(), &[]).await;
    assert_eq!(verdict, Ok(None));
    let (verdict, _folder) = verified(&format!("{dockerfile}ONBUILD RUN exit 1\n"), tools, &["/opt/bin/other"]).await;
    assert!(verdict.is_ok(), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shells_built_in_is_no_binary() {
    let (verdict, _folder) = verified("FROM base\nRUN true", vec![tool("cd")], &[]).await;
    assert_eq!(verdict.expect_err("no binary").message, "the image lacks `cd`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_probe_shows_what_it_said() {
    let probe = Tool { name: "sh".into(), version: None, probe: Some("echo no luck; exit 7".into()) };
    let (verdict, _folder) = verified("FROM base\nRUN true", vec![probe], &[]).await;
    let fault = verdict.expect_err("the probe fails");
    assert_eq!((fault.code.as_str(), fault.log_tail), ("lian::verify::probe_failed", vec!["no luck".to_owned()]));
    assert!(fault.message.contains("exit code 7"), "{}", fault.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_have_no_network() {
    let probe = Tool {
        name: "sh".into(),
        version: None,
        probe: Some("[ ! -e /sys/class/net/eth0 ] && [ \"$(ls /sys/class/net)\" = lo ]".into()),
    };
    let (verdict, _folder) = verified("FROM base\nRUN true", vec![probe], &[]).await;
    assert_eq!(verdict, Ok(None));
}

const NO_SHELL: &str = "FROM base AS from\nRUN mkdir -p /x && echo text > /x/plain && ln -s /usr/bin/tool /x/link\n\
    FROM scratch\nCOPY --from=from /bin/busybox /usr/bin/tool\nCOPY --from=from /bin/busybox /usr/bin/echo\n\
    COPY --from=from /x/ /usr/local/bin/\nENV PATH=/nowhere:/usr/local/bin:/usr/bin\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_shell_is_searched() {
    let tools = vec![tool("tool"), tool("link"), version("echo", "3", Some("echo version 3.1"))];
    let (verdict, _folder) = verified(NO_SHELL, tools, &["/usr/bin/tool"]).await;
    assert!(matches!(verdict, Ok(Some(_))), "{verdict:?}");

    let tools = vec![tool("tool"), tool("nosuch"), tool("plain"), version("echo", "3", Some("echo version 2"))];
    let (verdict, _folder) = verified(NO_SHELL, tools, &["/usr/bin/nothing"]).await;
    assert_eq!(
        verdict.expect_err("it lacks much").message,
        "the image lacks `nosuch`, `plain`; `echo` is 2.0.0, not 3; the artifact path is not in the image: \
         `/usr/bin/nothing`"
    );
    let shell = Tool { name: "tool".into(), version: None, probe: Some("tool | cat".into()) };
    let (verdict, _folder) = verified(NO_SHELL, vec![shell], &[]).await;
    assert_eq!(verdict.expect_err("no shell").code, "lian::verify::probe_failed");
}

//! A builder that runs buildctl on the runner. Not responsible for: connecting to the runner and copying files there
//! (the caller has done that), and verification, which runs from this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::argv;
use super::buildctl::{judged, look};
use super::policy::{FILE, explained, policy};
use super::progress::Progress;
use super::solve::{Unsolved, failed, read};
use crate::domain::base::Digest;
use crate::domain::model::{BuildEvent, Fault, FaultKind};
use crate::domain::ports::{BuildRequest, BuildSink, Built, Counters};
use crate::system::exec::{Exec, Process};
use crate::system::shell::quoted;
use crate::system::stop::gently;

/// Marks buildctl's exit code in the output. The connection's exit code is ambiguous: `ssh` exits with 255 both when
/// the connection breaks and when its command is killed.
const MARK: &str = "lian-build: buildctl ended with ";
/// Marks the metadata of a built image: buildctl's JSON on one line.
const METADATA: &str = "lian-build: metadata ";

/// A shell's exit code for a missing program.
const NOT_FOUND: i32 = 127;

/// buildctl on a runner.
#[derive(Clone)]
pub struct RemoteBuildctl {
    /// Runs scripts on the runner.
    exec: Arc<dyn Exec>,
    /// The daemon's address on the runner.
    address: String,
    /// A folder in the runner's memory, for our files.
    folder: PathBuf,
    counters: Arc<dyn Counters>,
}

impl RemoteBuildctl {
    /// Uses the daemon at this address on the runner.
    pub fn new(exec: Arc<dyn Exec>, address: &str, folder: impl Into<PathBuf>, counters: Arc<dyn Counters>) -> Self {
        Self { exec, address: address.to_owned(), folder: folder.into(), counters }
    }

    /// The file with the source policy of a request, with its path on the runner. It must be there before the build.
    pub fn policy(&self, request: &BuildRequest) -> (String, Vec<u8>) {
        let text = policy(&request.named_contexts, request.frontend.as_deref());
        (self.folder.join(FILE).display().to_string(), text.into_bytes())
    }

    /// Builds a request with paths on the runner, where its source policy is; its image is pushed. The paths in
    /// `passing` are removed there when buildctl ends.
    ///
    /// # Errors
    /// The same as local buildctl; `lian::remote::link_lost` if the connection ended first.
    pub async fn build(
        &self,
        request: &BuildRequest,
        passing: &[String],
        sink: &BuildSink<'_>,
    ) -> Result<Built, Fault> {
        let relay = |event: BuildEvent| {
            if !matches!(&event, BuildEvent::Vertex { name, .. } if name.starts_with("[internal]")) {
                sink(event);
            }
        };
        let script = self.script(&argv::build(request, &self.folder), &self.folder.join(argv::METADATA), passing);
        let counters = Some(&*self.counters);
        let run = self.run(&script, !request.ssh.is_empty(), &relay);
        let (before, run) = tokio::join!(look(counters), run);
        let (progress, exit) = run?;
        // Ignore the connection's own exit code: only the mark shows how buildctl ended.
        let text = progress.text();
        let told = text.lines().rev().find_map(|line| line.trim().strip_prefix(MARK));
        match told.and_then(|code| code.parse::<i32>().ok()) {
            Some(0) => {}
            Some(NOT_FOUND) => return Err(no_buildctl()),
            Some(code) => {
                let exit = (code < 128).then_some(code);
                let fault = judged(counters, without_mark(failed(&progress, exit)), before).await;
                return Err(on_runner(explained(fault, request)));
            }
            None => return Err(lost(&format!("the connection ended with {exit:?} while buildctl ran"))),
        }
        let (steps, cached) = progress.steps();
        let digest = digest(&text)?;
        Ok(Built { digest, steps, cached, platforms: request.platforms.clone() })
    }

    /// buildctl ends with its connection: when standard input closes, it is killed, and the daemon cancels the build.
    /// The runner is not released before that (its guard waits for the lock on `building`).
    fn script(&self, args: &[String], metadata: &Path, passing: &[String]) -> String {
        let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        let config = quoted(&self.folder.join("docker").display().to_string());
        let address = quoted(&self.address);
        let lock = quoted(&self.folder.join("building").display().to_string());
        let (args, metadata) = (args.join(" "), quoted(&metadata.display().to_string()));
        let passing: Vec<String> = passing.iter().map(|path| quoted(path)).collect();
        let passing = passing.join(" ");
        format!(
            "export DOCKER_CONFIG={config}; exec 8>>{lock}; flock -s 8; exec 3<&0; buildctl --addr {address} {args} </dev/null 3<&- & b=$!; \
             {{ cat <&3; kill $b; sleep 5; kill -9 $b; }} >/dev/null 2>&1 8>&- & w=$!; exec 3<&-; \
             wait $b; rc=$?; kill $w 2>/dev/null; rm -rf {passing}; \
             [ $rc != 0 ] || echo \"{METADATA}$(tr -d '\\n' <{metadata})\" >&2; echo \"{MARK}$rc\" >&2; exit $rc"
        )
    }

    /// Runs the script to its end. Its standard input stays open until then.
    async fn run(
        &self,
        script: &str,
        agent: bool,
        sink: &BuildSink<'_>,
    ) -> Result<(Progress, Result<i32, String>), Fault> {
        let started = if agent { self.exec.start_with_agent(script).await } else { self.exec.start(script).await };
        let Process { stdin, mut stdout, stderr, end } = started?;
        let mut nowhere = tokio::io::sink();
        let ended = async {
            let (progress, _) = tokio::join!(read(stderr, sink), tokio::io::copy(&mut stdout, &mut nowhere));
            let progress = progress.map_err(|error| lost(&error.to_string()))?;
            Ok((progress, end.await))
        };
        // The script ends buildctl there when its standard input closes.
        let mut stdin = Some(stdin);
        gently(ended, || drop(stdin.take())).await
    }
}

/// The digest in buildctl's metadata.
fn digest(text: &str) -> Result<Digest, Fault> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(rename = "containerimage.digest")]
        digest: Digest,
    }
    let told = text.lines().rev().find_map(|line| line.trim().strip_prefix(METADATA));
    told.and_then(|json| serde_json::from_str::<Metadata>(json).ok()).map(|metadata| metadata.digest).ok_or_else(|| {
        Fault::new(
            FaultKind::Infrastructure,
            "lian::buildkit::no_digest",
            "buildctl reported no digest of what it built",
        )
        .help("is the runner's BuildKit v0.13 or newer?")
    })
}

fn no_buildctl() -> Fault {
    let message = "the runner has no buildctl on the PATH of its user's shell";
    Fault::new(FaultKind::Unavailable, "lian::remote::no_buildctl", message)
        .help("install it there, or set `runners.context_transfer = 'session`")
}

/// Replaces the help of a build fault: what helps on this machine does not help on a runner.
pub fn on_runner(fault: Fault) -> Fault {
    let help = match (fault.code.as_str(), &fault.help) {
        ("lian::buildkit::daemon_gone", _) => {
            "it is tried again on a new lease; if this keeps happening, look at buildkitd's log on the runner"
        }
        (_, Some(help)) if help.contains("`lian-build gc`") => {
            "free disk space on the runner (`buildctl prune` there), or give the layer a larger one"
        }
        (_, Some(help)) if help.contains("`lian-build doctor`") => {
            "the whole log: `lian-build logs`; the daemon's is on the runner"
        }
        _ => return fault,
    };
    fault.help(help)
}

fn without_mark(unsolved: Unsolved) -> Unsolved {
    match unsolved {
        Unsolved::Failed(mut failure) => {
            let lines = failure.text.lines().filter(|line| !line.trim().starts_with(MARK));
            failure.text = lines.collect::<Vec<_>>().join("\n");
            Unsolved::Failed(failure)
        }
        other => other,
    }
}

fn lost(evidence: &str) -> Fault {
    let mut fault =
        Fault::new(FaultKind::Infrastructure, "lian::remote::link_lost", "the connection to the runner was lost");
    fault.evidence = Some(evidence.to_owned());
    fault.help("if this keeps happening, check the network between here and the runner")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::buildkit::classify::{Failure, VertexFailure, classify};

    #[test]
    fn what_helps_here_is_not_advised_for_a_runner() {
        let of = |text: &str| classify(&Failure { text: text.to_owned(), exit: Some(1), ..Failure::default() });
        let step = VertexFailure {
            name: "[2/2] RUN make".to_owned(),
            error: "process \"make\" did not complete successfully: exit code: 2".to_owned(),
            log_tail: vec!["cc: No space left on device".to_owned()],
            ..VertexFailure::default()
        };
        let full = Failure { vertices: vec![step], exit: Some(1), ..Failure::default() };
        let faults = [
            of("error: failed to solve: Unavailable: error reading from server: EOF"),
            of("error: failed to solve: write /x: no space left on device"),
            of("error: something new"),
            classify(&full),
        ];
        for fault in faults {
            let here = fault.help.clone().expect("help");
            assert!(here.contains("lian-build gc") || here.contains("lian-build doctor"), "{fault:?}");
            let there = on_runner(fault).help.expect("help");
            assert!(there.contains("runner") && !there.contains("gc`") && !there.contains("doctor"), "{there}");
        }
    }
}

//! Runs `buildctl` once and reads its output. Not responsible for: knowing what is built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::classify::{Failure, classify};
use super::progress::Progress;
use crate::domain::base::Digest;
use crate::domain::model::{BuildEvent, Fault, FaultKind};
use crate::domain::ports::{BuildSink, SecretSource, SecretValue};
use crate::system::environment::Purpose;
use crate::system::process::{owned_command, terminate};
use crate::system::read::{self, Cap};
use crate::system::stop::gently;

/// Maximum length of a report. BuildKit's messages have 16 MiB at most, of which Base64 makes a third more.
const LINE_BYTES: u64 = 24 << 20;
/// What the buffer for reports keeps after a long one.
const IDLE_BYTES: usize = 1 << 20;

/// Runs solves on one daemon.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    pub(super) buildctl: PathBuf,
    pub(super) address: String,
    /// The environment variables that hold the build's secrets: buildctl reads their values.
    pub(super) variables: Vec<String>,
}

/// A solve that did not succeed.
pub(super) enum Unsolved {
    /// BuildKit reported a failure.
    Failed(Failure),
    /// buildctl could not be run.
    NotRun(Fault),
}

impl Solver {
    /// The same, which is also given the variables of these secrets.
    pub(super) fn with_secrets(&self, secrets: &[SecretSource]) -> Self {
        let variable = |secret: &SecretSource| match &secret.value {
            SecretValue::Env(name) => Some(name.clone()),
            SecretValue::File(_) => None,
        };
        Self { variables: secrets.iter().filter_map(variable).collect(), ..self.clone() }
    }

    /// A `buildctl` command that is killed with its future and with this process, so that no build goes on that nobody
    /// waits for.
    pub(super) fn command(&self) -> Command {
        let mut command = owned_command(&self.buildctl, Purpose::Buildctl);
        command.arg("--addr").arg(&self.address);
        for name in &self.variables {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command
    }

    /// Runs `buildctl` with these arguments until it ends. Dropping the future kills it; the daemon then cancels the
    /// solve.
    pub(super) async fn solve(&self, args: &[String], sink: &BuildSink<'_>) -> Result<Progress, Unsolved> {
        let broken = |error: &std::io::Error| {
            let message = format!("{} could not be run: {error}", self.buildctl.display());
            Unsolved::NotRun(
                Fault::new(FaultKind::Infrastructure, "lian::buildkit::buildctl", message)
                    .help("`lian-build doctor` shows what is missing"),
            )
        };
        tracing::debug!(address = self.address, ?args, "buildctl");
        let mut command = self.command();
        command.args(args).stdin(Stdio::null());
        let (progress, exit) = follow(command, sink).await.map_err(|error| broken(&error))?;
        if exit == Some(0) { Ok(progress) } else { Err(full_here(failed(&progress, exit), args)) }
    }
}

/// Runs a command that reports on standard error until it ends. Returns its exit code; `None` if a signal ended it.
pub(super) async fn follow(mut command: Command, sink: &BuildSink<'_>) -> std::io::Result<(Progress, Option<i32>)> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // Held open while the command runs: when it closes, the other side knows that nobody waits any more.
    let _stdin = child.stdin.take();
    let stderr = child.stderr.take().expect("invariant: standard error is piped");
    let id = child.id();
    let ended = async {
        let progress = read(stderr, sink).await?;
        Ok((progress, child.wait().await?.code()))
    };
    // buildctl then cancels its solve, and ends once the daemon has done so.
    gently(ended, || id.into_iter().for_each(terminate)).await
}

/// Reads buildctl's reports until they end. A line that is too long for a report is left out, which a warning says.
pub(super) async fn read(stderr: impl AsyncRead + Unpin, sink: &BuildSink<'_>) -> std::io::Result<Progress> {
    let mut progress = Progress::default();
    let mut reader = BufReader::with_capacity(64 * 1024, stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES {
            skip_line(&mut reader).await?;
            let message = format!("a progress report of more than {} MB is left out", LINE_BYTES / 1_000_000);
            sink(BuildEvent::Warning { message });
        } else {
            progress.line(String::from_utf8_lossy(&line).trim_end()).into_iter().for_each(sink);
        }
        line.shrink_to(IDLE_BYTES);
    }
    Ok(progress)
}

/// Reads on to the end of a line and drops what it reads.
async fn skip_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<()> {
    loop {
        let piece = reader.fill_buf().await?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let read = end.map_or(piece.len(), |end| end + 1);
        reader.consume(read);
        if end.is_some() || read == 0 {
            return Ok(());
        }
    }
}

/// The evidence of a solve that failed.
pub(super) fn failed(progress: &Progress, exit: Option<i32>) -> Unsolved {
    let (vertices, text) = (progress.failures(), progress.text());
    Unsolved::Failed(Failure { vertices, text, exit, ..Failure::default() })
}

/// What BuildKit says of a disk without space, after the file that it wrote.
const NO_SPACE: &str = ": no space left on device";

/// Notes whether the disk that is full is this machine's: the result of a solve is written here by buildctl, wherever the
/// daemon is.
fn full_here(mut unsolved: Unsolved, args: &[String]) -> Unsolved {
    if let Unsolved::Failed(failure) = &mut unsolved {
        let outputs = args.iter().flat_map(|arg| arg.split(','));
        let mut folders = outputs.filter_map(|part| part.trim_matches('"').strip_prefix("dest="));
        let written = |folder: &str| {
            let file =
                |line: &str| line.split(NO_SPACE).next().is_some_and(|file| file.contains(&format!("{folder}/")));
            failure.text.lines().any(|line| line.contains(NO_SPACE) && file(line))
        };
        failure.full_here = folders.find(|folder| written(folder)).map(PathBuf::from);
    }
    unsolved
}

/// A sink for solves whose progress nobody needs.
pub(super) fn silent(_: BuildEvent) {}

/// The fault of a solve, with the step's name.
pub(super) fn fault_of(unsolved: Unsolved) -> Fault {
    match unsolved {
        Unsolved::Failed(failure) => classify(&failure),
        Unsolved::NotRun(fault) => fault,
    }
}

/// The content of `--metadata-file`.
#[derive(serde::Deserialize)]
struct Metadata {
    #[serde(rename = "containerimage.digest")]
    digest: Digest,
}

/// The digest that buildctl wrote.
pub(super) fn digest_in(metadata: &Path) -> Result<Digest, Fault> {
    let read = || serde_json::from_slice::<Metadata>(&read::of_user(metadata, Cap::Answer).ok()?).ok();
    read().map(|metadata| metadata.digest).ok_or_else(|| {
        Fault::new(
            FaultKind::Infrastructure,
            "lian::buildkit::no_digest",
            "buildctl reported no digest of what it built",
        )
        .help("is this BuildKit v0.13 or newer? `lian-build doctor` shows its version")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_report_without_an_end_is_dropped_as_it_comes_and_the_next_one_is_read() {
        let report = b"{\"logs\":[{\"vertex\":\"v\",\"data\":\"aGVsbG8=\"}]}\n";
        let flood = tokio::io::repeat(b'x').take(3 * LINE_BYTES);
        let stderr = flood.chain(&b"\n"[..]).chain(&report[..]).chain(&b"error: the last words"[..]);
        let told = Mutex::new(Vec::new());
        let progress = read(stderr, &|event| told.lock().expect("whole").push(event)).await.expect("readable");
        let told = told.into_inner().expect("whole");
        assert!(matches!(&told[..], [BuildEvent::Warning { .. }, BuildEvent::Log { .. }]), "{told:?}");
        assert_eq!(progress.text(), "error: the last words");
    }

    #[test]
    fn a_full_disk_here_is_told_from_one_of_the_daemon() {
        let args = ["--output", "type=oci,tar=false,\"dest=/p/state/staging/x\""].map(str::to_owned);
        let fault = |file: &str| {
            let text =
                format!("error: failed to solve: failed to copy: rpc error: write {file}: no space left on device");
            let failure = Failure { text, exit: Some(1), ..Failure::default() };
            fault_of(full_here(Unsolved::Failed(failure), &args))
        };
        let here = fault("/p/state/staging/x/ingest/0/data");
        assert!(here.message.contains("/p/state/staging/x on this machine"), "{here:?}");
        assert!(here.help.expect("help").contains("not the runner's"));
        let there = fault("/var/lib/buildkit/x");
        assert_eq!(
            (there.code.as_str(), there.message.as_str()),
            ("lian::buildkit::disk_full", "no space left on the device")
        );
    }
}

//! Explains why a solve failed, from its vertices, buildctl's last messages and its exit code. It never guesses:
//! without evidence of something else, it is a failed build (ADR-039).

use std::path::PathBuf;

use super::policy;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::Usage;

/// A vertex that ended with an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VertexFailure {
    /// Its name, e.g. `[4/6] RUN cargo chef cook --release`.
    pub name: String,
    /// Its error, in BuildKit's words.
    pub error: String,
    /// The last lines of its output.
    pub log_tail: Vec<String>,
    /// Lines above them that look like the cause.
    pub causes: Vec<String>,
    /// BuildKit's word that it wrote down no more of its output.
    pub clipped: Option<String>,
    /// Whether cargo's last lines say that the compiler was killed (`signal: 9, SIGKILL`).
    pub tells_kill: bool,
}

/// What the runner's counters say about memory (ADR-039).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OomEvidence {
    /// The counters were not read, or did not move.
    #[default]
    None,
    /// The kernel killed a process in the steps' cgroup while the build was running.
    Counter {
        /// For people, such as `killed at 7.8 of 8.0 GB`.
        text: String,
    },
    /// The kernel killed a process for lack of memory, but none in the steps' cgroup, and the BuildKit daemon has been
    /// restarted or is gone. A kill alone would prove nothing, because the kernel may be shared.
    Daemon,
}

impl OomEvidence {
    /// The evidence in two readings of a runner's counters, before and after the build.
    pub fn between(before: &Usage, after: &Usage) -> Self {
        if after.oom_kills > before.oom_kills {
            return Self::Counter { text: format!("killed at {}", share(after.killed_at, after.memory_limit)) };
        }
        let other_daemon = after.daemon_starts != before.daemon_starts;
        if after.kernel_kills > before.kernel_kills && other_daemon { Self::Daemon } else { Self::None }
    }
}

/// `7.8 of 8.0 GB`.
fn share(part: u64, whole: u64) -> String {
    let (unit, bytes) = if whole >= 1_000_000_000 { ("GB", 1e9) } else { ("MB", 1e6) };
    #[allow(clippy::cast_precision_loss, reason = "a tenth of a unit is all that is shown")]
    let of = |count: u64| count as f64 / bytes;
    format!("{:.1} of {:.1} {unit}", of(part), of(whole))
}

/// A failed solve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// Vertices with an error.
    pub vertices: Vec<VertexFailure>,
    /// What buildctl wrote besides the progress.
    pub text: String,
    /// Its exit code; `None` if a signal ended it.
    pub exit: Option<i32>,
    /// The evidence about memory.
    pub oom: OomEvidence,
    /// The folder on this machine that could not take the result because its disk is full.
    pub full_here: Option<PathBuf>,
}

const PROCESS: &str = "did not complete successfully: ";

/// The fault that the evidence shows.
pub fn classify(failure: &Failure) -> Fault {
    let cause = root_cause(&failure.text);
    let vertex = guilty(failure, &cause);
    let error = vertex.map_or(cause.as_str(), |vertex| vertex.error.as_str());
    let mut fault = vertex
        .and_then(|vertex| of_process(vertex, &failure.oom))
        .or_else(|| of_world(error, failure))
        .unwrap_or_else(|| of_nothing_known(error, failure));
    if let Some(vertex) = vertex {
        fault.step = Some(vertex.name.clone());
        fault.log_tail.clone_from(&vertex.log_tail);
        fault.causes.clone_from(&vertex.causes);
        fault.clipped = vertex.clipped.as_deref().map(Box::from);
    }
    fault
}

/// The vertex whose error buildctl reports. Other vertices may have errors that did no harm (a missing cache import) or
/// that only say that they were cancelled.
fn guilty<'a>(failure: &'a Failure, cause: &str) -> Option<&'a VertexFailure> {
    let candidates = || failure.vertices.iter().filter(|vertex| !vertex.error.contains("context canceled"));
    let named = candidates().rev().find(|vertex| !vertex.error.is_empty() && cause.ends_with(vertex.error.as_str()));
    named.or_else(|| if cause.is_empty() { candidates().next_back() } else { None })
}

/// The last `error: …` of buildctl, without `failed to solve: `. It may span several lines.
fn root_cause(text: &str) -> String {
    let at = text.rfind("\nerror: ").map(|at| at + 1).or_else(|| text.starts_with("error: ").then_some(0));
    let cause = at.map_or(text, |at| &text[at + "error: ".len()..]);
    cause.trim().trim_start_matches("failed to solve: ").to_owned()
}

/// The fault of a step whose process ended with an error.
fn of_process(vertex: &VertexFailure, oom: &OomEvidence) -> Option<Fault> {
    // Only the end of the message is BuildKit's. The text before it comes from the step and may hold any of these
    // words.
    let (_, end) = vertex.error.rsplit_once(PROCESS)?;
    if end == "cannot allocate memory" {
        return Some(out_of_memory(match oom {
            OomEvidence::Counter { text } => text,
            _ => "the kernel refused memory to the step: cannot allocate memory",
        }));
    }
    let code: u32 = end.strip_prefix("exit code: ")?.parse().ok()?;
    let killed = code == 137 || vertex.tells_kill;
    match oom {
        OomEvidence::Counter { text } if killed => Some(out_of_memory(text)),
        _ => {
            let mut fault = Fault::new(
                FaultKind::Build,
                "lian::buildkit::step_failed",
                format!("the step ended with exit code {code}"),
            );
            fault.evidence = Some(format!("exit code {code}"));
            Some(match code {
                _ if killed => fault.help(
                    "something killed it, and no memory counter shows that memory ran out; if it did, lower the \
                     parallelism of the step or give it a larger runner",
                ),
                127 => fault.help("a command was not found: is the tool in the base image, and on its PATH?"),
                126 => fault.help("a command could not be executed: is it executable, and built for this platform?"),
                _ if vertex.log_tail.iter().any(|line| line.contains("No space left on device")) => {
                    fault.help("free disk space with `lian-build gc`, then run it again")
                }
                _ => fault.help("correct the step, then run it again"),
            })
        }
    }
}

fn out_of_memory(evidence: &str) -> Fault {
    let mut fault = Fault::new(FaultKind::OutOfMemory, "lian::buildkit::out_of_memory", "the step ran out of memory");
    fault.evidence = Some(evidence.to_owned());
    fault.help(
        "set a larger `runner_type` in .build-spec.ncl, or lower the parallelism of the step (e.g. CARGO_BUILD_JOBS)",
    )
}

/// The fault of a solve that no step's process caused: a secret, a file, an image, the disk or the daemon.
fn of_world(error: &str, failure: &Failure) -> Option<Fault> {
    let text = failure.text.as_str();
    let fault = |kind, code: &str, message: String| Some(Fault::new(kind, code, message));
    // What a registry reports about itself, such as a full disk, says nothing about this machine or a base image.
    if let Some(fault) = of_push(error) {
        return Some(fault);
    }
    if let Some(id) = between(error, "secret ", ": not found") {
        let message = format!("the step needs the secret `{id}`, and no value was given");
        return fault(FaultKind::Missing, "lian::buildkit::missing_secret", message).map(|fault| {
            fault.help(format!("say in the layer where it comes from: secrets = [{{ id = \"{id}\", env = \"…\" }}]"))
        });
    }
    if let Some(id) = between(error, "no SSH key \"", "\" forwarded") {
        let id = if id.is_empty() { "default" } else { id };
        let message = format!("the step needs the ssh mount `{id}`, and none was given");
        return fault(FaultKind::Missing, "lian::buildkit::missing_ssh", message)
            .map(|fault| fault.help(format!("declare it in the layer: ssh = [\"{id}\"]")));
    }
    if text.contains("SSH_AUTH_SOCK") && text.contains("agent") {
        let message = "the build needs ssh keys, and no ssh agent is running".to_owned();
        return fault(FaultKind::Missing, "lian::buildkit::missing_ssh", message)
            .map(|fault| fault.help("start one: `eval $(ssh-agent); ssh-add`"));
    }
    if let Some(folder) = &failure.full_here {
        let message = format!("no space is left in {} on this machine", folder.display());
        return fault(FaultKind::Unavailable, "lian::buildkit::disk_full", message).map(|fault| {
            fault.help("free space there: it is the disk of this machine that is full, not the runner's")
        });
    }
    if error.contains("no space left on device") || text.contains("no space left on device") {
        // Another try would fail the same way, so this is not an infrastructure fault.
        return fault(FaultKind::Unavailable, "lian::buildkit::disk_full", "no space left on the device".to_owned())
            .map(|fault| fault.help("free disk space with `lian-build gc`, then run it again"));
    }
    policy::denied(error)
        .or_else(|| of_session(error))
        .or_else(|| of_image(error, text))
        .or_else(|| of_file(error))
        .or_else(|| of_daemon(error, failure))
}

/// What Go's client reports when it speaks TLS to a server that does not.
const NO_TLS: [&str; 2] =
    ["tls: first record does not look like a TLS handshake", "server gave HTTP response to HTTPS client"];

/// The fault of an image that was built but could not be pushed.
fn of_push(error: &str) -> Option<Fault> {
    let (name, why) = error.split_once("failed to push ")?.1.split_once(": ")?;
    let registry = name.split('/').next().unwrap_or(name);
    let repository = name.split_once('@').map_or(name, |(repository, _)| repository);
    let status = status(why);
    let refused = ["access denied", "authorization failed"].iter().any(|sign| why.contains(sign))
        || why == "denied"
        || why.starts_with("denied:")
        || status.is_some_and(|answer| (400..500).contains(&answer) && answer != 408 && answer != 429);
    let mut fault = if status == Some(405) {
        let message = format!("{registry} refuses writes of {repository}: is it read-only?");
        Fault::denied("lian::buildkit::push_denied", message).help(
            "name a registry that takes pushes in the workflow's `registry.address`: a mirror or a cache takes none",
        )
    } else if refused {
        let message = format!("the registry does not take {repository}");
        Fault::denied("lian::buildkit::push_denied", message).help(format!(
            "log in (`docker login {registry}`) with a user who may push there, and check whether `{repository}` is the \
             repository's name"
        ))
    } else if NO_TLS.iter().any(|sign| why.contains(sign)) {
        // Another try would fail the same way.
        let message = format!("{repository} could not be pushed: {registry} does not use TLS");
        Fault::configuration("lian::buildkit::push_failed", message).help(
            "set `plain_http = true` in the workflow's `registry`, and name it in the buildkitd.toml of runners \
             ([registry.\"HOST:PORT\"] http = true)",
        )
    } else {
        let message = format!("{repository} could not be pushed");
        Fault::new(FaultKind::Infrastructure, "lian::buildkit::push_failed", message).help(format!(
            "check whether {registry} can be reached from the runner and is healthy; then run it again: what is built is cached"
        ))
    };
    fault.evidence = Some(one_line(why));
    Some(fault)
}

/// The HTTP status in a message such as `unexpected status from POST request to https://…: 500 Internal Server Error:
/// …`.
fn status(text: &str) -> Option<u16> {
    let answer = text.split_once("unexpected status from ")?.1.split_once(": ")?.1;
    answer.split(' ').next()?.parse().ok()
}

/// The fault of a daemon that did not find buildctl's own session. It waits five seconds for it: on a busy machine the
/// session may come later, and steps that several solves share may ask for one that has just ended.
fn of_session(error: &str) -> Option<Fault> {
    let gone = ["no active session for ", "no active sessions"].iter().any(|sign| error.contains(sign));
    gone.then(|| {
        let message = "the BuildKit daemon lost sight of buildctl: the machine may be overloaded";
        let mut fault = Fault::new(FaultKind::Infrastructure, "lian::buildkit::no_session", message);
        fault.evidence = Some(one_line(error));
        fault.help("run it again, with fewer layers at a time (`--parallel`) if it happens often")
    })
}

fn of_image(error: &str, text: &str) -> Option<Fault> {
    let name = between(text, "failed to resolve source metadata for ", ": ")
        .or_else(|| between(text, "failed to solve: ", ": failed to copy: "));
    let pull = name.is_some() || error.contains("failed to do request: ") || error.contains("pull access denied");
    if !pull {
        return None;
    }
    let image = name.unwrap_or("the base image");
    let missing = error.ends_with(": not found") || error.contains("pull access denied");
    let (kind, code, what) = if missing {
        (FaultKind::Missing, "lian::buildkit::base_not_found", "does not exist, or may not be read")
    } else {
        (FaultKind::Infrastructure, "lian::buildkit::base_unreachable", "could not be fetched")
    };
    let mut fault = Fault::new(kind, code, format!("{image} {what}"));
    fault.evidence = Some(one_line(error));
    let familiar = image.split_once('@').map_or(image, |(name, _)| name);
    Some(fault.help(format!("substitute it with a local copy: `--base-image {familiar}=oci-layout:DIR`")))
}

fn of_file(error: &str) -> Option<Fault> {
    let path = if error.contains("failed to calculate checksum") {
        between(error, "\"", "\": not found")
    } else {
        between(error, "lstat ", ": no such file or directory")
    }?;
    let message = format!("the step copies `{path}`, which does not exist there");
    let fault = Fault::new(FaultKind::Missing, "lian::buildkit::missing_file", message);
    Some(fault.help("correct the path, or check whether .dockerignore leaves the file out"))
}

/// What buildctl reports when its daemon is gone.
const GONE: [&str; 7] = [
    "error reading from server: EOF",
    "error reading from server: read",
    "connection refused",
    // Somebody took the connection and ended it: a forwarded socket whose daemon is gone.
    "error reading server preface",
    "transport: Error while dialing",
    "the client connection is closing",
    // The container was stopped while its daemon was running.
    "dial-stdio] has exited",
];

impl Failure {
    /// Whether the daemon seems to have gone away.
    pub fn lost_daemon(&self) -> bool {
        self.exit.is_some() && GONE.iter().any(|sign| self.text.contains(sign))
    }
}

fn of_daemon(error: &str, failure: &Failure) -> Option<Fault> {
    let text = failure.text.as_str();
    if !GONE.iter().any(|sign| error.contains(sign) || text.contains(sign)) {
        return None;
    }
    match &failure.oom {
        OomEvidence::None => {}
        OomEvidence::Counter { text } => return Some(out_of_memory(text)),
        OomEvidence::Daemon => {
            return Some(out_of_memory("the kernel killed the BuildKit daemon because memory ran out"));
        }
    }
    let mut fault = Fault::new(
        FaultKind::Infrastructure,
        "lian::buildkit::daemon_gone",
        "the BuildKit daemon stopped during the build",
    );
    fault.evidence = Some(one_line(if error.is_empty() { text } else { error }));
    Some(fault.help("run it again: that starts a new one; `lian-build doctor` shows the daemon's log"))
}

/// The fault of everything else: the Dockerfile itself, or a message that we do not know yet.
fn of_nothing_known(error: &str, failure: &Failure) -> Fault {
    if failure.exit.is_none() {
        let fault = Fault::new(FaultKind::Infrastructure, "lian::buildkit::buildctl_killed", "buildctl was killed");
        return fault.help("run it again");
    }
    // A message may be there and say nothing: blanks, line ends.
    let message = Some(one_line(error)).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| "buildctl failed without a message".to_owned());
    let dockerfile = error.contains("dockerfile parse error") || error.contains("target stage");
    if dockerfile || failure.text.contains("--------------------") {
        let fault = Fault::new(FaultKind::Build, "lian::buildkit::dockerfile", message);
        return fault.help("correct the Dockerfile; `lian-build check` finds such faults before a build");
    }
    Fault::new(FaultKind::Build, "lian::buildkit::solve_failed", message)
        .help("the whole log: `lian-build logs`; the daemon's: `lian-build doctor`")
}

/// The text between the first `before` and the first `after` that follows it.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = text.split_once(before)?.1;
    rest.split_once(after).map(|(found, _)| found).filter(|found| !found.contains('\n'))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;

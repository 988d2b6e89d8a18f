//! Finds what is missing on this machine, and the command that fixes it. Not responsible for: other machines.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Finding, State};
use crate::adapters::buildkit::{Binaries, Daemon, DaemonConfig, REACH, Shared, Status, others_only};
use crate::adapters::engine::{Engine, EngineError};
use crate::app::Error;
use crate::app::project::Project;
use crate::app::runners::stand_in;
use crate::app::session::Session;
use crate::domain::base::human_bytes;
use crate::system::environment::{Purpose, command};
use crate::system::host_platform;
use crate::system::process::{Printed, answer_blocking};

/// Free space below which builds are likely to fail.
const LOW_BYTES: u64 = 5_000_000_000;

/// Where users who have only the binary get BuildKit.
const GET_BUILDKIT: &str = "put buildkitd and buildctl on the PATH, or their folder in LIAN_BUILDKIT_BIN: they are in the releases of \
                            moby/buildkit and in some distributions' packages (`make setup` in a checkout of lian-build fetches them); \
                            or build in Docker: `lian-build apply --provider docker-local`";
/// Checks everything that builds need on this machine: to build as it is, or to reach its provider's runners.
pub(super) fn examine(session: &Session, remote_only: bool) -> Result<Vec<Finding>, Error> {
    let project = session.project();
    let engine = engine(session)?;
    let mut findings = vec![buildkit()];
    if !remote_only {
        let is_there = findings[0].state == State::Well;
        findings.push(runc());
        // Without BuildKit's programs nobody can ask a daemon, and that was just said.
        findings.extend(if is_there { daemon(session)? } else { Vec::new() });
        findings.push(privileges());
        if in_docker(&findings, &engine) {
            findings = vec![instead()];
        }
    }
    findings.extend([space(project), temporary(&std::env::temp_dir()), kept(project), git()]);
    findings.extend([remote(remote_only), engine]);
    Ok(findings)
}

/// Whether builds run in Docker, for want of a BuildKit of this machine's own.
fn in_docker(findings: &[Finding], engine: &Finding) -> bool {
    let lacks = findings.iter().any(|finding| finding.state == State::Missing);
    lacks && engine.state == State::Well && engine.told.starts_with("docker ") && stand_in::cannot_build().is_some()
}

fn instead() -> Finding {
    let flag = stand_in::stand_in()
        .map_or_else(String::new, |other| format!(" (`--provider {}`, taken by itself)", other.flag));
    let told = format!("builds run in Docker{flag}: no BuildKit is needed here");
    Finding::well("BuildKit", told)
}

fn finding(name: &str, state: State, told: impl Into<String>, mend: Option<&str>) -> Finding {
    Finding { name: name.to_owned(), state, told: told.into(), mend: mend.map(str::to_owned) }
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// How long a program may take to say its version.
const VERSION: Duration = Duration::from_secs(10);

/// The first line of a program's version output.
fn version(program: &Path, flag: &str) -> Option<String> {
    let mut asked = command(program, Purpose::Local);
    asked.arg(flag);
    let printed = answer_blocking(asked, Vec::new(), VERSION, Printed::Words).ok()?;
    let text = String::from_utf8_lossy(&printed).into_owned();
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

fn buildkit() -> Finding {
    match Binaries::find() {
        Ok(found) => {
            let told = version(&found.buildctl, "--version").unwrap_or_else(|| found.buildctl.display().to_string());
            finding("BuildKit", State::Well, told, None)
        }
        Err(error) => finding("BuildKit", State::Missing, error.to_string(), Some(GET_BUILDKIT)),
    }
}

fn runc() -> Finding {
    let found = ["runc", "buildkit-runc", "crun"].into_iter().find_map(on_path);
    match found {
        Some(path) => {
            let told = version(&path, "--version").unwrap_or_else(|| path.display().to_string());
            finding("runc", State::Well, told, None)
        }
        None => finding("runc", State::Missing, "no OCI runtime on the PATH", Some("apt-get install runc")),
    }
}

/// Our own daemon, or that of `BUILDKIT_HOST`; and the network of its steps.
fn daemon(session: &Session) -> Result<Vec<Finding>, Error> {
    let config = match DaemonConfig::from_env() {
        Ok(config) => config,
        Err(error) => return Ok(vec![finding("daemon", State::Missing, error.to_string(), None)]),
    };
    Ok(match session.wait(Daemon::status(&config))? {
        Ok(status) => {
            let network = (status.own || status.running).then(|| network(&config, &status));
            std::iter::once(answer(&status)).chain(network).collect()
        }
        Err(error) => vec![finding("daemon", State::Missing, error.to_string(), Some(GET_BUILDKIT))],
    })
}

fn answer(status: &Status) -> Finding {
    let log = status.log.display();
    match &status.silent {
        _ if status.running => match others_only(&status.platforms, &host_platform()) {
            None => finding("daemon", State::Well, told_of(status), None),
            Some(found) => {
                let told =
                    format!("{}, and builds for {found} only: layers are for {}", told_of(status), host_platform());
                finding(
                    "daemon",
                    State::Missing,
                    told,
                    Some("name another daemon, or install emulation there (binfmt)"),
                )
            }
        },
        Some(silent) => {
            let told = format!("{silent} (log: {log})");
            finding("daemon", State::Missing, told, Some("see its log; if it hangs, end its supervisor"))
        }
        None if status.own => {
            finding("daemon", State::Well, format!("not running; `apply` starts it (log: {log})"), None)
        }
        None => {
            let told = format!("nothing answers at {}", status.address);
            finding("daemon", State::Missing, told, Some("start it, or unset BUILDKIT_HOST"))
        }
    }
}

fn network(config: &DaemonConfig, status: &Status) -> Finding {
    match &status.shared {
        Some(Shared { why, mend }) => finding("network", State::Advice, format!("{REACH}: {why}"), Some(mend)),
        None if status.own && config.host_network == Some(true) => {
            let told = format!("{REACH}: LIAN_NETWORK says so");
            finding("network", State::Advice, told, Some("unset LIAN_NETWORK: steps can have their own"))
        }
        None => finding("network", State::Well, "steps have one of their own", None),
    }
}

fn told_of(status: &Status) -> String {
    let log = if status.own { format!(" (log: {})", status.log.display()) } else { String::new() };
    format!("answers at {}{log}", status.address)
}

fn privileges() -> Finding {
    if rustix::process::geteuid().is_root() {
        return finding("privileges", State::Well, "root: buildkitd can run steps", None);
    }
    if std::env::var_os("BUILDKIT_HOST").is_some() {
        return finding("privileges", State::Well, "the daemon of BUILDKIT_HOST runs the steps", None);
    }
    let mend = "run as root, or point BUILDKIT_HOST at a daemon that you may use";
    finding("privileges", State::Missing, "not root: a buildkitd of one's own needs root", Some(mend))
}

fn space(project: &Project) -> Finding {
    let existing = project.user().ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let free = |folder: &Path| {
        rustix::fs::statvfs(folder).map(|found| found.f_bavail.saturating_mul(found.f_frsize)).unwrap_or(0)
    };
    let least = free(existing).min(free(project.root()));
    let told = format!("{} free", human_bytes(least));
    if least < LOW_BYTES {
        return finding("disk", State::Missing, told, Some("lian-build gc --keep-bytes 1GB"));
    }
    finding("disk", State::Well, told, None)
}

fn git() -> Finding {
    match on_path("git") {
        Some(path) => finding("git", State::Well, version(&path, "--version").unwrap_or_default(), None),
        None => finding("git", State::Advice, "not found: only `lian-build check` as a pre-commit hook needs it", None),
    }
}

/// Whether a folder is writable. Leaves nothing behind.
fn takes(folder: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(folder)?.write_all(&[0; 4096])
}

fn temporary(folder: &Path) -> Finding {
    let shown = folder.display();
    match takes(folder) {
        Ok(()) => finding("TMPDIR", State::Well, format!("{shown} can be written to"), None),
        Err(error) => {
            let told = format!("{shown} cannot be written to: {error}");
            finding(
                "TMPDIR",
                State::Missing,
                told,
                Some("create it, free space in it, or set TMPDIR to another folder"),
            )
        }
    }
}

fn kept(project: &Project) -> Finding {
    let own = project.state();
    let folder = own.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let shown = own.display();
    match takes(folder) {
        Ok(()) => finding("project", State::Well, format!("{shown} can be written to"), None),
        Err(error) => {
            let told = format!("{shown} cannot be written to: {error}");
            let mend = "make it writable, or choose another with LIAN_STATE: `apply` keeps images and its history there; `check` and \
                        `plan` need none";
            finding("project", State::Missing, told, Some(mend))
        }
    }
}

/// What runners over SSH need. `needed`: this workflow's runners are such.
fn remote(needed: bool) -> Finding {
    let programs = ["ssh", "ssh-keygen", "rsync"];
    let absent: Vec<&str> = programs.into_iter().filter(|name| on_path(name).is_none()).collect();
    if absent.is_empty() {
        return finding("ssh", State::Well, "ssh, ssh-keygen and rsync are there for runners over SSH", None);
    }
    let (state, who) = match needed {
        true => (State::Missing, "this workflow's runners need that"),
        false => (State::Advice, "only runners over SSH need that"),
    };
    let told = format!("not found: {}; {who}", absent.join(", "));
    finding("ssh", state, told, Some("apt-get install openssh-client rsync"))
}

fn engine(session: &Session) -> Result<Finding, Error> {
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(_) => {
            let told = "neither Docker nor podman: only `lian-build load` and `--provider docker-local` need one";
            return Ok(finding("engine", State::Advice, told, None));
        }
    };
    let name = engine.name;
    Ok(match session.wait(engine.version())? {
        Ok(version) => finding("engine", State::Well, format!("{name} {version} answers, for `lian-build load`"), None),
        Err(error) => {
            let first = match &error {
                EngineError::Denied { .. } => format!("add this user to the group `{name}`, and log in anew"),
                _ => format!("start it, and look whether it answers (`{name} version`)"),
            };
            let mend = format!("{first}; only `load` and `--provider docker-local` need it");
            finding("engine", State::Advice, error.to_string(), Some(&mend))
        }
    })
}

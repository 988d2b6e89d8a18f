//! A container engine on this machine, Docker or podman: found, asked whether it answers, given images. Not
//! responsible for: containers (see `providers::docker`).

use std::io::{Read as _, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::time::Instant;

use crate::domain::base::human_duration;
use crate::domain::model::{Classified, FaultClass};
use crate::system::environment::{self, Purpose};
use crate::system::process::{CommandError, Printed, output};

/// Timeout for an engine to answer.
const ANSWERS: Duration = Duration::from_secs(5);
/// How long an engine may take nothing of an image, or do something with the whole of it.
const STALLED: Duration = Duration::from_secs(600);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long the rest of its complaints is waited for: a process that it left may hold the pipe.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The most bytes of its complaints that are kept.
const STDERR_BYTES: u64 = 64 * 1024;

/// An engine's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `docker` or `podman`.
    pub name: &'static str,
    /// Its program.
    pub program: PathBuf,
}

/// There is no engine, or it does not do what it is asked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EngineError {
    /// Neither is installed.
    #[error("neither `docker` nor `podman` is on the PATH")]
    #[diagnostic(
        code(lian::buildkit::no_engine),
        help("install one of them, or read the image from the OCI layout (`skopeo copy oci:DIR:REF …`)")
    )]
    None,
    /// Its command is there, and no engine behind it.
    #[error("`{name}` is there, and no engine answers: {why}")]
    #[diagnostic(
        code(lian::engine::no_answer),
        help("start it, and check that this user may use it: `{name} version`")
    )]
    NoAnswer {
        /// The engine.
        name: &'static str,
        /// What it said.
        why: String,
    },
    /// There is an engine, and it is not this user's to use.
    #[error("`{name}` is there, and this user may not use its engine: {why}")]
    #[diagnostic(
        code(lian::engine::denied),
        help("add the user to the group `{name}`, or point DOCKER_HOST at an engine of its own")
    )]
    Denied {
        /// The engine.
        name: &'static str,
        /// What it said.
        why: String,
    },
    /// It did not take an image.
    #[error("`{name} load` failed: {why}")]
    #[diagnostic(code(lian::engine::load), help("check whether the engine has room: `{name} system df`"))]
    Load {
        /// The engine.
        name: &'static str,
        /// What it said.
        why: String,
    },
}

impl Classified for EngineError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Denied { .. } => FaultClass::Denied,
            Self::None | Self::NoAnswer { .. } | Self::Load { .. } => FaultClass::Unavailable,
        }
    }
}

impl Engine {
    /// Docker, or podman if there is no Docker.
    ///
    /// # Errors
    /// [`EngineError::None`].
    pub fn find() -> Result<Self, EngineError> {
        ["docker", "podman"].into_iter().find_map(Self::named).ok_or(EngineError::None)
    }

    /// The engine of this name, if its command is on the PATH.
    pub fn named(name: &'static str) -> Option<Self> {
        let folders = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())?;
        Some(Self { name, program })
    }

    /// Its version, once it answers.
    ///
    /// # Errors
    /// [`EngineError::NoAnswer`], [`EngineError::Denied`].
    pub async fn version(&self) -> Result<String, EngineError> {
        let format = if self.name == "docker" { "{{.Server.Version}}" } else { "{{.Version}}" };
        let mut command = tokio::process::Command::from(environment::command(&self.program, Purpose::Engine));
        command.args(["version", "--format", format]);
        let first =
            |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
        let why = match output(command, ANSWERS, Printed::Words).await {
            Ok(printed) => return Ok(first(&String::from_utf8_lossy(&printed))),
            Err(CommandError::Late(limit)) => format!("no answer within {} s", limit.as_secs()),
            Err(error) => first(&error.to_string()),
        };
        Err(match why.contains("permission denied") {
            true => EngineError::Denied { name: self.name, why },
            false => EngineError::NoAnswer { name: self.name, why },
        })
    }

    /// Streams an archive, which `write` writes, into the engine. Blocks. Returns what `write` returned.
    ///
    /// # Errors
    /// [`EngineError::Load`] if the engine does not take it.
    pub fn load<T>(&self, write: impl FnOnce(&mut dyn Write) -> T) -> Result<T, EngineError> {
        self.load_within(STALLED, write)
    }

    /// The same; an engine that takes nothing for so long, or does not end, is given up.
    fn load_within<T>(&self, stalled: Duration, write: impl FnOnce(&mut dyn Write) -> T) -> Result<T, EngineError> {
        let refused = |why: String| EngineError::Load { name: self.name, why };
        let mut command = environment::command(&self.program, Purpose::Engine);
        command.arg("load").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| refused(error.to_string()))?;
        let stdin = child.stdin.take().expect("invariant: standard input is piped");
        let mut stderr = child.stderr.take().expect("invariant: standard error is piped");
        let (said, words) = mpsc::channel();
        std::thread::spawn(move || {
            let mut words = Vec::new();
            let _ = (&mut stderr).take(STDERR_BYTES).read_to_end(&mut words);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            let _ = said.send(String::from_utf8_lossy(&words).into_owned());
        });
        // Only what watches it waits for its end, so that no other process is ever ended in its place.
        let (taken, is_written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watched = (Arc::clone(&taken), Arc::clone(&is_written));
        let watch = std::thread::spawn(move || ended(&mut child, &watched.0, &watched.1, stalled));
        let written = written(Counted { stdin, taken }, write);
        is_written.store(true, Ordering::Relaxed);
        let status = watch.join().unwrap_or_else(|_| Err("what watches it has failed".to_owned())).map_err(refused)?;
        if status.success() {
            return Ok(written);
        }
        Err(refused(cause(&words.recv_timeout(LAST_WORDS).unwrap_or_default())))
    }
}

/// Waits for the engine's end. It is killed when it takes nothing for so long, or does not end after all was written.
fn ended(
    child: &mut Child,
    taken: &AtomicU64,
    is_written: &AtomicBool,
    stalled: Duration,
) -> Result<ExitStatus, String> {
    let (mut before, mut since) = ((0, false), Instant::now());
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        let now = (taken.load(Ordering::Relaxed), is_written.load(Ordering::Relaxed));
        if now != before {
            (before, since) = (now, Instant::now());
        }
        if since.elapsed() > stalled {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it has taken nothing for {}, and was ended", human_duration(stalled)));
        }
        std::thread::sleep(LOOK);
    }
}

/// The engine's input, of which is counted how much it has taken.
struct Counted {
    stdin: ChildStdin,
    taken: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.stdin.write(bytes)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stdin.flush()
    }
}

/// Writes, and closes the pipe: the engine waits for its end.
fn written<T>(mut stdin: Counted, write: impl FnOnce(&mut dyn Write) -> T) -> T {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, &mut stdin);
    write(&mut out)
}

/// What an engine said, on one line: its reason often stands above its last line.
fn cause(words: &str) -> String {
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => "no reason given".to_owned(),
        lines => lines[lines.len().saturating_sub(3)..].join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that does this.
    fn engine(folder: &std::path::Path, script: &str) -> Engine {
        let program = folder.join("docker");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        Engine { name: "docker", program }
    }

    #[test]
    fn an_engine_is_given_the_stream_and_its_words_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = |script: &str| engine(folder.path(), script);
        let taken = folder.path().join("taken");
        let taking = engine(&format!("cat > {}", taken.display()));
        taking.load(|out| out.write_all(b"image")).expect("loaded").expect("written");
        assert_eq!(std::fs::read_to_string(&taken).expect("a file"), "image");
        let refusing = engine("echo 'no room here' >&2; echo 'load failed' >&2; exit 1");
        let error = refusing.load(|_| ()).expect_err("refused").to_string();
        assert!(error.contains("no room here; load failed"), "{error}");
    }

    #[test]
    fn an_engine_that_takes_nothing_or_complains_without_end_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = |script: &str| engine(folder.path(), script);
        let all = |out: &mut dyn Write| out.write_all(&vec![0; 1 << 20]);
        let short = Duration::from_millis(300);
        for script in ["exec sleep 60", "cat > /dev/null; exec sleep 60"] {
            let error = engine(script).load_within(short, all).expect_err("it ended");
            assert!(error.to_string().contains("has taken nothing for"), "{script}: {error}");
        }
        let loud = engine("cat > /dev/null; head -c 3000000 /dev/zero >&2; exit 1").load(all).expect_err("it took it");
        assert!(loud.to_string().len() < 70_000 * 4, "{} bytes", loud.to_string().len());
    }
}

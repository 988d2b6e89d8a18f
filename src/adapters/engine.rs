//! A container engine on this machine, Docker or podman: found, asked whether it answers, given images. Not
//! responsible for: containers (see `providers::docker`).

use std::io::{Read as _, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use crate::domain::model::{Classified, FaultClass};
use crate::system::environment::{self, Purpose};
use crate::system::process::{CommandError, output};

/// Timeout for an engine to answer.
const ANSWERS: Duration = Duration::from_secs(5);

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
        FaultClass::Unavailable
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
    /// [`EngineError::NoAnswer`].
    pub async fn version(&self) -> Result<String, EngineError> {
        let format = if self.name == "docker" { "{{.Server.Version}}" } else { "{{.Version}}" };
        let mut command = tokio::process::Command::from(environment::command(&self.program, Purpose::Engine));
        command.args(["version", "--format", format]);
        let first =
            |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
        let why = match output(command, ANSWERS).await {
            Ok(printed) => return Ok(first(&String::from_utf8_lossy(&printed))),
            Err(CommandError::Late(limit)) => format!("no answer within {} s", limit.as_secs()),
            Err(error) => first(&error.to_string()),
        };
        Err(EngineError::NoAnswer { name: self.name, why })
    }

    /// Streams an archive, which `write` writes, into the engine. Blocks. Returns what `write` returned.
    ///
    /// # Errors
    /// [`EngineError::Load`] if the engine does not take it.
    pub fn load<T>(&self, write: impl FnOnce(&mut dyn Write) -> T) -> Result<T, EngineError> {
        let refused = |why: String| EngineError::Load { name: self.name, why };
        let mut command = environment::command(&self.program, Purpose::Engine);
        command.arg("load").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| refused(error.to_string()))?;
        let stdin = child.stdin.take().expect("invariant: standard input is piped");
        let mut stderr = child.stderr.take().expect("invariant: standard error is piped");
        let words = std::thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.read_to_end(&mut words);
            String::from_utf8_lossy(&words).into_owned()
        });
        let written = written(stdin, write);
        let status = child.wait().map_err(|error| refused(error.to_string()))?;
        let words = words.join().unwrap_or_default();
        if status.success() { Ok(written) } else { Err(refused(cause(&words))) }
    }
}

/// Writes, and closes the pipe: the engine waits for its end.
fn written<T>(mut stdin: ChildStdin, write: impl FnOnce(&mut dyn Write) -> T) -> T {
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

    #[test]
    fn an_engine_is_given_the_stream_and_its_words_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = |script: &str| {
            let program = folder.path().join("docker");
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
            Engine { name: "docker", program }
        };
        let taken = folder.path().join("taken");
        let taking = engine(&format!("cat > {}", taken.display()));
        taking.load(|out| out.write_all(b"image")).expect("loaded").expect("written");
        assert_eq!(std::fs::read_to_string(&taken).expect("a file"), "image");
        let refusing = engine("echo 'no room here' >&2; echo 'load failed' >&2; exit 1");
        let error = refusing.load(|_| ()).expect_err("refused").to_string();
        assert!(error.contains("no room here; load failed"), "{error}");
    }
}

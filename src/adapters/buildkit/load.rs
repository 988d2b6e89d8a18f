//! Loads an image into Docker or podman. Not responsible for: choosing the image.

use std::path::PathBuf;
use std::process::Stdio;

use super::argv;
use super::binaries::on_path;
use super::daemon::Daemon;
use super::error::BuildkitError;
use super::scratch::{scratch, write_dockerfile};
use super::solve::Solver;
use crate::domain::base::Platform;
use crate::domain::ports::ImageSource;

/// A container engine that can load images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `docker` or `podman`.
    pub name: &'static str,
    /// Its program.
    pub program: PathBuf,
}

impl Engine {
    /// Docker, or podman if there is no Docker.
    ///
    /// # Errors
    /// [`BuildkitError::NoEngine`] if neither is on the PATH.
    pub fn find() -> Result<Self, BuildkitError> {
        let found = ["docker", "podman"].into_iter().find_map(|name| Some(Self { name, program: on_path(name)? }));
        found.ok_or(BuildkitError::NoEngine)
    }
}

/// Loads an image of this platform into Docker, or into podman if there is no Docker, under the name `reference`.
/// Returns the engine's name.
///
/// # Errors
/// As [`Engine::find`] and [`load_into`].
pub async fn load(
    daemon: &Daemon,
    image: &ImageSource,
    platform: &Platform,
    reference: &str,
) -> Result<&'static str, BuildkitError> {
    let engine = Engine::find()?;
    load_into(&engine, daemon, image, platform, reference).await.map(|()| engine.name)
}

/// Like [`load`], into this engine.
///
/// # Errors
/// [`BuildkitError::Command`] with the error of buildctl or of the engine.
pub async fn load_into(
    engine: &Engine,
    daemon: &Daemon,
    image: &ImageSource,
    platform: &Platform,
    reference: &str,
) -> Result<(), BuildkitError> {
    let Engine { name: engine, program } = engine;
    let failed = |command: &str, what: String, help: &str| BuildkitError::Command {
        command: command.to_owned(),
        what,
        help: help.to_owned(),
    };
    let space = "free space in the temporary folder, or point TMPDIR at another one";
    let folder = scratch().map_err(|fault| failed("mktemp", fault.message, space))?;
    write_dockerfile(folder.path(), "FROM img\n").map_err(|fault| failed("mktemp", fault.message, space))?;
    let mut args = argv::over_image(folder.path(), &platform.clone().into(), image);
    // Uncompressed: every version of both engines reads it, and through a pipe nothing is faster.
    let output = format!("type=docker,name={reference},compression=uncompressed,force-compression=true");
    args.extend(["--output".to_owned(), output]);
    args[1] = "--progress=plain".to_owned();

    let solver = Solver { buildctl: daemon.binaries().buildctl.clone(), address: daemon.address().to_owned() };
    let mut export = solver.command();
    export.args(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let doctor = "`lian-build doctor` shows what is missing";
    let spawned = |error: std::io::Error| failed("buildctl build", error.to_string(), doctor);
    let mut exporting = export.spawn().map_err(spawned)?;
    let stdout = exporting.stdout.take().expect("invariant: standard output is piped");
    let stream: Stdio = stdout.try_into().map_err(spawned)?;
    let mut import = tokio::process::Command::new(program);
    import.arg("load").stdin(stream).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let running = format!("is {engine} running, and may this user use it?");
    let command = format!("{engine} load");
    let importing = import.spawn().map_err(|error| failed(&command, error.to_string(), &running))?;
    // Drop our end of the pipe, so that buildctl notices when the engine stops reading.
    drop(import);
    let (exported, imported) = tokio::join!(exporting.wait_with_output(), importing.wait_with_output());
    let (exported, imported) = (exported.map_err(spawned)?, imported.map_err(spawned)?);
    if !imported.status.success() {
        return Err(failed(&command, last_line(&imported.stderr), &running));
    }
    if !exported.status.success() {
        return Err(failed("buildctl build", last_line(&exported.stderr), doctor));
    }
    Ok(())
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim().to_owned()
}

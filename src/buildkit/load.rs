//! Puts an image into Docker or podman. Refuses: choosing the image.

use std::process::Stdio;

use super::binaries::on_path;
use super::buildctl::scratch;
use super::daemon::Daemon;
use super::error::BuildkitError;
use super::solve::Solver;
use super::{argv, probe};
use crate::ports::ImageSource;

/// Streams an image of this platform into Docker, or podman where there is no Docker, under the name `reference`.
/// Returns which one took it.
///
/// # Errors
/// [`BuildkitError::NoEngine`], or [`BuildkitError::Command`] with what went wrong on either side of the stream.
pub async fn load(
    daemon: &Daemon,
    image: &ImageSource,
    platform: &str,
    reference: &str,
) -> Result<&'static str, BuildkitError> {
    let (engine, program) = ["docker", "podman"]
        .into_iter()
        .find_map(|name| Some((name, on_path(name)?)))
        .ok_or(BuildkitError::NoEngine)?;
    let failed = |command: &str, what: String, help: &str| BuildkitError::Command {
        command: command.to_owned(),
        what,
        help: help.to_owned(),
    };
    let space = "free space in the temporary folder, or point TMPDIR at another one";
    let folder = scratch().map_err(|fault| failed("mktemp", fault.message, space))?;
    probe::write(folder.path(), "FROM img\n").map_err(|fault| failed("mktemp", fault.message, space))?;
    let mut args = argv::over_image(folder.path(), platform, image);
    // Uncompressed: every version of either engine reads it, and through a pipe nothing is quicker.
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
    let running = format!("is {engine} running, and may this user speak to it?");
    let command = format!("{engine} load");
    let importing = import.spawn().map_err(|error| failed(&command, error.to_string(), &running))?;
    let (exported, imported) = tokio::join!(exporting.wait_with_output(), importing.wait_with_output());
    let (exported, imported) = (exported.map_err(spawned)?, imported.map_err(spawned)?);
    if !imported.status.success() {
        return Err(failed(&command, last_line(&imported.stderr), &running));
    }
    if !exported.status.success() {
        return Err(failed("buildctl build", last_line(&exported.stderr), doctor));
    }
    Ok(engine)
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word of why").trim().to_owned()
}

//! Streams selected files as a tar archive into a command that unpacks it. Not responsible for: that command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;

use super::super::contract::Progress;
use crate::system::environment::Purpose;
use crate::system::exec::{Output, Process};
use crate::system::process::owned_command;

/// Packs these files and folders (paths relative to `from`) and pipes the archive into `unpack`.
///
/// # Errors
/// The message of the side that failed.
pub(super) async fn copy(
    from: &Path,
    files: &[OsString],
    mut unpack: Command,
    sent: Progress<'_>,
) -> Result<(), String> {
    let mut pack = owned_command("tar", Purpose::Local);
    pack.args(["--create", "--file=-", "--directory"]).arg(from);
    pack.args(["--mode=u=rwX,go=rX,a-st", "--null", "--no-recursion", "--files-from=-"]);
    let (mut packing, mut unpacking) = (spawned(&mut pack, "tar")?, spawned(&mut unpack, "docker")?);
    // Prefix each name with `./`, because a name that begins with `-` would be an option.
    let list: Vec<u8> = files.iter().flat_map(|file| [b"./", file.as_bytes(), b"\0"].concat()).collect();
    let archive = std::mem::replace(&mut packing.stdout, Box::new(tokio::io::empty()));
    let sink = std::mem::replace(&mut unpacking.stdin, Box::new(tokio::io::sink()));
    let (packed, unpacked, ()) = tokio::join!(packing.finish(&list), unpacking.finish(b""), pour(archive, sink, sent));
    // If unpacking ends early, SIGPIPE ends the packing side, which then has no exit code.
    if let Ok(packed) = &packed {
        judged(packed)?;
    }
    judged(&unpacked?)?;
    packed.map(drop)
}

fn spawned(command: &mut Command, name: &str) -> Result<Process, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map(Process::of).map_err(|error| format!("{name} cannot be run: {error}"))
}

fn judged(output: &Output) -> Result<(), String> {
    if output.code == 0 { Ok(()) } else { Err(output.stderr.trim().to_owned()) }
}

/// If one side ends early, its exit code says why.
async fn pour(mut archive: impl AsyncRead + Unpin, mut sink: impl AsyncWrite + Unpin, sent: Progress<'_>) {
    let (mut piece, mut bytes) = (vec![0; 256 << 10], 0);
    while let Ok(count @ 1..) = archive.read(&mut piece).await {
        if sink.write_all(&piece[..count]).await.is_err() {
            return;
        }
        bytes += count as u64;
        sent(bytes);
    }
    let _ = sink.shutdown().await;
}

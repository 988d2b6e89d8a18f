//! Copies files to a host with rsync over the existing connection. Not responsible for: choosing the files.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::super::contract::Progress;
use super::connection::SshConnection;
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::system::environment::Purpose;
use crate::system::process::{owned_command, stderr_text};
use crate::system::words::cause;

/// Minimum interval between progress reports.
const REPORT: Duration = Duration::from_millis(100);
/// Seconds after which a transfer that moves nothing is broken.
const SILENCE: u32 = 25;
/// Lines of rsync that only sum up.
const SUMMARIES: [&str; 3] = ["rsync error: ", "connection unexpectedly closed", "[sender] io timeout"];
/// Maximum number of resumes after a transfer breaks while the connection is alive.
const TRIES: u32 = 3;

impl SshConnection {
    /// Copies files and folders (paths relative to `from`) below a folder of the host. Files are written in place, so
    /// that a broken transfer resumes and leaves no temporary files in the build context.
    pub(super) async fn rsync(
        &self,
        from: &Path,
        files: &[OsString],
        to: &str,
        sent: Progress<'_>,
    ) -> Result<(), Fault> {
        let mut tried = 1;
        loop {
            let (code, words) = run(self.rsync_command(from, to), files, sent).await?;
            if code == 0 {
                return Ok(());
            }
            let fault = self.rsync_fault(code, &words);
            if fault.class() != FaultClass::Infrastructure || tried >= TRIES || !self.stands().await {
                return Err(fault);
            }
            tracing::debug!(code, words, "rsync is tried again");
            tried += 1;
        }
    }

    fn rsync_command(&self, from: &Path, to: &str) -> Command {
        let shell: Vec<String> = self.ssh().iter().map(|word| format!("\"{word}\"")).collect();
        let mut command = owned_command("rsync", Purpose::Ssh);
        command.args(["-lpt", "--from0", "--files-from=-", "--inplace", "--no-h"]);
        command.arg(format!("--timeout={SILENCE}"));
        command.arg("--chmod=Du=rwx,Dgo=rx,Fu=rwX,Fgo=rX,a-st").arg("--info=progress2,stats1");
        command.arg("-e").arg(shell.join(" ")).arg(from.join("")).arg(format!("runner:{to}/"));
        command
    }

    /// The fault of a failed transfer.
    fn rsync_fault(&self, code: i32, words: &str) -> Fault {
        let cause = cause(words, &SUMMARIES).unwrap_or_else(|| "it gave no reason".to_owned());
        let (kind, id, what, help) = if words.contains("No space left on device") {
            let help = "give the layer a runner with a larger disk, or leave files out with .dockerignore";
            (FaultKind::Unavailable, "lian::remote::disk_full", "has no space left for the context", help)
        } else if code == 127 || words.contains("rsync: command not found") || words.contains("rsync: not found") {
            let help = "install rsync there, or set `runners.context_transfer = 'session`";
            (FaultKind::Unavailable, "lian::remote::no_rsync", "has no rsync", help)
        } else if words.contains("is your shell clean") || words.contains("protocol version mismatch") {
            let help = "let the user's shell there print nothing without a terminal (.bashrc, .cshrc, config.fish), or set \
                        `runners.context_transfer = 'session`";
            (FaultKind::Unavailable, "lian::remote::noisy_shell", "prints text at login, which rsync cannot read", help)
        } else {
            let help = "if this keeps happening, check the network between here and the runner";
            (FaultKind::Infrastructure, "lian::remote::transfer", "did not take the whole context", help)
        };
        let mut fault = Fault::new(kind, id, format!("{} {what}", self.name));
        fault.evidence = Some(format!("rsync ended with {code}: {cause}"));
        fault.help(help)
    }
}

/// Runs rsync to its end; returns its exit code and standard error.
async fn run(mut command: Command, files: &[OsString], sent: Progress<'_>) -> Result<(i32, String), Fault> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| not_here(&error))?;
    let mut stdin = child.stdin.take().expect("invariant: standard input is piped");
    let stdout = child.stdout.take().expect("invariant: standard output is piped");
    let stderr = child.stderr.take().expect("invariant: standard error is piped");
    let list = listed(files);
    let feed = async move {
        // If rsync ended early, its exit code says why.
        let _ = stdin.write_all(&list).await;
        drop(stdin);
    };
    let ((), last, words) = tokio::join!(feed, report(stdout, sent), stderr_text(stderr));
    if let Some(sent) = last.lines().find(|line| line.starts_with("sent ")) {
        tracing::debug!("rsync {sent}");
    }
    let status = child.wait().await.map_err(|error| not_here(&error))?;
    Ok((status.code().unwrap_or(-1), words.trim().to_owned()))
}

/// Reports progress until rsync closes its output; returns the last part of the output.
async fn report(mut stdout: impl AsyncRead + Unpin, sent: Progress<'_>) -> String {
    let (mut piece, mut last, mut reported) = ([0; 4096], Vec::new(), None);
    while let Ok(count @ 1..) = stdout.read(&mut piece).await {
        // A line may arrive in two pieces.
        last.drain(..last.len().saturating_sub(piece.len()));
        last.extend_from_slice(&piece[..count]);
        // Limit the rate, because rsync reports after every file.
        let due = reported.is_none_or(|reported: Instant| reported.elapsed() >= REPORT);
        if let Some(bytes) = so_far(&String::from_utf8_lossy(&last)).filter(|_| due) {
            reported = Some(Instant::now());
            sent(bytes);
        }
    }
    String::from_utf8_lossy(&last).into_owned()
}

/// rsync's file list. Each name begins with `./`, because a name that begins with `#` or `;` would be a comment.
fn listed(files: &[OsString]) -> Vec<u8> {
    let name = |file: &OsString| [b"./", file.as_bytes(), b"\0"].concat();
    files.iter().flat_map(name).collect()
}

/// The bytes in a line of `--info=progress2`, e.g. `      1,234,567  45%  …`; the last line wins.
fn so_far(piece: &str) -> Option<u64> {
    let line = piece.rsplit(['\r', '\n']).find(|line| line.contains('%'))?;
    line.split_whitespace().next()?.replace([',', '.'], "").parse().ok()
}

fn not_here(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::remote::no_rsync", format!("rsync cannot be run here: {error}"))
        .help("install rsync on this machine, or set `runners.context_transfer = 'session`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rsync_says_of_its_progress() {
        assert_eq!(so_far("\r      1,234,567  45%    1.20MB/s    0:00:01"), Some(1_234_567));
        assert_eq!(so_far("\r  10  1%  x\r  20  2%  x\r"), Some(20));
        assert_eq!(so_far("sending incremental file list"), None);
    }

    #[test]
    fn no_name_is_a_comment() {
        assert_eq!(listed(&["#a".into(), ";b".into(), "c d".into()]), b"./#a\0./;b\0./c d\0");
    }
}

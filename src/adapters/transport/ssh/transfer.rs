//! Bringing files to a runner: a context by rsync, small private files over the connection itself. Not responsible for: choosing them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::link::Link;
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::system::process::{CommandExt as _, Signal};
use crate::system::shell::quoted;

/// How often bytes are told of at most.
const TELL: Duration = Duration::from_millis(100);
/// Bytes of a file that goes in one piece with others.
const SMALL: usize = 64 << 10;
/// A transfer that breaks while the connection stands goes on where it was, so often.
const TRIES: u32 = 3;

impl Link {
    /// Copies these files and folders (paths relative to `from`) to the same places below a folder of the runner, with
    /// modes and times, without owners. What is there already and is the same is not sent again. `moved` is told the
    /// bytes so far. Files are written in place: a broken transfer goes on in them, and leaves no file beside them that
    /// the build would see.
    ///
    /// # Errors
    /// `lian::remote::transfer`, `lian::remote::disk_full`, `lian::remote::no_rsync`, `lian::remote::link_lost`.
    pub async fn bring(
        &self,
        from: &Path,
        files: &[OsString],
        to: &str,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Fault> {
        let mut tried = 1;
        loop {
            let (code, words) = self.rsync(from, files, to, moved).await?;
            if code == 0 {
                return Ok(());
            }
            let fault = self.judged(code, &words);
            if fault.class() != FaultClass::Infrastructure || tried >= TRIES || !self.stands().await {
                return Err(fault);
            }
            tracing::debug!(code, words, "rsync is tried again");
            tried += 1;
        }
    }

    async fn rsync(
        &self,
        from: &Path,
        files: &[OsString],
        to: &str,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(i32, String), Fault> {
        let shell: Vec<String> = self.ssh().iter().map(|word| format!("\"{word}\"")).collect();
        let mut command = Command::new("rsync");
        command.args(["-lpt", "--from0", "--files-from=-", "--inplace", "--timeout=60", "--no-h"]);
        command.arg("--info=progress2,stats1");
        command.arg("-e").arg(shell.join(" ")).arg(from.join("")).arg(format!("runner:{to}/"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.end_with_parent(Signal::KILL);
        let mut child = command.spawn().map_err(|error| not_here(&error))?;
        let mut stdin = child.stdin.take().expect("invariant: standard input is piped");
        let mut stdout = child.stdout.take().expect("invariant: standard output is piped");
        let mut stderr = child.stderr.take().expect("invariant: standard error is piped");
        let list = listed(files);
        let feed = async move {
            // Where rsync ended early, its exit code says why.
            let _ = stdin.write_all(&list).await;
            drop(stdin);
        };
        let watch = async {
            let (mut piece, mut last, mut told) = ([0; 4096], Vec::new(), None);
            while let Ok(count @ 1..) = stdout.read(&mut piece).await {
                // What it says last may come in two pieces.
                last.drain(..last.len().saturating_sub(piece.len()));
                last.extend_from_slice(&piece[..count]);
                // rsync tells of every file: nobody reads a thousand numbers a second.
                let due = told.is_none_or(|told: Instant| told.elapsed() >= TELL);
                if let Some(bytes) = so_far(&String::from_utf8_lossy(&last)).filter(|_| due) {
                    told = Some(Instant::now());
                    moved(bytes);
                }
            }
            String::from_utf8_lossy(&last).into_owned()
        };
        let mut words = String::new();
        let ((), last, _) = tokio::join!(feed, watch, stderr.read_to_string(&mut words));
        if let Some(sent) = last.lines().find(|line| line.starts_with("sent ")) {
            tracing::debug!("rsync {sent}");
        }
        let status = child.wait().await.map_err(|error| not_here(&error))?;
        Ok((status.code().unwrap_or(-1), words.trim().to_owned()))
    }

    /// What a failed transfer means.
    fn judged(&self, code: i32, words: &str) -> Fault {
        let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("rsync ended without a word");
        let (kind, id, what, help) = if words.contains("No space left on device") {
            let help = "give the layer a runner with a larger disk, or leave files out with .dockerignore";
            (FaultKind::Unavailable, "lian::remote::disk_full", "has no space left for the context", help)
        } else if code == 127 || words.contains("rsync: command not found") || words.contains("rsync: not found") {
            let help = "install rsync there, or set `runners.context_transfer = 'session`";
            (FaultKind::Unavailable, "lian::remote::no_rsync", "has no rsync", help)
        } else {
            let help = "should it happen again and again, look at the network between here and the runner";
            (FaultKind::Infrastructure, "lian::remote::transfer", "did not take the whole context", help)
        };
        let mut fault = Fault::new(kind, id, format!("{} {what}", self.name()));
        fault.evidence = Some(format!("rsync ended with {code}: {last}"));
        fault.help(help)
    }

    /// Writes a small file that only its owner may read, making its folder, which only its owner may enter.
    ///
    /// # Errors
    /// `lian::remote::transfer`; `lian::remote::link_lost`.
    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<(), Fault> {
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        let (folder, file) = (quoted(folder), quoted(path));
        let script = format!("umask 077 && mkdir -p {folder} && cat >{file}");
        let ran = self.run_with(&script, bytes).await?;
        if ran.code == 0 { Ok(()) } else { Err(self.refuses("a file", &format!("{path}: {}", ran.stderr.trim()))) }
    }

    /// [`Link::put`] for several small files at once.
    ///
    /// # Errors
    /// As [`Link::put`].
    pub async fn put_all(&self, files: &[(String, Vec<u8>)]) -> Result<(), Fault> {
        let mut script = "umask 077; set -e".to_owned();
        let mut lines = String::new();
        for (path, bytes) in files {
            if bytes.len() > SMALL {
                self.put(path, bytes).await?;
                continue;
            }
            // A shell reads a line and not a byte more; what it reads is in no argument.
            let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
            let (folder, file) = (quoted(folder), quoted(path));
            script.push_str(&format!("; mkdir -p {folder}; IFS= read -r l; printf %s \"$l\" | base64 -d >{file}"));
            lines.push_str(&base64::engine::general_purpose::STANDARD.encode(bytes));
            lines.push('\n');
        }
        let ran = self.run_with(&script, lines.as_bytes()).await?;
        if ran.code == 0 { Ok(()) } else { Err(self.refuses("a file", ran.stderr.trim())) }
    }

    /// Makes a folder where there is none.
    ///
    /// # Errors
    /// `lian::remote::transfer`; `lian::remote::link_lost`.
    pub async fn make(&self, folder: &str) -> Result<(), Fault> {
        let ran = self.run(&format!("mkdir -p {}", quoted(folder))).await?;
        if ran.code == 0 { Ok(()) } else { Err(self.refuses("a folder", ran.stderr.trim())) }
    }

    /// Makes a folder empty.
    ///
    /// # Errors
    /// As [`Link::make`].
    pub async fn empty(&self, folder: &str) -> Result<(), Fault> {
        let folder = quoted(folder);
        let ran = self.run(&format!("mkdir -p {folder} && find {folder} -mindepth 1 -delete")).await?;
        if ran.code == 0 { Ok(()) } else { Err(self.refuses("to empty a folder", ran.stderr.trim())) }
    }

    fn refuses(&self, what: &str, evidence: &str) -> Fault {
        let message = format!("{} refuses {what}", self.name());
        let mut fault = Fault::new(FaultKind::Infrastructure, "lian::remote::transfer", message);
        fault.evidence = Some(evidence.to_owned());
        fault.help("see whether its disk is full, and whether the user may write there")
    }
}

/// What rsync reads: each name with `./` before it, for a name that begins with `#` or `;` would be a comment.
fn listed(files: &[OsString]) -> Vec<u8> {
    let name = |file: &OsString| [b"./", file.as_bytes(), b"\0"].concat();
    files.iter().flat_map(name).collect()
}

/// The bytes in a line of `--info=progress2`, e.g. `      1,234,567  45%  …`; the last line counts.
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

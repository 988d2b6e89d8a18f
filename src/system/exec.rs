//! Runs shell scripts somewhere (on a host over SSH, in a container) as processes with three streams. Not responsible
//! for: where they run, and how that place is reached.

use std::pin::Pin;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::domain::model::Fault;

/// Maximum bytes to keep of each output stream. The rest is read and dropped, because an untrusted host must not fill
/// our memory.
const KEPT: u64 = 1 << 20;

/// Resolves to the exit code, or the reason why there is none.
pub type End = Pin<Box<dyn Future<Output = Result<i32, String>> + Send>>;

/// A running script.
pub struct Process {
    /// Its standard input. Dropping it tells the script that this side is gone.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Its exit. The future owns the process: dropping it ends the local process.
    pub end: End,
}

/// The result of a script that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// The beginning of its standard output.
    pub stdout: String,
    /// The beginning of its standard error.
    pub stderr: String,
}

/// Runs scripts for a POSIX shell.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Starts a script.
    async fn start(&self, script: &str) -> Result<Process, Fault>;

    /// Starts a script with access to this user's ssh agent.
    async fn start_with_agent(&self, script: &str) -> Result<Process, Fault>;
}

impl Process {
    /// Wraps a local child whose streams are all piped.
    pub fn of(mut child: tokio::process::Child) -> Self {
        let stdin = child.stdin.take().expect("invariant: standard input is piped");
        let stdout = child.stdout.take().expect("invariant: standard output is piped");
        let stderr = child.stderr.take().expect("invariant: standard error is piped");
        let end = async move {
            let status = child.wait().await.map_err(|error| error.to_string())?;
            status.code().ok_or_else(|| status.to_string())
        };
        Self { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr), end: Box::pin(end) }
    }

    /// Writes this input and waits for the exit.
    ///
    /// # Errors
    /// The reason why there is no exit code.
    pub async fn finish(self, input: &[u8]) -> Result<Output, String> {
        let Self { mut stdin, stdout, stderr, end } = self;
        let feed = async move {
            // If the script ended early, its exit code says why.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        };
        let ((), stdout, stderr, code) = tokio::join!(feed, beginning(stdout), beginning(stderr), end);
        Ok(Output { code: code?, stdout, stderr })
    }
}

async fn beginning(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    // If a stream breaks, the exit says why.
    let _ = (&mut stream).take(KEPT).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    async fn finish(script: &str, input: &[u8]) -> Result<Output, String> {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process::of(command.spawn().expect("a shell")).finish(input).await
    }

    #[tokio::test]
    async fn a_script_is_given_its_input_and_told_by_its_output_and_code() {
        let output = finish("cat; echo words >&2; exit 3", b"input").await;
        assert_eq!(output, Ok(Output { code: 3, stdout: "input".into(), stderr: "words\n".into() }));
        // The script does not read its input, which is larger than a pipe's buffer.
        assert_eq!(finish("exit 4", &[b'x'; 1 << 20]).await.map(|output| output.code), Ok(4));
        assert!(finish("kill -9 $$", b"").await.is_err_and(|why| why.contains('9')));
    }

    #[tokio::test]
    async fn endless_output_does_not_fill_the_memory() {
        let output = finish("head -c 3000000 /dev/zero", b"").await.expect("it ends");
        assert_eq!((output.code, output.stdout.len() as u64), (0, KEPT));
    }
}

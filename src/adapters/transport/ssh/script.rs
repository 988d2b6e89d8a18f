//! Puts a script into a command line that every login shell runs alike, and tells the script's own output from what the
//! login shell prints before it. Not responsible for: starting it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The script's output begins after this line.
const MARK: &[u8] = b"lian-build: the script begins\n";
/// The most bytes that are kept of what a shell prints before, or in place of, the script's output.
const KEPT: usize = 4096;

/// The script as a command for any login shell: sh, csh, fish, nu. None of them reads a quote, a backslash, a `!` or the
/// end of a line in quotes as sh does, so these travel as numbers. `exec` makes the session's sshd its parent.
pub(super) fn command_line(script: &str) -> String {
    let mark = String::from_utf8_lossy(MARK);
    let whole = format!("echo \"{}\"; {script}", mark.trim_end());
    let mut told = String::with_capacity(whole.len());
    for c in whole.chars() {
        match c {
            '\'' | '\\' | '!' | '\n' => told.push_str(&format!("\\0{:03o}", u32::from(c))),
            c => told.push(c),
        }
    }
    format!("exec sh -c 'eval \"$(printf %b \"$0\")\"' '{told}'")
}

/// The output of a script from its mark on. Without a mark it is what was printed instead, as far as it is kept: why the
/// script was not run.
pub(super) struct Marked<R> {
    inner: R,
    state: State,
}

enum State {
    /// Printed so far, without the mark.
    Before(Vec<u8>),
    /// Read already, and not yet handed on.
    After(Vec<u8>),
}

impl<R> Marked<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, state: State::Before(Vec::new()) }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Marked<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::After(left) if left.is_empty() => return Pin::new(&mut this.inner).poll_read(cx, out),
                State::After(left) => {
                    let count = left.len().min(out.remaining());
                    out.put_slice(&left[..count]);
                    left.drain(..count);
                    return Poll::Ready(Ok(()));
                }
                State::Before(seen) => {
                    let mut piece = [0; 4096];
                    let mut read = ReadBuf::new(&mut piece);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
                    if read.filled().is_empty() {
                        // Its end: nothing was marked.
                        this.state = State::After(std::mem::take(seen));
                        continue;
                    }
                    seen.extend_from_slice(read.filled());
                    if let Some(at) = seen.windows(MARK.len()).position(|window| window == MARK) {
                        this.state = State::After(seen.split_off(at + MARK.len()));
                        // An empty rest is the state of all that follows.
                        continue;
                    }
                    // The end may be the beginning of the mark; of all else the beginning tells most.
                    if seen.len() > 2 * KEPT {
                        seen.drain(KEPT..seen.len() - MARK.len());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    const ODD: &str = "x='it'\\''s'; printf '%s|%s\\n' \"$x\" \"a!b \\\\ \\$HOME 100% ä\"\n# a line\necho end";

    #[test]
    fn every_login_shell_runs_the_same_script() {
        let expected = format!("{}it's|a!b \\ $HOME 100% ä\nend\n", String::from_utf8_lossy(MARK));
        // Those of other kinds are tried on a host (`tests/it/odd_hosts.rs`).
        for shell in ["sh", "bash"] {
            let output = Command::new(shell).args(["-c", &command_line(ODD)]).output().expect("a shell");
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{shell}: {words}");
        }
    }

    async fn read(pieces: &[&[u8]]) -> String {
        let mut text = String::new();
        Marked::new(piece_by_piece(pieces)).read_to_string(&mut text).await.expect("text");
        text
    }

    /// Hands out one piece a read.
    fn piece_by_piece(pieces: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        struct Pieces(std::collections::VecDeque<Vec<u8>>);
        impl AsyncRead for Pieces {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                if let Some(piece) = self.0.pop_front() {
                    out.put_slice(&piece);
                }
                Poll::Ready(Ok(()))
            }
        }
        Pieces(pieces.iter().map(|piece| piece.to_vec()).collect())
    }

    #[tokio::test]
    async fn what_a_login_shell_prints_before_is_no_output_of_the_script() {
        let marked = |before: &str, after: &str| [before.as_bytes(), MARK, after.as_bytes()].concat();
        assert_eq!(read(&[&marked("", "free\n")]).await, "free\n");
        assert_eq!(read(&[&marked("Welcome!\nlian-build: the", "held\n")]).await, "held\n");
        // The mark comes in two pieces, behind more than is kept.
        let whole = marked(&"motd\n".repeat(9000), "rest");
        let (one, two) = whole.split_at(whole.len() - 15);
        let mut pieces: Vec<&[u8]> = one.chunks(1000).collect();
        pieces.push(two);
        assert_eq!(read(&pieces).await, "rest");
        assert_eq!(read(&[&marked("", "")]).await, "");
        // Nothing was run: what was said instead is the reason.
        let refusal = "This account is currently not available.\n";
        assert_eq!(read(&[refusal.as_bytes()]).await, refusal);
        let endless: Vec<&[u8]> = vec![b"noise"; 100_000];
        assert!(read(&endless).await.len() <= 2 * KEPT + 4096);
    }
}

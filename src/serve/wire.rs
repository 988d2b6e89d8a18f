//! The bytes of a connection: notes when a head begins, and turns the bare refusals that hyper writes by itself (a head
//! that is no HTTP, or too long) into problems. Not responsible for: what a request means.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem::Problem;
use super::seats::Seat;

/// A connection with its seat.
pub(super) struct Wire<S> {
    stream: S,
    seat: Arc<Seat>,
    /// What is written in place of hyper's own answer.
    instead: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S, seat: Arc<Seat>) -> Self {
        Self { stream, seat, instead: Vec::new() }
    }

    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The problem in place of an answer that hyper made by itself: only those have no body.
fn of_hyper(bytes: &[u8]) -> Option<Problem> {
    let head = std::str::from_utf8(bytes).ok()?.strip_prefix("HTTP/1.")?.get(2..)?;
    let status = head.get(..3)?;
    if !head.contains("content-length: 0\r\n") || !head.ends_with("\r\n\r\n") {
        return None;
    }
    let (status, code, message) = match status {
        "400" => (400, "malformed", "the request is not HTTP/1.1"),
        "414" => (414, "too_long", "the request's address is too long"),
        "431" => (431, "too_long", "the request's head is too long"),
        _ => return None,
    };
    Some(Problem::new(status, code, message, "/api/v1/openapi.json describes the requests"))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.seat.heard();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        ready!(self.poll_instead(context))?;
        let Some(problem) = of_hyper(bytes) else { return Pin::new(&mut self.stream).poll_write(context, bytes) };
        self.instead = problem.raw();
        // The rest follows when it is flushed.
        if let Poll::Ready(Err(error)) = self.poll_instead(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! Streams a file as a request body. Not responsible for: bodies in memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::system::read::open_no_link;

/// Bytes per read. Small, so that a slow connection is seen to go on.
const CHUNK: usize = 64 * 1024;
/// Chunks to read ahead of the connection.
const AHEAD: usize = 8;

/// The content of a file.
pub(super) struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl FileBody {
    /// The first `size` bytes of a file, and a counter of the bytes passed to the connection so far. A blocking
    /// thread reads them; it ends when this body is dropped.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<(Self, Arc<AtomicU64>)> {
        // What the registry gets it compares with the digest itself.
        let mut file = open_no_link(path)?;
        let (sender, chunks) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut left = size;
            while left > 0 {
                let chunk = read_chunk(&mut file, left);
                left -= chunk.as_ref().map_or(left, |chunk| chunk.len() as u64);
                // The receiver is dropped if the request ends early; the rest is not needed.
                if sender.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        let sent = Arc::new(AtomicU64::new(0));
        Ok((Self { chunks, left: size, sent: Arc::clone(&sent) }, sent))
    }
}

/// Reads the next bytes: at least one, at most `left`.
fn read_chunk(file: &mut File, left: u64) -> io::Result<Bytes> {
    let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    let mut chunk = vec![0; wanted];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                chunk.truncate(read);
                return Ok(Bytes::from(chunk));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        // The reader stops early only on an error.
        let chunk =
            ready!(self.chunks.poll_recv(context)).unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
        let read = chunk.len() as u64;
        self.left = self.left.saturating_sub(read);
        self.sent.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

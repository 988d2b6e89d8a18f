//! A file as the body of a request, read as it is sent. Not responsible for: holding it whole in memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// So much is read at once.
const CHUNK: usize = 256 * 1024;

/// The content of a file.
pub(super) struct FileBody {
    file: File,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl FileBody {
    /// The first `size` bytes of a file, and a count of how many have gone.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<(Self, Arc<AtomicU64>)> {
        let sent = Arc::new(AtomicU64::new(0));
        Ok((Self { file: File::open(path)?, left: size, sent: Arc::clone(&sent) }, sent))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    /// Reads from a local disk, on a runtime that does nothing else: there is nobody to be held up.
    fn poll_frame(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; wanted];
        let read = loop {
            match self.file.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        Poll::Ready(Some(match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                chunk.truncate(read);
                let read = read as u64;
                self.left = self.left.saturating_sub(read);
                self.sent.fetch_add(read, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from(chunk)))
            }
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

//! Hashes many files in parallel. It never holds a whole file in memory and never follows a link.

use std::io::Read;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::progress::Progress;
use crate::domain::base::{Digest, Hasher};
use crate::domain::ports::ContextError;
use crate::system::read;

const BUFFER: usize = 128 * 1024;
/// Fewer files than this are hashed on this thread: starting a thread costs as much as a few small files.
const FEW: usize = 24;

/// The digest and length of each file, in the given order; or the first error in that order.
pub(super) fn files<P: AsRef<Path> + Sync>(
    paths: &[P],
    progress: &Progress,
) -> Result<Vec<(Digest, u64)>, ContextError> {
    let workers = thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 8);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; BUFFER];
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(at) else { return done };
            done.push((at, file(path.as_ref(), &mut buffer, progress)));
        }
    };
    let mut done = if paths.len() < FEW {
        work()
    } else {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("invariant: hashing does not panic"));
            joined.flatten().collect()
        })
    };
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn file(path: &Path, buffer: &mut [u8], progress: &Progress) -> Result<(Digest, u64), ContextError> {
    let unreadable = |source| ContextError::Unreadable { path: path.to_owned(), source };
    // It must not be a link or a pipe that replaced the file after the walk saw it.
    let mut file = read::open_no_link(path).map_err(unreadable)?;
    let mut hasher = Hasher::default();
    let mut length = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok((hasher.finish(), length)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
                progress.read(path, count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
}

//! Writing to a stream that another process may have made non-blocking: whoever shares a terminal or a pipe with this
//! process shares that setting, too. Not responsible for: what a failure means.

use std::io::Write;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A stream whose writes wait until its reader takes something.
pub struct Patient<F>(pub F);

impl<F: AsFd> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                Err(Errno::AGAIN) => {
                    let mut ready = [PollFd::new(&self.0, PollFlags::OUT)];
                    match poll(&mut ready, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    #[test]
    fn a_stream_that_was_made_non_blocking_loses_nothing() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        fcntl_setfl(&writer, fcntl_getfl(&writer).expect("flags") | OFlags::NONBLOCK).expect("flags");
        // More than any pipe holds.
        let text = vec![b'x'; 4 << 20];
        let sent = text.clone();
        let sending = std::thread::spawn(move || Patient(writer).write_all(&sent));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("readable");
        sending.join().expect("it ends").expect("all is written");
        assert!(read == text, "{} of {} bytes came", read.len(), text.len());
    }
}

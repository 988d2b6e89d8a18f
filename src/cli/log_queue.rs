//! A service's log, which waits for no reader: a thread of its own writes the lines, and what does not fit before it is left
//! out and counted. Not responsible for: how lines look (see `log_lines`).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait for whoever reads them.
const LINES: usize = 10_000;
/// How long the last lines are waited for.
const LAST: Duration = Duration::from_secs(2);

enum Entry {
    Line(Vec<u8>),
    End,
}

/// Takes lines; each write is one.
#[derive(Clone)]
pub struct LogQueue {
    lines: SyncSender<Entry>,
    left_out: Arc<AtomicU64>,
}

/// Ends the log: what is queued is written, if somebody takes it.
pub struct LogEnd {
    lines: SyncSender<Entry>,
    ended: Receiver<()>,
}

/// A log whose lines a thread writes to `out`.
pub fn queue(mut out: impl Write + Send + 'static) -> (LogQueue, LogEnd) {
    let (lines, queued) = sync_channel(LINES);
    let (over, ended) = sync_channel(1);
    let left_out = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&left_out);
    std::thread::spawn(move || {
        while let Ok(Entry::Line(line)) = queued.recv() {
            let _ = out.write_all(&line);
            let lines = counted.swap(0, Ordering::Relaxed);
            if lines > 0 {
                // It is queued like the others, in their look.
                tracing::warn!(lines, "nobody read the log: lines are left out");
            }
        }
        let _ = over.try_send(());
    });
    (LogQueue { lines: lines.clone(), left_out }, LogEnd { lines, ended })
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.lines.try_send(Entry::Line(line.to_vec())).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogEnd {
    fn drop(&mut self) {
        // A queue that is full has no reader.
        if self.lines.try_send(Entry::End).is_ok() {
            let _ = self.ended.recv_timeout(LAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that it has a line, and takes it when it may.
    struct Slow {
        has: SyncSender<Vec<u8>>,
        may: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.has.send(line.to_vec());
            let _ = self.may.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_in_order_and_those_that_nobody_takes_hold_up_nobody() {
        let (has, lines) = sync_channel(0);
        let (permit, may) = sync_channel(LINES + 1);
        let (mut log, end) = queue(Slow { has, may });
        let mut write = |number: usize| log.write_all(number.to_string().as_bytes()).expect("it takes all");
        write(0);
        assert_eq!(lines.recv().expect("a line"), b"0");
        // The thread holds one, and as many as fit wait behind it.
        (1..=LINES + 100).for_each(&mut write);
        assert_eq!(log.left_out.load(Ordering::Relaxed), 100);
        for number in 1..=LINES {
            permit.send(()).expect("it waits");
            assert_eq!(lines.recv().expect("a line"), number.to_string().as_bytes());
        }
        permit.send(()).expect("it waits");
        drop(end);
        assert!(lines.recv().is_err(), "the thread goes on");
        assert_eq!(log.left_out.load(Ordering::Relaxed), 0, "they are told");
    }
}

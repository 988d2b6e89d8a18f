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

    /// Takes lines only when it may.
    struct Slow(Receiver<()>, SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_in_order_and_those_that_nobody_takes_hold_up_nobody() {
        let (may, wait) = sync_channel(LINES * 2);
        let (taken, lines) = sync_channel(LINES * 2);
        let (mut log, end) = queue(Slow(wait, taken));
        for number in 0..LINES + 100 {
            log.write_all(number.to_string().as_bytes()).expect("it takes all");
        }
        // The thread itself holds one at most.
        assert!((99..=100).contains(&log.left_out.load(Ordering::Relaxed)));
        (0..LINES + 1).for_each(|_| may.send(()).expect("it waits"));
        let first: Vec<Vec<u8>> = lines.iter().take(100).collect();
        assert!(first.iter().enumerate().all(|(number, line)| line == number.to_string().as_bytes()));
        drop((may, end));
        assert_eq!(lines.iter().count() + 100, LINES + usize::from(log.left_out.load(Ordering::Relaxed) < 100));
    }
}

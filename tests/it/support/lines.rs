//! Waiting for a line of a running command. Not responsible for: sleeping.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};

/// A running command whose output was read up to the line that was waited for.
pub struct Reading<'a> {
    child: &'a mut Child,
    output: BufReader<ChildStdout>,
    read: String,
}

/// Reads the child's standard output until a line is the one waited for.
#[track_caller]
pub fn read_until(child: &mut Child, wanted: impl Fn(&str) -> bool) -> Reading<'_> {
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut read = String::new();
    loop {
        let mut line = String::new();
        let count = output.read_line(&mut line).expect("readable");
        assert!(count > 0, "it ended before the line came:\n{read}");
        read.push_str(&line);
        if wanted(&line) {
            return Reading { child, output, read };
        }
    }
}

impl Reading<'_> {
    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads on until another line comes, and says which.
    #[track_caller]
    pub fn read_on(mut self, wanted: impl Fn(&str) -> bool) -> (Self, String) {
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).expect("readable");
            assert!(count > 0, "it ended before the line came:\n{}", self.read);
            self.read.push_str(&line);
            if wanted(&line) {
                return (self, line);
            }
        }
    }

    /// Reads on to the end: the exit code (-1 where a signal ended it) and all that was written.
    pub fn drain(mut self) -> (i32, String) {
        std::io::Read::read_to_string(&mut self.output, &mut self.read).expect("readable");
        let status = self.child.wait().expect("waited for");
        (status.code().unwrap_or(-1), self.read)
    }
}

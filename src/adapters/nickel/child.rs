//! The evaluating process: sets its limits, reads a request, evaluates file after file and answers line by line. If a
//! file kills it, its parent starts another one.

use std::io::{self, BufWriter, Read as _, Write as _};
use std::process::ExitCode;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::interpreter::Interpreter;
use super::protocol::{BatchRequest, Line};
use super::schemas::Schemas;
use crate::system::bug;

/// The hidden subcommand with which lian-build starts itself.
pub(super) const SUBCOMMAND: &str = "__evaluate";

/// The exit code of a child that could not read its request.
const MISUSED: u8 = 64;

/// Whether this process is an evaluating child.
pub fn is_child() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == SUBCOMMAND)
}

/// The whole life of an evaluating child: a request on stdin, answers on stdout. `schemas` are what its files can import.
pub fn child_main(schemas: &Schemas) -> ExitCode {
    let mut text = Vec::new();
    if io::stdin().lock().read_to_end(&mut text).is_err() {
        return ExitCode::from(MISUSED);
    }
    let Ok(request) = serde_json::from_slice::<BatchRequest>(&text) else {
        return ExitCode::from(MISUSED);
    };
    drop(text);
    bind(&request);
    let schemas = schemas.clone();
    let work = thread::Builder::new().name("nickel".to_owned()).stack_size(request.stack_bytes);
    let outcome = work.spawn(move || serve(&request, &schemas)).map(thread::JoinHandle::join);
    match outcome {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        // A panic was already told on stderr.
        Ok(Err(_)) => ExitCode::from(bug::EXIT),
        // A parent that is gone needs no answer.
        Ok(Ok(Err(_))) | Err(_) => ExitCode::FAILURE,
    }
}

/// Sets limits for the whole process. They only lower what is allowed, so none of them can fail for lack of rights.
fn bind(request: &BatchRequest) {
    crate::system::process::end_with_own_parent();
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // What it writes to, which is what takes memory: code and files that are only read do not count.
    let bytes = Some(request.memory_bytes);
    let _ = setrlimit(Resource::Data, Rlimit { current: bytes, maximum: bytes });
}

/// Allows the process this many more seconds of processor time, after which the kernel ends it.
fn grant(seconds: u64) {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let maximum = getrlimit(Resource::Cpu).maximum;
    let wanted = used + seconds + 1;
    let current = Some(maximum.map_or(wanted, |most| wanted.min(most)));
    let _ = setrlimit(Resource::Cpu, Rlimit { current, maximum });
}

fn serve(request: &BatchRequest, schemas: &Schemas) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    grant(request.cpu_seconds);
    let mut interpreter = Interpreter::new(request, schemas);
    for item in &request.items {
        say(&mut out, &Line::Started(item.index))?;
        grant(request.cpu_seconds);
        let finished = interpreter.evaluate(item);
        say(&mut out, &Line::Finished(Box::new(finished)))?;
    }
    // Freeing a large context takes as long as a few evaluations, and the process ends anyway.
    out.flush()?;
    std::mem::forget(interpreter);
    Ok(())
}

fn say(out: &mut impl io::Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

//! Evaluates batches of files in child processes, finds the file that killed one, and continues with the others. Not
//! responsible for: what the files say.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::child::SUBCOMMAND;
use super::protocol::{BatchRequest, Finished, Item, Line};
use crate::system::bug;

/// The limits of an evaluation.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The memory of all children together, in bytes, including their stacks.
    pub memory_bytes: u64,
    /// The stacks of their interpreters together, in bytes.
    pub stack_bytes: usize,
    /// Processor time for one file.
    pub cpu: Duration,
    /// Elapsed time for all files together. Files that are not evaluated by then are refused.
    pub wall: Duration,
    /// The most files for one child.
    pub batch: usize,
    /// How many children may run at the same time.
    pub jobs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Five hundred layers take a child 40 MB.
            memory_bytes: 160 << 20,
            stack_bytes: 32 << 20,
            cpu: Duration::from_secs(5),
            wall: Duration::from_secs(30),
            batch: 1000,
            jobs: thread::available_parallelism().map_or(2, usize::from).min(4),
        }
    }
}

/// With fewer files than this, a second child costs more than it saves.
const SMALL: usize = 24;
/// After this many deaths the catalog counts as hostile, and files get less time.
const PATIENCE: usize = 2;
/// The most that all answers together may have, in bytes. A thousand layers take some megabytes.
const ANSWER_BYTES: u64 = 48 << 20;
/// The most of a child's stderr that is kept, in bytes.
const STDERR_BYTES: u64 = 16 << 10;

/// Why a file has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Death {
    /// It nests too deeply for the stack.
    Stack,
    /// It asked for more memory than allowed.
    Memory,
    /// It used up its processor time.
    Time,
    /// Other files used up the time of the whole load.
    Starved,
    /// The interpreter itself failed.
    Crash(String),
}

/// The result of an item.
pub(super) enum ItemOutcome {
    Finished(Box<Finished>),
    Died(Item, Death),
}

struct Pool<'a> {
    program: &'a Path,
    request: &'a BatchRequest,
    limits: &'a Limits,
    queue: Mutex<VecDeque<Batch>>,
    deaths: AtomicUsize,
    deadline: Instant,
    jobs: usize,
    /// The bytes of the answers so far.
    answered: AtomicU64,
    /// Held to write by who takes the memory of all.
    memory: RwLock<()>,
}

#[derive(Clone)]
struct Batch {
    items: Vec<Item>,
    /// Whether it gets the memory of all children, while no other one runs.
    alone: bool,
}

/// Evaluates all items of a request, whatever single items do.
pub(super) fn run(program: &Path, request: &BatchRequest, limits: &Limits) -> io::Result<Vec<ItemOutcome>> {
    let items = &request.items;
    let jobs = if items.len() < SMALL { 1 } else { limits.jobs.max(1) };
    let size = items.len().div_ceil(jobs).clamp(1, limits.batch.max(1));
    let queue =
        items.chunks(size).map(|items| Batch { items: items.to_vec(), alone: jobs == 1 && items.len() == 1 }).collect();
    let deadline = Instant::now() + limits.wall;
    let pool = Pool {
        program,
        request,
        limits,
        queue: Mutex::new(queue),
        deaths: AtomicUsize::new(0),
        deadline,
        jobs,
        answered: AtomicU64::new(0),
        memory: RwLock::new(()),
    };
    let results = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| pool.work())).collect();
        workers.into_iter().map(|worker| worker.join().expect("invariant: workers do not panic")).collect::<Vec<_>>()
    });
    let mut outcomes = Vec::with_capacity(items.len());
    for result in results {
        outcomes.extend(result?);
    }
    Ok(outcomes)
}

impl Pool<'_> {
    fn work(&self) -> io::Result<Vec<ItemOutcome>> {
        let mut outcomes = Vec::new();
        while let Some(batch) = self.next() {
            if Instant::now() >= self.deadline {
                outcomes.extend(batch.items.into_iter().map(|item| ItemOutcome::Died(item, Death::Starved)));
                continue;
            }
            self.serve(batch, &mut outcomes)?;
        }
        Ok(outcomes)
    }

    fn next(&self) -> Option<Batch> {
        self.queue().pop_front()
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Batch>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one batch in one child. The items that the child did not reach go back into the queue.
    fn serve(&self, batch: Batch, outcomes: &mut Vec<ItemOutcome>) -> io::Result<()> {
        let seconds =
            if self.deaths.load(Ordering::Relaxed) >= PATIENCE { 1 } else { self.limits.cpu.as_secs().max(1) };
        let share = if batch.alone { 1 } else { self.jobs };
        let request = BatchRequest {
            items: batch.items,
            cpu_seconds: seconds,
            memory_bytes: self.limits.memory_bytes / share as u64,
            stack_bytes: self.limits.stack_bytes / share,
            ..self.request.clone()
        };
        let silence = Duration::from_secs(seconds * 4 + 5);
        let ran = if share == self.jobs {
            let _shared = self.memory.read().unwrap_or_else(PoisonError::into_inner);
            self.converse(&request, silence)?
        } else {
            let _all = self.memory.write().unwrap_or_else(PoisonError::into_inner);
            self.converse(&request, silence)?
        };
        let mut rest: Vec<Item> = request.items;
        let done: std::collections::HashSet<usize> = ran.finished.iter().map(|finished| finished.index).collect();
        rest.retain(|item| !done.contains(&item.index));
        outcomes.extend(ran.finished.into_iter().map(|finished| ItemOutcome::Finished(Box::new(finished))));
        if rest.is_empty() {
            return Ok(());
        }
        if ran.started.is_none() && ran.death == Death::Starved {
            // The time of the whole load ran out before the child reached its first file. That says nothing about this
            // child.
            outcomes.extend(rest.into_iter().map(|item| ItemOutcome::Died(item, Death::Starved)));
            return Ok(());
        }
        let Some(at) = ran.started.and_then(|index| rest.iter().position(|item| item.index == index)) else {
            // The child died before its first file, so the fault is not in the files.
            let what = match ran.death {
                Death::Crash(what) => what,
                _ => ran.stderr.lines().next().unwrap_or("no answer").to_owned(),
            };
            if is_bug(ran.status) {
                bug::note();
            }
            return Err(io::Error::other(format!("the evaluating process ended with {}: {what}", ran.status)));
        };
        let guilty = rest.remove(at);
        let death = ran.death;
        if matches!(death, Death::Crash(_)) && is_bug(ran.status) {
            bug::note();
        }
        // Memory adds up over a batch, and is shared among children: only a file that dies alone is responsible for it.
        if matches!(death, Death::Memory | Death::Stack) && !batch.alone {
            self.queue().push_front(Batch { items: vec![guilty], alone: true });
        } else {
            self.deaths.fetch_add(1, Ordering::Relaxed);
            outcomes.push(ItemOutcome::Died(guilty, death));
        }
        if !rest.is_empty() {
            self.queue().push_front(Batch { items: rest, alone: false });
        }
        Ok(())
    }

    fn converse(&self, request: &BatchRequest, silence: Duration) -> io::Result<Ran> {
        let mut child = Reaped(self.spawn()?);
        let (Some(mut input), Some(output), Some(errors)) =
            (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take())
        else {
            return Err(io::Error::other("the evaluating process has no pipes"));
        };
        let text = serde_json::to_vec(request)?;
        thread::scope(|scope| {
            // A child that dies early closes its end of the pipe. Its exit status reports that.
            scope.spawn(move || input.write_all(&text).map(|()| drop(input)));
            let errors = scope.spawn(move || tail(errors));
            let (sender, lines) = mpsc::channel();
            scope.spawn(move || {
                let left = ANSWER_BYTES.saturating_sub(self.answered.load(Ordering::Relaxed));
                for line in BufReader::new(output.take(left)).lines() {
                    let length = line.as_ref().map_or(0, String::len) as u64;
                    self.answered.fetch_add(length, Ordering::Relaxed);
                    let parsed = line.ok().and_then(|line| serde_json::from_str::<Line>(&line).ok());
                    let end = parsed.is_none();
                    if sender.send(parsed).is_err() || end {
                        break;
                    }
                }
            });
            let mut ran = Conversation { started: None, finished: Vec::new(), late: false, starved: false };
            ran.listen(&lines, silence, self.deadline);
            if ran.late || ran.starved || ran.finished.len() < request.items.len() {
                // Its pipe is closed or it does not answer. In both cases it is no longer needed.
                child.end_if_alive(ran.late || ran.starved);
            }
            drop(lines);
            let status = child.0.wait()?;
            let stderr = errors.join().unwrap_or_default();
            let death = if ran.starved { Death::Starved } else { cause(status, ran.late, &stderr) };
            Ok(Ran { started: ran.started, finished: ran.finished, status, stderr, death })
        })
    }

    fn spawn(&self) -> io::Result<Child> {
        // The child needs nothing of the environment, and a catalog must not see it.
        Command::new(self.program)
            .arg(SUBCOMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

struct Ran {
    started: Option<usize>,
    finished: Vec<Finished>,
    status: ExitStatus,
    stderr: String,
    death: Death,
}

struct Conversation {
    started: Option<usize>,
    finished: Vec<Finished>,
    late: bool,
    starved: bool,
}

impl Conversation {
    fn listen(&mut self, lines: &mpsc::Receiver<Option<Line>>, silence: Duration, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(silence.min(left)) {
                Ok(Some(Line::Started(index))) => self.started = Some(index),
                Ok(Some(Line::Finished(finished))) => {
                    self.started = None;
                    self.finished.push(*finished);
                }
                Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.starved = left <= silence;
                    self.late = !self.starved;
                    return;
                }
            }
        }
    }
}

/// A child process that never outlives its owner.
struct Reaped(Child);

impl Reaped {
    fn end_if_alive(&mut self, at_once: bool) {
        let patience = Instant::now() + Duration::from_millis(if at_once { 0 } else { 2000 });
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() >= patience {
                let _ = self.0.kill();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child wrote on stderr, up to a limit. The rest is read and dropped, so that the child never blocks.
fn tail(mut errors: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = errors.by_ref().take(STDERR_BYTES).read_to_end(&mut kept);
    let _ = io::copy(&mut errors, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

/// Whether a child panicked, or aborted. Any other signal comes from elsewhere.
fn is_bug(status: ExitStatus) -> bool {
    const SIGABRT: i32 = 6;
    status.code() == Some(bug::EXIT.into()) || status.signal() == Some(SIGABRT)
}

fn cause(status: ExitStatus, late: bool, stderr: &str) -> Death {
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    if late || status.signal() == Some(SIGXCPU) {
        Death::Time
    } else if stderr.contains("overflowed its stack") || status.signal() == Some(11) {
        Death::Stack
    } else if stderr.contains("memory allocation of")
        || stderr.contains("out of memory")
        || status.signal() == Some(SIGKILL)
    {
        Death::Memory
    } else {
        let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        // What failed in a child stands below the code of that, marked so.
        let failed = stderr.lines().find_map(|line| line.trim().strip_prefix("× "));
        let line = failed.or_else(|| lines.next()).unwrap_or("it ended without a message");
        Death::Crash(line.chars().take(300).collect())
    }
}

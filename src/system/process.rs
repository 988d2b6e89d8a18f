//! Child processes that end when they are no longer needed. Not responsible for: what they run.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::environment::{self, Purpose};
use crate::domain::base::human_bytes;

pub use rustix::process::Signal;

/// Methods for both the standard library's and tokio's commands.
pub trait CommandExt {
    /// The standard library's command.
    fn std_mut(&mut self) -> &mut Command;

    /// Makes the kernel send this signal to the child when its parent ends for any reason. The parent is the spawning
    /// *thread*: spawn from one that lives as long as the child is needed.
    fn end_with_parent(&mut self, signal: Signal) -> &mut Self {
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only this system call runs; it neither allocates nor takes a lock.
        unsafe {
            self.std_mut().pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(signal))?;
                Ok(())
            });
        }
        #[cfg(not(target_os = "linux"))]
        let _ = signal;
        self
    }

    /// Starts the child in its own session, so that neither Ctrl-C nor the end of the terminal reaches it.
    fn in_new_session(&mut self) -> &mut Self {
        // SAFETY: as above, a single system call.
        unsafe {
            self.std_mut().pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            });
        }
        self
    }
}

impl CommandExt for Command {
    fn std_mut(&mut self) -> &mut Command {
        self
    }
}

impl CommandExt for tokio::process::Command {
    fn std_mut(&mut self) -> &mut Command {
        self.as_std_mut()
    }
}

/// A command whose child is killed when its handle is dropped and when this process ends. Its own process group keeps
/// Ctrl-C away: this process ends its children in order.
/// Its environment is what its purpose asks for.
pub fn owned_command(program: impl AsRef<OsStr>, purpose: Purpose) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(environment::command(program, purpose));
    command.kill_on_drop(true).process_group(0).end_with_parent(Signal::KILL);
    command
}

/// Asks a child of ours to end. It must not have been waited for yet: its number may be another process's then.
pub fn terminate(child: u32) {
    let process = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(process) = process {
        let _ = rustix::process::kill_process(process, Signal::TERM);
    }
}

/// What a command prints, and so how many bytes of it are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    /// A version, an id, a fingerprint, a login, or nothing.
    Words,
    /// What is known of one thing, or of the few that are ours.
    Answer,
    /// What is known of all things that there are.
    List,
}

impl Printed {
    /// The most bytes.
    pub const fn most(self) -> u64 {
        match self {
            Self::Words => 64 << 10,
            Self::Answer => 4 << 20,
            Self::List => 64 << 20,
        }
    }
}

/// Maximum bytes to keep of what a command complains of. The rest is read and dropped, so that the command never blocks.
const STDERR_BYTES: u64 = 64 * 1024;

/// How long the end of a command that was killed is waited for.
const KILLED: Duration = Duration::from_secs(2);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is missing or not executable.
    #[error(transparent)]
    Unrunnable(io::Error),
    /// It did not finish in time and was killed.
    #[error("it has not ended within {} s", .0.as_secs())]
    Late(Duration),
    /// It printed more than this and was killed.
    #[error("it prints more than {}", human_bytes(*.0))]
    TooLong(u64),
    /// It failed; with its standard error, trimmed.
    #[error("{}", if stderr.is_empty() { status.to_string() } else { stderr.clone() })]
    Failed {
        /// Its exit code or signal.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
    },
}

/// Runs a command to its end, without input, and returns its standard output. It is killed when the future is
/// dropped, on timeout, and when it prints too much.
pub async fn output(
    command: tokio::process::Command,
    within: Duration,
    printed: Printed,
) -> Result<Vec<u8>, CommandError> {
    answer(command, Vec::new(), within, printed).await
}

/// The same with this input.
pub async fn answer(
    mut command: tokio::process::Command,
    input: Vec<u8>,
    within: Duration,
    printed: Printed,
) -> Result<Vec<u8>, CommandError> {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(CommandError::Unrunnable)?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().expect("invariant: standard output is piped");
    let stderr = child.stderr.take().expect("invariant: standard error is piped");
    let feed = async {
        // Who reads no input says by its exit what it makes of that.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&input).await;
        }
        Ok(())
    };
    let complaints = async { beginning(stderr, STDERR_BYTES).await.map_err(CommandError::Unrunnable) };
    let ended = async { child.wait().await.map_err(CommandError::Unrunnable) };
    let all = async { tokio::try_join!(feed, whole(stdout, printed.most()), complaints, ended) };
    let all = tokio::time::timeout(within, all).await.unwrap_or(Err(CommandError::Late(within)));
    if all.is_err() {
        // One that cannot be killed, since its disk hangs, is waited for no longer.
        let _ = tokio::time::timeout(KILLED, child.kill()).await;
    }
    let ((), stdout, stderr, status) = all?;
    if status.success() {
        return Ok(stdout);
    }
    Err(CommandError::Failed { status, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
}

/// The same for a thread that waits for it.
pub fn answer_blocking(
    command: Command,
    input: Vec<u8>,
    within: Duration,
    printed: Printed,
) -> Result<Vec<u8>, CommandError> {
    // A thread of its own: the caller's may be one that drives tasks.
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(CommandError::Unrunnable)?;
        runtime.block_on(answer(command.into(), input, within, printed))
    };
    let ran = std::thread::spawn(run).join();
    ran.unwrap_or_else(|_| Err(CommandError::Unrunnable(io::Error::other("what runs it has failed"))))
}

/// All of a stream, if it is no more than this.
async fn whole(stream: impl AsyncRead + Unpin, most: u64) -> Result<Vec<u8>, CommandError> {
    let mut kept = Vec::new();
    stream.take(most + 1).read_to_end(&mut kept).await.map_err(CommandError::Unrunnable)?;
    if kept.len() as u64 > most { Err(CommandError::TooLong(most)) } else { Ok(kept) }
}

/// What a command says on its standard error, up to a bound.
pub async fn stderr_text(stderr: impl AsyncRead + Unpin) -> String {
    let words = beginning(stderr, STDERR_BYTES).await.unwrap_or_default();
    String::from_utf8_lossy(&words).into_owned()
}

/// The first bytes of a stream; the rest is read and dropped.
async fn beginning(mut stream: impl AsyncRead + Unpin, most: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut stream).take(most).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Makes the kernel kill this process when its parent ends.
pub fn end_with_own_parent() {
    // It needs no privileges, so it cannot fail for lack of them.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    /// The signal that ended `sleep` after its spawning thread ended.
    fn ended_by(mut command: Command) -> Option<i32> {
        command.arg("60");
        let spawned = std::thread::spawn(move || command.spawn().expect("a process"));
        spawned.join().expect("no panic").wait().expect("it ends").signal()
    }

    #[test]
    fn a_child_ends_with_its_parent() {
        for signal in [Signal::TERM, Signal::KILL] {
            let mut command = Command::new("sleep");
            command.end_with_parent(signal);
            assert_eq!(ended_by(command), Some(signal.as_raw()));
        }
        let mut command = owned_command("sleep", Purpose::Local);
        assert_eq!(ended_by(std::mem::replace(command.std_mut(), Command::new("true"))), Some(Signal::KILL.as_raw()));
    }

    /// A script's output, or why it failed.
    async fn ran(script: &str, within: Duration) -> Result<Vec<u8>, CommandError> {
        let mut command = owned_command("sh", Purpose::Local);
        command.args(["-c", script]);
        output(command, within, Printed::Words).await
    }

    #[tokio::test]
    async fn a_command_prints_or_says_why_not() {
        let long = Duration::from_secs(60);
        assert_eq!(ran("cat; echo out; echo err >&2", long).await.expect("it ends well"), b"out\n");
        let failed = |result: Result<Vec<u8>, CommandError>| result.expect_err("it fails").to_string();
        assert_eq!(failed(ran("echo ' no  such ' >&2; exit 3", long).await), "no  such");
        assert_eq!(failed(ran("exit 3", long).await), "exit status: 3");
        let missing = output(tokio::process::Command::new("/nowhere/program"), long, Printed::Words).await;
        assert!(matches!(missing, Err(CommandError::Unrunnable(error)) if error.kind() == io::ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("echo $$ >{}; exec sleep 60", crate::system::shell::quoted(&pid.display().to_string()));
        // On a busy machine the shell may begin late.
        for within in [Duration::from_millis(500), Duration::from_secs(5), Duration::from_secs(30)] {
            let late = ran(&script, within).await;
            assert!(matches!(late, Err(CommandError::Late(_))), "{late:?}");
            if pid.exists() {
                break;
            }
        }
        let pid = std::fs::read_to_string(&pid).expect("it began");
        let process = std::path::PathBuf::from(format!("/proc/{}/cmdline", pid.trim()));
        let gone = async {
            // A zombie has an empty command line.
            while std::fs::read(&process).is_ok_and(|line| !line.is_empty()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is killed");
    }

    #[tokio::test]
    async fn who_prints_without_end_fills_no_memory_and_is_not_held_up() {
        let long = Duration::from_secs(60);
        let most = Printed::Words.most();
        let printed = ran(&format!("head -c {most} /dev/zero; head -c 1000000 /dev/zero >&2"), long).await;
        assert_eq!(printed.expect("it ends well").len() as u64, most);
        // It never ends by itself.
        let endless = ran("cat /dev/zero", long).await.expect_err("it was read whole");
        assert_eq!(endless.to_string(), "it prints more than 65.5 kB");
        let mut endless = environment::command("cat", Purpose::Local);
        endless.arg("/dev/zero");
        let endless = answer_blocking(endless, Vec::new(), long, Printed::Answer).expect_err("it was read whole");
        assert!(matches!(endless, CommandError::TooLong(most) if most == Printed::Answer.most()), "{endless}");
    }

    #[tokio::test]
    async fn a_command_reads_its_input_or_not() {
        let long = Duration::from_secs(60);
        let cat = || environment::command("cat", Purpose::Local);
        let input = vec![b'x'; 60_000];
        // Also in a task: its thread may wait for nobody.
        let printed = answer_blocking(cat(), input.clone(), long, Printed::Words).expect("it ends well");
        assert_eq!(printed, input);
        let mut deaf = environment::command("echo", Purpose::Local);
        deaf.arg("deaf");
        assert_eq!(answer(deaf.into(), vec![b'x'; 1 << 20], long, Printed::Words).await.expect("it ends"), b"deaf\n");
        let mut silent = environment::command("sleep", Purpose::Local);
        silent.arg("60");
        let late = answer_blocking(silent, Vec::new(), Duration::from_millis(50), Printed::Words);
        assert!(matches!(late, Err(CommandError::Late(_))), "{late:?}");
    }

    #[test]
    fn a_child_has_a_session_and_a_group_of_its_own() {
        let stat = |command: &mut Command| {
            let output = command.args(["-c", "cat /proc/$$/stat"]).output().expect("it runs").stdout;
            let text = String::from_utf8(output).expect("text");
            // pid (name) state parent group session …
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let fields = stat(Command::new("sh").in_new_session());
        assert_eq!((&fields[0], &fields[0]), (&fields[4], &fields[5]));
        let fields = stat(owned_command("sh", Purpose::Local).std_mut());
        assert_eq!(&fields[0], &fields[4]);
        assert_ne!(&fields[0], &fields[5]);
    }
}

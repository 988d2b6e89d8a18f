//! Child processes that end when nobody needs them any more. Not responsible for: what they run.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub use rustix::process::Signal;

/// What a command of the standard library and one of tokio have in common here.
pub trait CommandExt {
    /// The command of the standard library.
    fn std_mut(&mut self) -> &mut Command;

    /// Lets the kernel send this signal to the child when its parent ends, however that ends. The parent is the *thread*
    /// that spawns it: spawn from one that lives as long as the child is needed.
    fn end_with_parent(&mut self, signal: Signal) -> &mut Self {
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only this one system call is made; it allocates nothing and takes no lock.
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

    /// Gives the child a session of its own: neither Ctrl-C nor the end of the terminal reaches it.
    fn in_new_session(&mut self) -> &mut Self {
        // SAFETY: as above: one system call, without allocation or lock.
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

/// A command whose child is killed when its handle is dropped and when this process ends. It has a process group of its
/// own: Ctrl-C reaches this process alone, which ends its children in order.
pub fn owned_command(program: impl AsRef<OsStr>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command.kill_on_drop(true).process_group(0).end_with_parent(Signal::KILL);
    command
}

/// Lets the kernel kill this process when its parent ends.
pub fn end_with_own_parent() {
    // It cannot fail for want of rights.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    /// The signal that ends `sleep` after the thread that spawned it has ended.
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
        let mut command = owned_command("sleep");
        assert_eq!(ended_by(std::mem::replace(command.std_mut(), Command::new("true"))), Some(Signal::KILL.as_raw()));
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
        let fields = stat(owned_command("sh").std_mut());
        assert_eq!(&fields[0], &fields[4]);
        assert_ne!(&fields[0], &fields[5]);
    }
}

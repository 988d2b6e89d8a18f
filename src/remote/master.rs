//! The `ssh` process that holds the connection. Refuses: asking a person anything, and trusting a host on first use.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::ports::SshTarget;

/// Why no connection came about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The host showed another key than the pinned one.
    HostKey,
    /// The key to log in with was not accepted.
    Login(String),
    /// Nobody answers yet, or not any more.
    NotThere(String),
}

/// The options of every `ssh` of a runner. Nothing of the user's own configuration counts. The agent travels only with a
/// command that asks for it: the master must be ready to, and every other command says `-a`.
pub(super) fn config(target: &SshTarget, alias: &str, folder: &Path) -> String {
    let mut text = format!(
        "Host *\n  HostName {}\n  Port {}\n  User {}\n  HostKeyAlias {alias}\n  UserKnownHostsFile \"{}\"\n  \
         GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  BatchMode yes\n  \
         PreferredAuthentications publickey\n  ConnectTimeout 5\n  ServerAliveInterval 5\n  ServerAliveCountMax 3\n  \
         KexAlgorithms ^curve25519-sha256\n  ForwardX11 no\n  ForwardAgent yes\n  LogLevel ERROR\n",
        target.address,
        target.port,
        target.user,
        folder.join("known_hosts").display(),
    );
    if let Some(identity) = &target.identity {
        text.push_str(&format!("  IdentitiesOnly yes\n  IdentityFile \"{}\"\n", identity.display()));
    }
    text
}

/// Starts the master. It ends with its link, with this process, and when dropped.
pub(super) fn start(folder: &Path) -> std::io::Result<Child> {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(folder.join("config")).arg("-S").arg(folder.join("m")).args(["-M", "-N", "runner"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only this one system call is made; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
    command.spawn()
}

/// What a master that ended had to say.
pub(super) async fn last_words(master: &mut Child) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = master.stderr.take() {
        let _ = stderr.read_to_string(&mut text).await;
    }
    text.trim().to_owned()
}

/// Why it ended.
pub(super) fn refused(words: &str) -> Refused {
    if words.contains("Host key verification failed") || words.contains("IDENTIFICATION HAS CHANGED") {
        return Refused::HostKey;
    }
    let last = words.lines().last().unwrap_or("ssh ended without a word").trim().to_owned();
    if words.contains("Permission denied") || words.contains("Too many authentication failures") {
        return Refused::Login(last);
    }
    Refused::NotThere(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_key_is_pinned_and_the_users_configuration_left_out() {
        let target = SshTarget {
            address: "fd00::1".into(),
            port: 2222,
            user: "root".into(),
            host_key: "ssh-ed25519 AAAA".into(),
            identity: Some("/keys/id".into()),
        };
        insta::assert_snapshot!(config(&target, "lease-1", Path::new("/tmp/x")));
    }

    #[test]
    fn what_ssh_says_is_understood() {
        let key = "No ED25519 host key is known for l1 and you have requested strict checking.\nHost key verification failed.";
        assert_eq!(refused(key), Refused::HostKey);
        assert!(matches!(refused("root@h: Permission denied (publickey)."), Refused::Login(_)));
        assert!(matches!(refused("ssh: connect to host h port 22: Connection refused"), Refused::NotThere(_)));
        assert!(matches!(refused(""), Refused::NotThere(_)));
    }
}

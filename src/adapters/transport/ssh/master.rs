//! The `ssh` master process of a connection. It never prompts, and never trusts an unknown host key. Not responsible
//! for: what uses the connection.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::route::{Route, Unfit, is_word};
use crate::domain::ports::SshTarget;
use crate::system::environment::Purpose;
use crate::system::process::owned_command;
use crate::system::words::cause;

/// Why a connection failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `ssh` could not be started.
    NoSsh(String),
    /// The host key differs from the pinned one.
    HostKey,
    /// The login key was refused.
    Login(String),
    /// The host does not respond, or nobody leads there.
    NotThere(String),
    /// The time was over before there was an answer.
    Late,
}

/// The options of every `ssh` to a runner. Of the user's own configuration nothing counts but the route. The master must
/// allow agent forwarding; every command that does not need it says `-a`. Values are checked strictly, because an extra
/// line in this file could run a local program.
pub(super) fn config(target: &SshTarget, route: &Route, alias: &str, folder: &Path) -> Result<String, Unfit> {
    let unfit = |what, value: &str| Unfit { what, value: value.to_owned() };
    let address = route.address.as_ref().unwrap_or(&target.address);
    let user = route.user.as_ref().unwrap_or(&target.user);
    if !is_word(address, "._-:%") {
        return Err(unfit("address", address));
    }
    if !is_word(user, "._-+@") {
        return Err(unfit("user", user));
    }
    if !is_host_key(&target.host_key) {
        return Err(unfit("host key", &target.host_key));
    }
    if !is_word(alias, "._-") {
        return Err(unfit("lease", alias));
    }
    let known_hosts = folder.join("known_hosts");
    let path = |path: &Path| argument(path).ok_or_else(|| unfit("path", &path.display().to_string()));
    let mut text = format!(
        "Host *\n  HostName {}\n  Port {}\n  User {}\n  HostKeyAlias {alias}\n  UserKnownHostsFile {}\n  \
         GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  BatchMode yes\n  \
         PreferredAuthentications publickey\n  ConnectTimeout 5\n  ServerAliveInterval 5\n  ServerAliveCountMax 3\n  \
         KexAlgorithms ^curve25519-sha256\n  ForwardX11 no\n  ForwardAgent yes\n  LogLevel ERROR\n",
        address.replace('%', "%%"),
        route.port.unwrap_or(target.port),
        user,
        path(&known_hosts)?,
    );
    if let Some(identity) = &target.identity {
        text.push_str(&format!("  IdentitiesOnly yes\n  IdentityFile {}\n", path(identity)?));
    }
    text.extend(route.lines.iter().map(|line| format!("  {line}\n")));
    Ok(text)
}

/// Whether it is exactly a key type and a key, as in the workflow's schema.
fn is_host_key(text: &str) -> bool {
    const KINDS: [&str; 5] =
        ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
    let Some((kind, key)) = text.split_once(' ') else { return false };
    let bare = key.trim_end_matches('=');
    let sound = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    KINDS.contains(&kind) && sound
}

/// A path as an argument in ssh's configuration, with `%` and `${` escaped; `None` if it cannot be expressed.
fn argument(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control) && !text.contains("${"))?;
    Some(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}

/// The most bytes of a master's error output that are kept, the last ones.
const WORDS: usize = 4096;

/// The master process. It ends with its connection, with this process, and on drop.
pub(super) struct Master {
    child: Child,
    /// The end of its error output. It is read all the time: a full pipe would stop the master.
    words: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Master {
    /// Starts it.
    pub(super) fn start(folder: &Path) -> std::io::Result<Self> {
        let mut command = owned_command("ssh", Purpose::Ssh);
        command.arg("-F").arg(folder.join("config")).arg("-S").arg(folder.join("m")).args(["-M", "-N", "runner"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut stderr = child.stderr.take().expect("invariant: standard error is piped");
        let words = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&words);
        let reader = tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(count @ 1..) = stderr.read(&mut piece).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..count]);
                let surplus = kept.len().saturating_sub(WORDS);
                kept.drain(..surplus);
            }
        });
        Ok(Self { child, words, reader })
    }

    /// Its error output if it has ended.
    pub(super) async fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(_)) => {}
            _ => return None,
        }
        // A child of the master might keep the pipe open.
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.reader).await;
        Some(self.words())
    }

    /// The end of its error output so far.
    pub(super) fn words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&words).trim().to_owned()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What `ssh` says where a connection ends before the other side has greeted.
const NO_GREETING: &str = "kex_exchange_identification";

/// Derives the reason from ssh's error output.
pub(super) fn refused(words: &str) -> Refused {
    // `ssh` itself came to no greeting, so what else is said comes from the way there.
    let is_own = |line: &&str| line.contains(NO_GREETING) || line.starts_with("Connection ");
    let others: Vec<&str> = words.lines().filter(|line| !is_own(line) && !line.trim().is_empty()).collect();
    if words.contains(NO_GREETING) && !others.is_empty() {
        let cause = cause(&others.join("\n"), &[]).unwrap_or_default();
        return Refused::NotThere(format!("on the way, through your ssh configuration's other host: {cause}"));
    }
    if words.contains("Host key verification failed") || words.contains("IDENTIFICATION HAS CHANGED") {
        return Refused::HostKey;
    }
    let cause = cause(words, &[]).unwrap_or_else(|| "ssh ended without a message".to_owned());
    if words.contains("Permission denied") || words.contains("Too many authentication failures") {
        return Refused::Login(cause);
    }
    Refused::NotThere(cause)
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
            is_configured: false,
        };
        insta::assert_snapshot!(config(&target, &Route::default(), "lease-1", Path::new("/tmp/x")).expect("sound"));
    }

    fn target() -> SshTarget {
        let (address, user, host_key) = ("h".into(), "root".into(), "ssh-ed25519 AAAA".into());
        SshTarget { address, port: 22, user, host_key, identity: None, is_configured: false }
    }

    #[test]
    fn what_a_pool_says_of_a_host_adds_no_line() {
        let told = |target: &SshTarget| {
            config(target, &Route::default(), "l", Path::new("/tmp/x")).map_err(|unfit| unfit.what)
        };
        for address in ["h\n  ProxyCommand touch /tmp/x", "h x", "", "-oProxyCommand=x", "h\"", "h\t", "${HOME}"] {
            assert_eq!(told(&SshTarget { address: address.into(), ..target() }), Err("address"), "{address}");
        }
        for user in ["root\nLocalCommand x", "a b", "", "-l", "%h", "$USER"] {
            assert_eq!(told(&SshTarget { user: user.into(), ..target() }), Err("user"), "{user}");
        }
        let keys = [
            "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB",
            "ssh-ed25519 AAAA x",
            "ssh-dss AAAA",
            "ssh-ed25519 ",
            "",
            "@cert-authority",
        ];
        for key in keys {
            assert_eq!(told(&SshTarget { host_key: key.into(), ..target() }), Err("host key"), "{key}");
        }
        for path in ["/a\nb", "/${HOME}/id"] {
            assert_eq!(told(&SshTarget { identity: Some(path.into()), ..target() }), Err("path"), "{path}");
        }
        let text =
            told(&SshTarget { address: "fe80::1%eth0".into(), user: "me@there".into(), ..target() }).expect("sound");
        assert!(text.contains("  HostName fe80::1%%eth0\n  Port 22\n  User me@there\n"), "{text}");
    }

    #[test]
    fn ssh_reads_an_identitys_path_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = folder.path().join("a \"b\" \\ %h 'c'");
        std::fs::write(&identity, "").expect("writable");
        let target = SshTarget { identity: Some(identity.clone()), ..target() };
        let file = folder.path().join("config");
        std::fs::write(&file, config(&target, &Route::default(), "l", folder.path()).expect("sound"))
            .expect("writable");
        let told = std::process::Command::new("ssh").arg("-G").arg("-F").arg(&file).arg("runner").output();
        let told = String::from_utf8(told.expect("ssh runs").stdout).expect("text");
        let line = format!("identityfile {}", identity.display().to_string().replace('%', "%%"));
        assert!(told.lines().any(|found| found == line), "{told}");
    }

    #[test]
    fn what_ssh_says_is_understood() {
        let key = "No ED25519 host key is known for l1 and you have requested strict checking.\nHost key verification failed.";
        assert_eq!(refused(key), Refused::HostKey);
        assert!(matches!(refused("root@h: Permission denied (publickey)."), Refused::Login(_)));
        assert!(matches!(refused("ssh: connect to host h port 22: Connection refused"), Refused::NotThere(_)));
        assert!(matches!(refused(""), Refused::NotThere(_)));
        let closed = "kex_exchange_identification: Connection closed by remote host";
        assert!(matches!(refused(closed), Refused::NotThere(words) if !words.contains("on the way")));
        let way = &format!("Host key verification failed.\n{closed}\nConnection closed by UNKNOWN port 65535");
        assert!(matches!(refused(way), Refused::NotThere(words) if words.ends_with("Host key verification failed.")));
    }
}

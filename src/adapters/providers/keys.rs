//! SSH key pairs that live as long as a lease: one for the login, one as the host key. Not responsible for: storing a
//! private key anywhere but in its own file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::domain::model::{Fault, FaultKind};
use crate::system::environment::{Purpose, command};
use crate::system::process::output;
use crate::system::read::{self, Cap};

/// Timeout of ssh-keygen.
const LIMIT: Duration = Duration::from_secs(60);

/// A key pair on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Private key file (OpenSSH PEM), readable by its owner only.
    pub private: PathBuf,
    /// The public key, `ssh-ed25519 AAAA…`, without a comment.
    pub public: String,
}

impl Pair {
    /// The pair of this name in a folder; created if missing, so that repeated calls return the same pair.
    ///
    /// # Errors
    /// `lian::providers::keys`.
    pub async fn ensure(folder: &Path, name: &str) -> Result<Self, Fault> {
        let private = folder.join(name);
        let beside = folder.join(format!("{name}.pub"));
        if !(private.exists() && beside.exists()) {
            make(folder, &private).await?;
        }
        let text =
            read::text_of_user(&beside, Cap::Credential).map_err(|error| unusable(&beside, &error.to_string()))?;
        let public = bare(&text).ok_or_else(|| unusable(&beside, "it holds no public key"))?;
        Ok(Self { private, public })
    }

    /// The private key's text.
    ///
    /// # Errors
    /// `lian::providers::keys`.
    pub fn secret(&self) -> Result<String, Fault> {
        read::text_of_user(&self.private, Cap::Credential).map_err(|error| unusable(&self.private, &error.to_string()))
    }
}

/// Removes the folder of a lease's key pairs, if it exists.
///
/// # Errors
/// `lian::providers::keys`.
pub fn forget(folder: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(folder, &error.to_string())),
        _ => Ok(()),
    }
}

/// A public key without its comment: type and body.
pub fn bare(public: &str) -> Option<String> {
    let mut words = public.split_whitespace();
    match (words.next(), words.next()) {
        (Some(kind), Some(body)) if kind.contains('-') && body.len() > 16 => Some(format!("{kind} {body}")),
        _ => None,
    }
}

/// The MD5 fingerprint of a public key, `aa:bb:…`; some clouds index keys by it.
///
/// # Errors
/// `lian::providers::keys`.
pub async fn md5_fingerprint(public: &str) -> Result<String, Fault> {
    use tokio::io::AsyncWriteExt as _;
    let mut command = Command::from(command("ssh-keygen", Purpose::Local));
    command.args(["-l", "-E", "md5", "-f", "-"]).kill_on_drop(true);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| no_tool(&error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // ssh-keygen reports an unreadable key by its exit code.
        let _ = stdin.write_all(format!("{public}\n").as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|error| no_tool(&error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.split_whitespace().find_map(|word| word.strip_prefix("MD5:"));
    word.map(str::to_owned).ok_or_else(|| no_tool("it does not know this public key"))
}

async fn make(folder: &Path, private: &Path) -> Result<(), Fault> {
    let prepare = || {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        // An incomplete pair has never been used: recreate it.
        for old in [private.to_path_buf(), private.with_extension("pub")] {
            match std::fs::remove_file(old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    prepare().map_err(|error: std::io::Error| unusable(folder, &error.to_string()))?;
    let mut command = Command::from(command("ssh-keygen", Purpose::Local));
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "lian-build", "-f"]).arg(private);
    output(command, LIMIT).await.map_err(|error| no_tool(&error.to_string()))?;
    for file in [private.to_path_buf(), private.with_extension("pub")] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| unusable(&file, &error.to_string()))?;
    }
    Ok(())
}

fn unusable(path: &Path, what: &str) -> Fault {
    let message = format!("the keys of a lease cannot be kept in {}: {what}", path.display());
    Fault::new(FaultKind::Unavailable, "lian::providers::keys", message)
        .help("make lian-build's data folder writable, or set LIAN_DATA_DIR to another one")
}

fn no_tool(what: &str) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::providers::keys", format!("ssh-keygen makes no keys: {what}"))
        .help("install OpenSSH's client programs (Debian: openssh-client)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pair_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("lease");
        let pair = Pair::ensure(&inside, "host").await.expect("a pair");
        assert!(pair.public.starts_with("ssh-ed25519 AAAA") && pair.public.split(' ').count() == 2, "{}", pair.public);
        assert_eq!(Pair::ensure(&inside, "host").await.expect("the same"), pair);
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&inside), mode(&pair.private)), (0o700, 0o600));
        assert!(pair.secret().expect("text").ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        std::fs::remove_file(inside.join("host.pub")).expect("removed");
        assert_ne!(Pair::ensure(&inside, "host").await.expect("a new one").public, pair.public);
        for _ in 0..2 {
            forget(&inside).expect("removed, and not there any more");
            assert!(!inside.exists());
        }
    }

    #[tokio::test]
    async fn a_fingerprint_is_md5_with_colons() {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = Pair::ensure(folder.path(), "client").await.expect("a pair");
        let print = md5_fingerprint(&pair.public).await.expect("a fingerprint");
        assert_eq!((print.len(), print.matches(':').count()), (47, 15), "{print}");
        assert!(md5_fingerprint("ssh-ed25519 nonsense").await.is_err());
    }
}

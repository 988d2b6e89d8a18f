//! SSH key pairs that live as long as a lease: one for the login, one as the host key. Not responsible for: storing a
//! private key anywhere but in its own file.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::domain::model::{Fault, FaultKind};
use crate::system::confined::{self, Folder};
use crate::system::environment::{Purpose, command};
use crate::system::process::{Printed, answer, output};
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

/// The folder of a lease below that of all leases, for this user only; created if missing. Neither is a link.
///
/// # Errors
/// `lian::providers::keys`.
pub fn folder(keys: &Path, lease: &str) -> Result<Folder, Fault> {
    let made = confined::make_private_no_link(keys).and_then(|all| all.make_folder(one_name(lease)?));
    made.map_err(|error| unusable(&keys.join(lease), &error.to_string()))
}

/// Removes the folder of a lease with its key pairs, if it exists. No link is followed.
///
/// # Errors
/// `lian::providers::keys`.
pub fn forget(keys: &Path, lease: &str) -> Result<(), Fault> {
    let removed = confined::open_no_link(keys).and_then(|all| all.remove_tree(one_name(lease)?));
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&keys.join(lease), &error.to_string())),
        _ => Ok(()),
    }
}

/// A lease's folder lies right below that of all.
fn one_name(lease: &str) -> io::Result<&str> {
    if Path::new(lease).file_name() == Some(OsStr::new(lease)) {
        return Ok(lease);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{lease}` is no name of a folder")))
}

impl Pair {
    /// The pair of this name in a lease's folder; created if missing, so that repeated calls return the same pair.
    ///
    /// # Errors
    /// `lian::providers::keys`.
    pub async fn ensure(folder: &Folder, name: &str) -> Result<Self, Fault> {
        let beside = format!("{name}.pub");
        if !(folder.is_file(name) && folder.is_file(&beside)) {
            make(folder, [name, &beside]).await?;
        }
        let public = bare(&text(folder, &beside)?).ok_or_else(|| unusable(folder.path(), "it holds no public key"))?;
        Ok(Self { private: folder.path().join(name), public })
    }

    /// The private key's text, from the same folder.
    ///
    /// # Errors
    /// `lian::providers::keys`.
    pub fn secret(&self, folder: &Folder) -> Result<String, Fault> {
        text(folder, self.private.file_name().unwrap_or_default())
    }
}

fn text(folder: &Folder, name: impl AsRef<Path>) -> Result<String, Fault> {
    let bytes = folder.read(&name, Cap::Credential.most()).and_then(read::text);
    bytes.map_err(|error| unusable(&folder.path().join(name), &error.to_string()))
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
    let mut command = Command::from(command("ssh-keygen", Purpose::Local));
    command.args(["-l", "-E", "md5", "-f", "-"]);
    let printed = answer(command, format!("{public}\n").into_bytes(), LIMIT, Printed::Words).await;
    let printed = printed.map_err(|error| no_tool(&error.to_string()))?;
    let text = String::from_utf8_lossy(&printed);
    let word = text.split_whitespace().find_map(|word| word.strip_prefix("MD5:"));
    word.map(str::to_owned).ok_or_else(|| no_tool("it does not know this public key"))
}

async fn make(folder: &Folder, names: [&str; 2]) -> Result<(), Fault> {
    let failed = |error: io::Error| unusable(folder.path(), &error.to_string());
    // An incomplete pair has never been used: recreate it. What is no file is not a key of ours, either.
    for name in names {
        match folder.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let mut command = Command::from(command("ssh-keygen", Purpose::Local));
    // Nobody but this user can put anything into the folder meanwhile.
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "lian-build", "-f"]).arg(folder.path().join(names[0]));
    output(command, LIMIT, Printed::Words).await.map_err(|error| no_tool(&error.to_string()))?;
    for name in names {
        let narrowed = |file: std::fs::File| file.set_permissions(std::fs::Permissions::from_mode(0o600));
        folder.open_file(name).and_then(narrowed).map_err(failed)?;
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
        let all = tempfile::tempdir().expect("a folder");
        let keys = all.path().join("keys");
        let inside = folder(&keys, "lease").expect("a folder");
        let pair = Pair::ensure(&inside, "host").await.expect("a pair");
        assert!(pair.public.starts_with("ssh-ed25519 AAAA") && pair.public.split(' ').count() == 2, "{}", pair.public);
        assert_eq!(Pair::ensure(&inside, "host").await.expect("the same"), pair);
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let modes = [&keys, inside.path(), &pair.private, &inside.path().join("host.pub")].map(mode);
        assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
        assert!(pair.secret(&inside).expect("text").ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        std::fs::remove_file(inside.path().join("host.pub")).expect("removed");
        assert_ne!(Pair::ensure(&inside, "host").await.expect("a new one").public, pair.public);
        for _ in 0..2 {
            forget(&keys, "lease").expect("removed, and not there any more");
            assert!(!inside.path().exists());
        }
    }

    #[tokio::test]
    async fn nothing_leads_out_of_the_folder_of_keys() {
        use std::os::unix::fs::symlink;
        let all = tempfile::tempdir().expect("a folder");
        let (keys, outside) = (all.path().join("keys"), all.path().join("outside"));
        std::fs::create_dir_all(outside.join("lease")).expect("writable");
        std::fs::write(outside.join("lease/host"), "precious").expect("writable");
        let is_whole = || {
            assert_eq!(std::fs::read(outside.join("lease/host")).expect("it stays"), b"precious");
            assert_eq!(std::fs::read_dir(outside.join("lease")).expect("a folder").count(), 1);
        };
        symlink(&outside, &keys).expect("a link");
        folder(&keys, "lease").expect_err("all keys lie elsewhere");
        forget(&keys, "lease").expect_err("all keys lie elsewhere");
        is_whole();
        std::fs::remove_file(&keys).expect("a link");
        std::fs::create_dir(&keys).expect("writable");
        symlink(outside.join("lease"), keys.join("lease")).expect("a link");
        folder(&keys, "lease").expect_err("the lease's keys lie elsewhere");
        forget(&keys, "lease").expect("the link itself is removed");
        is_whole();
        let inside = folder(&keys, "lease").expect("a folder");
        for name in ["host", "host.pub"] {
            symlink(outside.join("lease/host"), inside.path().join(name)).expect("a link");
        }
        Pair::ensure(&inside, "host").await.expect("a pair in the place of the links");
        is_whole();
        for name in ["", ".", "..", "../outside", "lease/.."] {
            folder(&keys, name).expect_err(name);
            forget(&keys, name).expect_err(name);
        }
        is_whole();
    }

    #[tokio::test]
    async fn a_fingerprint_is_md5_with_colons() {
        let all = tempfile::tempdir().expect("a folder");
        let inside = folder(all.path(), "lease").expect("a folder");
        let pair = Pair::ensure(&inside, "client").await.expect("a pair");
        let print = md5_fingerprint(&pair.public).await.expect("a fingerprint");
        assert_eq!((print.len(), print.matches(':').count()), (47, 15), "{print}");
        assert!(md5_fingerprint("ssh-ed25519 nonsense").await.is_err());
    }
}

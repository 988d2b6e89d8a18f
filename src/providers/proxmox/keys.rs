//! The key pair of a lease: a folder each, gone with it. Refuses: keys that somebody else brought.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::base::LeaseId;
use crate::model::{Fault, FaultKind};

const PRIVATE: &str = "id_ed25519";
const PUBLIC: &str = "id_ed25519.pub";

/// A lease's pair: the private key's file and the public key's text.
pub(super) struct Pair {
    pub(super) identity: PathBuf,
    pub(super) public: String,
}

/// The pair of a lease; made where there is none yet.
pub(super) async fn pair(keys: &Path, lease: &LeaseId) -> Result<Pair, Fault> {
    let folder = folder(keys, lease);
    let identity = folder.join(PRIVATE);
    if !identity.exists() {
        make(&folder).await.map_err(|error| failed(&folder, &error))?;
    }
    let public = std::fs::read_to_string(folder.join(PUBLIC)).map_err(|error| failed(&folder, &error))?;
    Ok(Pair { identity, public: public.trim().to_owned() })
}

/// Removes a lease's pair, if there is one.
pub(super) fn remove(keys: &Path, lease: &LeaseId) -> Result<(), Fault> {
    let folder = folder(keys, lease);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&folder, &error)),
        _ => Ok(()),
    }
}

fn folder(keys: &Path, lease: &LeaseId) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    keys.join(lease.as_str().chars().map(safe).collect::<String>())
}

async fn make(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Made aside and moved in, the private key last: where it is, the pair is whole.
    let aside = tempfile::tempdir_in(folder)?;
    let made = aside.path().join(PRIVATE);
    let mut command = tokio::process::Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "lian-build", "-f"]).arg(&made);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("ssh-keygen: {}", said.trim().replace('\n', "; "))));
    }
    std::fs::rename(aside.path().join(PUBLIC), folder.join(PUBLIC))?;
    std::fs::rename(&made, folder.join(PRIVATE))
}

fn failed(folder: &Path, error: &io::Error) -> Fault {
    let message = format!("no key pair in {}: {error}", folder.display());
    Fault::new(FaultKind::Unavailable, "lian::proxmox::keys", message)
        .help("install OpenSSH's ssh-keygen, and make lian-build's data folder writable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_keeps_its_pair_until_it_is_removed() {
        use std::os::unix::fs::PermissionsExt as _;
        let keys = tempfile::tempdir().expect("a folder");
        let lease = LeaseId::from("../r-1");
        let one = pair(keys.path(), &lease).await.expect("a pair");
        assert!(one.identity.starts_with(keys.path().join("___r-1")), "{}", one.identity.display());
        assert!(one.public.starts_with("ssh-ed25519 AAAA"), "{}", one.public);
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&one.identity), mode(&keys.path().join("___r-1"))), (0o600, 0o700));
        assert_eq!(pair(keys.path(), &lease).await.expect("the same").public, one.public);
        remove(keys.path(), &lease).expect("removed");
        remove(keys.path(), &lease).expect("removed twice");
        assert!(!one.identity.exists());
    }
}

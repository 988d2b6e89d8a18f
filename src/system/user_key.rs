//! The key with which lian-build marks what it wrote for this user: 32 random bytes in the user's folder, made on first
//! use. Not responsible for: what is marked.

use std::io;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::confined;

/// Its file in the user's folder.
pub const FILE: &str = "key";
const BYTES: usize = 32;

/// The user's key. It is never shown.
pub struct UserKey([u8; BYTES]);

impl std::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserKey")
    }
}

impl UserKey {
    /// The key in the user's folder; `None` if none was made yet.
    ///
    /// # Errors
    /// What keeps it from being read; `InvalidData` with a text if others could know it, or if it is no key.
    pub fn read(user: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;
        let opened = confined::open(user).and_then(|folder| folder.open_file(FILE));
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let found = file.metadata()?;
        let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(odd("it belongs to another user"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(odd("other users can read or write it"));
        }
        if found.len() != BYTES as u64 {
            return Err(odd("it is not 32 bytes long"));
        }
        let mut key = [0; BYTES];
        io::Read::read_exact(&mut file, &mut key)?;
        Ok(Some(Self(key)))
    }

    /// The same; makes it if there is none. Of many processes that make it at once, all get the same.
    ///
    /// # Errors
    /// As [`Self::read`], and what keeps it from being written.
    pub fn make(user: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        if let Some(key) = Self::read(user)? {
            return Ok(key);
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(user)?;
        let mut key = [0; BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        match confined::open(user)?.write_new(FILE, &key) {
            Ok(()) => Ok(Self(key)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::read(user)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it vanished"))
            }
            Err(error) => Err(error),
        }
    }

    /// The mark of these fields, in hex digits. Nobody without the key can make it.
    pub fn mark(&self, fields: &[&str]) -> String {
        let bytes = self.over(fields).finalize().into_bytes();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this is the mark of these fields.
    pub fn is_mark(&self, fields: &[&str], mark: &str) -> bool {
        let digits = mark.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        digits.collect::<Option<Vec<u8>>>().is_some_and(|bytes| self.over(fields).verify_slice(&bytes).is_ok())
    }

    /// Each field goes with its length, so that no two lists of fields are the same bytes.
    fn over(&self, fields: &[&str]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("invariant: a key of any length is taken");
        for field in fields {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn all_who_make_it_at_once_get_the_same_key_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let user = folder.path().join("share/lian-build");
        assert!(UserKey::read(&user).expect("an answer").is_none());
        let start = std::sync::Barrier::new(16);
        let marks: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let made = || {
                start.wait();
                UserKey::make(&user).expect("a key").mark(&["x"])
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(made)).collect();
            threads.into_iter().map(|thread| thread.join().expect("made")).collect()
        });
        assert_eq!(marks.len(), 1);
        let key = user.join(FILE);
        assert_eq!(std::fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&user).expect("a folder").count(), 1, "a temporary file is left");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("set");
        assert!(UserKey::read(&user).expect_err("others can read it").to_string().contains("other users"));
        std::fs::remove_file(&key).expect("removable");
        std::os::unix::fs::symlink("/dev/zero", &key).expect("a link");
        assert!(UserKey::make(&user).expect_err("a link").to_string().contains("symbolic link"));
    }

    #[test]
    fn a_mark_is_of_its_key_and_of_its_fields() {
        let (one, other) = (UserKey([1; BYTES]), UserKey([2; BYTES]));
        let mark = one.mark(&["ab", "c"]);
        assert!(one.is_mark(&["ab", "c"], &mark));
        assert!(
            !one.is_mark(&["a", "bc"], &mark) && !one.is_mark(&["ab"], &mark) && !other.is_mark(&["ab", "c"], &mark)
        );
        for odd in ["", "zz", "é", &mark[1..], &mark[..10], &format!("{mark}00")] {
            assert!(!one.is_mark(&["ab", "c"], odd), "{odd}");
        }
    }
}

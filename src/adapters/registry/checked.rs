//! Checks that a layout's blobs have the content that their names say, each once: what was checked is remembered by its
//! file's number, size and times, in the user's folder, where no repository can write. Not responsible for: manifests.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Stat};

use crate::domain::base::{Digest, Hasher};
use crate::system::confined::{self, Folder};
use crate::system::since_epoch;

/// The folder of these files in the user's folder.
const FOLDER: &str = "checked";
/// The most bytes of such a file that are read: about 200,000 blobs.
const MOST: u64 = 32 << 20;
/// A file whose last change is nearer than this may change again without another time: kernels count in ticks of up to
/// 10 ms, and some file systems in steps of two seconds.
const TICK: Duration = Duration::from_millis(50);
const COARSE: Duration = Duration::from_secs(2);

/// What is wrong with a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// The blob.
    pub(super) blob: Digest,
    /// What is wrong with it.
    pub(super) what: String,
}

/// What was checked in one layout.
#[derive(Debug)]
pub(super) struct Checked {
    user: PathBuf,
    /// Of the file in [`FOLDER`].
    name: String,
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the blob's hex digits.
    blobs: HashMap<String, Stamp>,
    is_new: bool,
}

/// Nobody but root can set the time of a file's last change (ctime).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i128; 5]);

impl Stamp {
    fn of(device: u64, inode: u64, size: i128, modified: (i64, i64), changed: (i64, i64)) -> Self {
        let nanos = |(seconds, nanos): (i64, i64)| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self([device.into(), inode.into(), size, nanos(modified), nanos(changed)])
    }

    fn of_file(found: &Metadata) -> Self {
        let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        Self::of(found.dev(), found.ino(), found.len().into(), modified, changed)
    }

    /// The types differ between architectures.
    #[allow(clippy::useless_conversion, clippy::cast_possible_wrap, clippy::unnecessary_cast)]
    fn of_stat(found: &Stat) -> Self {
        let modified = (found.st_mtime as i64, found.st_mtime_nsec as i64);
        let changed = (found.st_ctime as i64, found.st_ctime_nsec as i64);
        Self::of(found.st_dev.into(), found.st_ino.into(), found.st_size.into(), modified, changed)
    }

    /// Whether the file was changed so long ago that any later change has another time.
    fn is_settled(&self) -> bool {
        let changed = self.0[4];
        let step = if changed % 1_000_000_000 == 0 { COARSE } else { TICK };
        // The clock that files are stamped by, which may be set.
        let now = since_epoch().as_nanos();
        i128::try_from(now).is_ok_and(|now| now - changed > i128::try_from(step.as_nanos()).unwrap_or(i128::MAX))
    }
}

impl Checked {
    /// What was checked of the layout in this folder.
    pub(super) fn of(layout: &Path, user: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Digest::of(layout.as_os_str().as_bytes()).hex()[..24].to_owned();
        Self { user: user.to_owned(), name, known: Mutex::new(None) }
    }

    /// Whether a blob has this size, and the content of its digest.
    pub(super) fn check(&self, blobs: &Folder, blob: &Digest, size: u64) -> Result<(), Damage> {
        let damage = |what: &str| Damage { blob: blob.clone(), what: what.to_owned() };
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => damage("it is missing"),
            _ => damage(&format!("it cannot be read: {error}")),
        };
        let found = blobs.stat(blob.hex()).map_err(unread)?.ok_or_else(|| damage("it is missing"))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            if i128::from(found.st_size) != i128::from(size) {
                return Err(damage("it is truncated, or longer than it should be"));
            }
            if self.known().blobs.get(blob.hex()) == Some(&Stamp::of_stat(&found)) {
                return Ok(());
            }
        }
        let mut file = blobs.open_file(blob.hex()).map_err(unread)?;
        let before = Stamp::of_file(&file.metadata().map_err(unread)?);
        if digest_of(&mut file, size).map_err(unread)? != *blob {
            return Err(damage("its content has another digest"));
        }
        let after = Stamp::of_file(&file.metadata().map_err(unread)?);
        if before == after && after.is_settled() {
            let mut known = self.known();
            known.blobs.insert(blob.hex().to_owned(), after);
            known.is_new = true;
        }
        Ok(())
    }

    fn known(&self) -> Guard<'_> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(Known { blobs: self.read().unwrap_or_default(), is_new: false });
        }
        Guard(known)
    }

    /// A file that is missing or odd says nothing: all is checked again.
    fn read(&self) -> Option<HashMap<String, Stamp>> {
        let folder = confined::open(&self.user).ok()?.folder(FOLDER).ok()?;
        folder.is_own().ok()?;
        let text = String::from_utf8(folder.read(&self.name, MOST).ok()?).ok()?;
        let line = |line: &str| {
            let mut words = line.split(' ');
            let blob = words.next()?.to_owned();
            let numbers = words.map(|word| word.parse().ok()).collect::<Option<Vec<i128>>>()?;
            Some((blob, Stamp(numbers.try_into().ok()?)))
        };
        text.lines().map(line).collect()
    }

    /// Writes down what was checked, if any of it is new. A failure costs time, the next time.
    fn write(&self, known: &Known) -> io::Result<()> {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (blob, Stamp(numbers)) in &known.blobs {
            text.push_str(blob);
            for number in numbers {
                let _ = write!(text, " {number}");
            }
            text.push('\n');
        }
        // Blobs that are long gone would fill it some day.
        let text = if text.len() as u64 > MOST { String::new() } else { text };
        confined::open(&self.user)?.make_folder(FOLDER)?.write_whole(&self.name, text.as_bytes())
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.is_new)
            && let Err(error) = self.write(known)
        {
            tracing::debug!(%error, "what was checked is not remembered");
        }
    }
}

struct Guard<'a>(MutexGuard<'a, Option<Known>>);

impl std::ops::Deref for Guard<'_> {
    type Target = Known;

    fn deref(&self) -> &Known {
        self.0.as_ref().expect("invariant: it was read before it was given away")
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Known {
        self.0.as_mut().expect("invariant: it was read before it was given away")
    }
}

/// The digest of a file, of which no more than one byte after `size` is read.
fn digest_of(file: &mut File, size: u64) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 17]);
    let mut file = file.take(size.saturating_add(1));
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

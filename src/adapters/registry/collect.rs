//! Garbage collection of a layout: keeps every image under `latest`, and the newest others that fit. Not responsible
//! for: collecting while a run uses the layout; it does nothing then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::fs::{FileType, Stat};

use super::files::{failed, open_lock, try_lock};
use super::index::{Entry, Index};
use super::layout::OciLayout;
use super::staging;
use crate::domain::base::{Digest, Timestamp};
use crate::domain::model::ImageName;
use crate::domain::ports::ImageStoreError;

/// How often to look whether anybody uses the layout, and how long to wait in between.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Limits on what a layout keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Maximum bytes. Images under `latest` are kept even above this limit.
    pub bytes: u64,
}

impl Default for KeepPolicy {
    /// The default limit: 50 GB.
    fn default() -> Self {
        Self { bytes: 50_000_000_000 }
    }
}

/// The result of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// A run uses the layout, so nothing was removed.
    pub busy: bool,
    /// Images whose tags were removed.
    pub images: usize,
    /// Files removed.
    pub blobs: usize,
    /// Bytes removed.
    pub freed: u64,
    /// Bytes remaining.
    pub kept: u64,
    /// Staging folders of dead processes that were removed.
    pub leftovers: usize,
}

impl OciLayout {
    /// Removes unreferenced blobs, then the oldest images without a `latest` tag until the rest fits.
    ///
    /// # Errors
    /// [`ImageStoreError`] if files cannot be read or removed.
    pub fn collect(&self, policy: KeepPolicy) -> Result<Collected, ImageStoreError> {
        self.unused(|layout| {
            let index = Index::read(&layout.shared.folder)?;
            let victims = victims(layout, &index, policy.bytes);
            layout.remove(index, |entry| !victims.contains(&entry.digest), victims.len())
        })
    }

    /// Removes every tag of an image and its artifacts, and the blobs that only they used.
    ///
    /// # Errors
    /// [`ImageStoreError`] if files cannot be read or removed.
    pub fn drop_image(&self, name: &str) -> Result<Collected, ImageStoreError> {
        let artifacts = ImageName::from(name).artifacts();
        self.unused(|layout| {
            let index = Index::read(&layout.shared.folder)?;
            let goes =
                |entry: &Entry| entry.name_and_tag().is_some_and(|(of, _)| of == name || of == artifacts.as_str());
            let images: BTreeSet<Digest> =
                index.entries().filter(|e| goes(e) && e.subject.is_none()).map(|entry| entry.digest).collect();
            layout.remove(index, |entry| !goes(entry), images.len())
        })
    }

    /// Runs while nobody uses the layout, or does nothing.
    fn unused(
        &self,
        work: impl FnOnce(&Self) -> Result<Collected, ImageStoreError>,
    ) -> Result<Collected, ImageStoreError> {
        let path = self.in_use_path();
        let users = [Some(open_lock(&path)?), self.shared.blobs.handle().ok()];
        // A child that this process is just starting holds its locks, too, until it runs its own program.
        let mut looks = 0;
        for users in users.iter().flatten() {
            while !try_lock(users, &path, false)? {
                looks += 1;
                if looks == LOOKS {
                    return Ok(Collected { busy: true, ..Collected::default() });
                }
                std::thread::sleep(PAUSE);
            }
        }
        let _alone = self.alone()?;
        work(self)
    }

    /// Removes index entries before blobs, so that no tag ever points to a missing blob.
    fn remove(
        &self,
        mut index: Index,
        mut keep: impl FnMut(&Entry) -> bool,
        images: usize,
    ) -> Result<Collected, ImageStoreError> {
        let mut gone = index.retain(&mut keep);
        let left: BTreeSet<Digest> = index.entries().map(|entry| entry.digest).collect();
        // Remove the parts together with their image.
        gone += index.retain(|entry| entry.subject.as_ref().is_none_or(|subject| left.contains(subject)));
        if gone > 0 {
            index.write(&self.shared.folder)?;
        }
        let mut needed = BTreeSet::new();
        for entry in index.entries() {
            needed.extend(self.whole_closure(&entry.digest)?.into_iter().map(|(digest, _)| digest));
        }
        let needed: BTreeSet<&str> = needed.iter().map(Digest::hex).collect();
        let mut done = Collected { images, leftovers: staging::sweep(&self.staging_root())?, ..Collected::default() };
        let (folder, blobs) = (self.blobs(), &self.shared.blobs);
        let list = blobs.names().map_err(|error| failed("cannot read the folder", &folder, error))?;
        for name in list.iter().filter_map(|name| name.to_str()) {
            let path = folder.join(name);
            let found = blobs.stat(name).map_err(|error| failed("cannot look at", &path, error))?;
            let Some(found) = found.filter(|found| is_own_name(name, found)) else { continue };
            let bytes = u64::try_from(found.st_size).unwrap_or(0);
            if needed.contains(name) {
                done.kept += bytes;
                continue;
            }
            blobs.remove_file(name).map_err(|error| failed("cannot remove", &path, error))?;
            done.blobs += 1;
            done.freed += bytes;
        }
        Ok(done)
    }
}

/// Whether this is a blob, or a half-written one. Whatever else lies among the blobs is not ours to remove.
fn is_own_name(name: &str, found: &Stat) -> bool {
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let half = name.strip_prefix('.').and_then(|rest| rest.split_once('-'));
    let is_half = half.is_some_and(|(of, _)| of == "tmp" || is_digest(of));
    FileType::from_raw_mode(found.st_mode) != FileType::Directory && (is_digest(name) || is_half)
}

/// The images to remove to get below the limit: oldest first, only ours, none under `latest`.
fn victims(layout: &OciLayout, index: &Index, bytes: u64) -> BTreeSet<Digest> {
    let mut ages: BTreeMap<Digest, Timestamp> = BTreeMap::new();
    let mut safe: BTreeSet<Digest> = BTreeSet::new();
    for entry in index.entries().filter(|entry| entry.subject.is_none()) {
        match (entry.name_and_tag(), entry.promoted_at) {
            (Some((_, tag)), Some(at)) if tag != "latest" => {
                let age = ages.entry(entry.digest).or_default();
                *age = (*age).max(at);
            }
            _ => {
                safe.insert(entry.digest);
            }
        }
    }
    let mut holders: BTreeMap<(Digest, u64), usize> = BTreeMap::new();
    let images: BTreeSet<&Digest> = ages.keys().chain(&safe).collect();
    for image in images {
        for blob in layout.closure(image) {
            *holders.entry(blob).or_default() += 1;
        }
    }
    let mut total: u64 = holders.keys().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size));
    let mut oldest: Vec<(Timestamp, Digest)> =
        ages.into_iter().filter(|(digest, _)| !safe.contains(digest)).map(|(digest, at)| (at, digest)).collect();
    oldest.sort();
    let mut victims = BTreeSet::new();
    for (_, digest) in oldest {
        if total <= bytes {
            break;
        }
        for blob in layout.closure(&digest) {
            let size = blob.1;
            if let Some(count) = holders.get_mut(&blob) {
                *count -= 1;
                total = total.saturating_sub(if *count == 0 { size } else { 0 });
            }
        }
        victims.insert(digest);
    }
    victims
}

//! Which images of a layout are used again: those that this user's lian-build wrote, with all digests checked. Not
//! responsible for: their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use oci_spec::image::ImageManifest;

use super::checked::Damage;
use super::index::Index;
use super::layout::OciLayout;
use super::parts;
use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{ImageName, ImageRecord, KEY_LABEL, LayerKey, Unusable};
use crate::domain::ports::{Found, ImageStoreError};
use crate::system::oci::{self, ConfigFile, Manifest};

/// The most bytes of a record that are read: it lists every file of a context.
const MOST_OF_RECORD: u64 = 64 << 20;

/// What is under a tag.
enum Look {
    Absent,
    Unusable(Unusable),
    Usable(Found),
}

impl OciLayout {
    /// The image of a tag. One that cannot be used counts as absent, so that it is built again.
    pub(super) fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError> {
        Ok(match self.look(name, tag)? {
            Look::Usable(found) => Some(found),
            Look::Absent | Look::Unusable(_) => None,
        })
    }

    /// Why nothing of this key can be used although something is there.
    pub(super) fn unusable(&self, name: &ImageName, key: &LayerKey) -> Result<Option<Unusable>, ImageStoreError> {
        let found = match self.look(name.as_str(), &key.tag())? {
            Look::Absent => return Ok(None),
            Look::Unusable(why) => return Ok(Some(why)),
            Look::Usable(found) => found,
        };
        if found.key.as_ref() != Some(key) {
            return Ok(None);
        }
        if let Look::Unusable(why) = self.look(name.artifacts().as_str(), &key.tag())? {
            return Ok(Some(why));
        }
        let record = self.index()?.belonging(&found.digest, name.as_str());
        Ok(match (record, self.built_on(name.as_str(), &found.digest)?) {
            (_, Some(_)) | (None, None) => None,
            (Some(record), None) if !self.shared.marks.is_own(&record, None)? => Some(Unusable::NotYours),
            (Some(_), None) => Some(Unusable::Damaged),
        })
    }

    /// Whether all that belongs to an image is whole.
    pub(super) fn check(&self, name: &str, digest: &Digest) -> Result<(), ImageStoreError> {
        let whole = self.sized_manifest(digest).and_then(|(top, size)| self.bytes(&top, size));
        whole.map(drop).map_err(|damage| {
            let (path, what, name) = (self.blob(&damage.blob), damage.what, name.to_owned());
            ImageStoreError::Corrupt { path, what, name }
        })
    }

    fn look(&self, name: &str, tag: &str) -> Result<Look, ImageStoreError> {
        let Some(entry) = self.index()?.find(name, tag) else { return Ok(Look::Absent) };
        let damaged = |damage: Damage| {
            self.tell(name, tag, &entry.digest, &damage);
            Ok(Look::Unusable(Unusable::Damaged))
        };
        let (top, size, config) = match self.described(&entry.digest) {
            Ok(described) => described,
            Err(damage) => return damaged(damage),
        };
        let key = config.label(KEY_LABEL).and_then(|key| key.parse().ok()).map(LayerKey);
        if key.is_none() || !self.shared.marks.is_own(&entry, key.as_ref())? {
            return Ok(Look::Unusable(Unusable::NotYours));
        }
        match self.bytes(&top, size) {
            Ok(bytes) => {
                let (digest, platform) = (entry.digest.clone(), Some(config.platform()));
                Ok(Look::Usable(Found { digest, key, platform, bytes }))
            }
            Err(damage) => damaged(damage),
        }
    }

    /// An image's manifest or index with its size, and a config of it.
    fn described(&self, digest: &Digest) -> Result<(Manifest, u64, ConfigFile), Damage> {
        let no_image = || Damage { blob: digest.clone(), what: "it holds no image".to_owned() };
        let (top, size) = self.sized_manifest(digest)?;
        let image = self.image(&top, None).ok_or_else(no_image)??;
        let config = self.config_of(&image).ok_or_else(no_image)??;
        Ok((top, size, config))
    }

    /// The bytes of an image, all of whose blobs are checked.
    fn bytes(&self, top: &Manifest, size: u64) -> Result<u64, Damage> {
        let (mut seen, mut bytes, mut waiting) = (BTreeSet::new(), size, vec![top.clone()]);
        while let Some(manifest) = waiting.pop() {
            for blob in manifest.blobs().chain(manifest.children()) {
                let digest = oci::digest(blob);
                if seen.insert(digest.clone()) {
                    self.shared.checked.check(&self.shared.blobs, &digest, blob.size())?;
                    bytes = bytes.saturating_add(blob.size());
                }
            }
            for child in manifest.children() {
                // No manifest holds its own digest, so this ends.
                waiting.push(self.manifest(&oci::digest(child))?);
            }
        }
        Ok(bytes)
    }

    /// Tells of a damaged image, once.
    fn tell(&self, name: &str, tag: &str, image: &Digest, damage: &Damage) {
        if self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).insert(image.clone()) {
            let Damage { blob, what } = damage;
            tracing::warn!("the image {name}:{tag} is damaged and counts as not there: of its blob {blob}, {what}");
        }
    }

    /// The record of a tag's image.
    pub(super) fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        let index = self.index()?;
        let Some(image) = index.find(name, tag) else { return Ok(None) };
        Ok(self.parts(&index, name, &image.digest)?.and_then(|artifact| self.record_in(&artifact)))
    }

    /// The parent images that an image was built on. A record that is incomplete or somebody else's counts as absent.
    pub(super) fn built_on(
        &self,
        name: &str,
        image: &Digest,
    ) -> Result<Option<BTreeMap<LayerName, Digest>>, ImageStoreError> {
        let Some(artifact) = self.parts(&*self.index()?, name, image)? else { return Ok(None) };
        let Some(record) = parts::record_in(&artifact) else { return Ok(None) };
        let blob = oci::digest(record);
        if let Err(damage) = self.shared.checked.check(&self.shared.blobs, &blob, record.size()) {
            self.tell(name, "its record", &blob, &damage);
            return Ok(None);
        }
        Ok(parts::built_on(&artifact).or_else(|| self.record_in(&artifact).map(|record| record.built_on)))
    }

    /// The artifact attached to an image, if this user's lian-build wrote it.
    pub(super) fn parts(
        &self,
        index: &Index,
        name: &str,
        image: &Digest,
    ) -> Result<Option<Box<ImageManifest>>, ImageStoreError> {
        let Some(entry) = index.belonging(image, name) else { return Ok(None) };
        if !self.shared.marks.is_own(&entry, None)? {
            return Ok(None);
        }
        Ok(match self.manifest(&entry.digest) {
            Ok(Manifest::Image(artifact)) => Some(artifact),
            Ok(Manifest::Index(_)) => None,
            Err(damage) => {
                self.tell(name, "its record", &entry.digest, &damage);
                None
            }
        })
    }

    fn record_in(&self, artifact: &ImageManifest) -> Option<ImageRecord> {
        let bytes = self.content(&oci::digest(parts::record_in(artifact)?), MOST_OF_RECORD).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;

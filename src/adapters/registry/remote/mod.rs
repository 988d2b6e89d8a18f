//! An OCI registry, by its address, as an image store. What a registry has no notion of is kept in a folder of this
//! machine: claims, and staging. Not responsible for: collecting, which is the registry's own business.

mod address;
mod api_error;
mod auth;
mod body;
mod promote;
mod pull;
mod push;
mod wire;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use oci_spec::image::Descriptor;

use super::blocking::blocking;
use super::{claim, staging};
use crate::domain::base::{Digest, Platform};
use crate::domain::model::{ImageRecord, KEY_LABEL, LayerKey};
use crate::domain::ports::{
    Claim, Found, ImageConfig, ImageSource, ImageStore, ImageStoreError, PushTarget, Staged, StagingFolder,
};
use crate::system::oci;
use wire::Wire;

pub use address::{Address, AddressError};

/// A registry.
pub struct Registry {
    wire: Wire,
    folder: PathBuf,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("address", &self.wire.address)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry at this address. Claims and staging are kept in `folder`, the project's `.lian`, which is made when it
    /// is needed. Nothing is asked of the registry yet.
    ///
    /// # Errors
    /// [`ImageStoreError`] where this machine cannot speak to any registry.
    pub fn new(address: Address, folder: impl Into<PathBuf>) -> Result<Self, ImageStoreError> {
        Ok(Self { wire: Wire::new(address)?, folder: folder.into() })
    }

    /// Whether a project, by its folder `.lian`, has kept images in a registry; what dead processes left is removed.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn tidy(folder: &Path) -> Result<bool, ImageStoreError> {
        staging::sweep(&folder.join("staging"))?;
        Ok(folder.join("claims").is_dir())
    }

    async fn look(&self, name: &str, reference: &str) -> Result<Option<Found>, ImageStoreError> {
        let repository = self.wire.address.repository(name);
        let Some(top) = self.wire.manifest(&repository, reference).await? else { return Ok(None) };
        let (digest, mut bytes) = (top.digest.clone(), u64::try_from(top.bytes.len()).unwrap_or(u64::MAX));
        let children: Vec<Digest> = top.manifest.children().iter().map(oci::digest).collect();
        let Some((image, config)) = self.wire.image(&repository, top, None).await? else {
            tracing::warn!(name, reference, %digest, "the image is damaged: the registry lacks parts of it");
            return Ok(None);
        };
        let key = config.label(KEY_LABEL).and_then(|key| key.parse().ok()).map(LayerKey);
        bytes += image.manifest.blobs().map(Descriptor::size).sum::<u64>();
        for child in children {
            let known = child == image.digest;
            let child =
                if known { Some(image.clone()) } else { self.wire.manifest(&repository, child.as_str()).await? };
            let Some(child) = child else { return Ok(None) };
            let own = if known { 0 } else { child.manifest.blobs().map(Descriptor::size).sum() };
            bytes += own + u64::try_from(child.bytes.len()).unwrap_or(u64::MAX);
        }
        Ok(Some(Found { digest, key, platform: Some(config.platform()), bytes }))
    }
}

#[async_trait]
impl ImageStore for Registry {
    async fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError> {
        self.look(name, tag).await
    }

    /// Records are kept under the tag of their key.
    async fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        let repository = self.wire.address.repository(name);
        let (image, tag) = if tag.starts_with("key-") {
            (self.wire.digest(&repository, tag).await?, Some(tag.to_owned()))
        } else {
            let found = self.look(name, tag).await?;
            let key = found.as_ref().and_then(|found| found.key.as_ref()).map(LayerKey::tag);
            (found.map(|found| found.digest), key)
        };
        match image.zip(tag) {
            Some((image, tag)) => self.wire.record(&repository, &format!("{tag}.parts"), &image).await,
            None => Ok(None),
        }
    }

    async fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError> {
        promote::point(&self.wire, (&name.into(), tag), key).await
    }

    /// Registries have no locks: another machine may build the same key at the same time, and the later image stays.
    async fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
        let (folder, key) = (self.folder.join("claims"), key.clone());
        blocking(move || claim::claim(&folder, &key)).await
    }

    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
        let folder = self.folder.join("staging");
        blocking(move || Ok(Box::new(staging::create(&folder)?) as Box<dyn StagingFolder>)).await
    }

    fn source(&self, name: &str, digest: &Digest) -> ImageSource {
        ImageSource::Registry { name: self.wire.address.target(name).name, digest: digest.clone() }
    }

    fn push_target(&self, name: &str) -> Option<PushTarget> {
        Some(self.wire.address.target(name))
    }

    async fn config(
        &self,
        name: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<ImageConfig>, ImageStoreError> {
        let repository = self.wire.address.repository(name);
        let Some(top) = self.wire.manifest(&repository, digest.as_str()).await? else { return Ok(None) };
        let image = self.wire.image(&repository, top, Some(platform)).await?;
        Ok(image.map(|(_, config)| config.processes()))
    }

    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError> {
        promote::promote(&self.wire, staged).await
    }
}

#[cfg(test)]
mod tests;

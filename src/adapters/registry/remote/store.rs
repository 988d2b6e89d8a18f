//! Implements the image store port for a registry. Claims and staging, which registries lack, use a local folder. Not
//! responsible for: the order of writes (see `promote`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use oci_spec::image::{Descriptor, ImageManifest};

use super::super::blocking::blocking;
use super::super::client::{Access, Client, Endpoint};
use super::super::{claim, parts, staging};
use super::address::Address;
use super::{fetch, promote};
use crate::domain::base::{Digest, LayerName, Platform};
use crate::domain::model::{ImageRecord, KEY_LABEL, LayerKey};
use crate::domain::ports::{
    CACHE, Claim, Found, ImageConfig, ImageSource, ImageStore, ImageStoreError, NEXT_CACHE, PushTarget, Staged,
    StagingFolder,
};
use crate::system::oci::{self, Manifest};

/// Maximum number of retries per request.
const RETRIES: u32 = 3;

/// A registry.
pub struct Registry {
    pub(super) address: Address,
    pub(super) client: Client,
    folder: PathBuf,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("address", &self.address).field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry at this address. Claims and staging go to `folder`, the project's state folder, created when needed.
    /// Sends no request yet.
    ///
    /// # Errors
    /// [`ImageStoreError`] if the HTTP client cannot be created.
    pub fn new(address: Address, folder: impl Into<PathBuf>) -> Result<Self, ImageStoreError> {
        let (host, plain_http) = (address.host().to_owned(), address.plain_http());
        let endpoint = Endpoint { host, plain_http, access: Access::PullAndPush, retries: RETRIES };
        Ok(Self { client: Client::new(&endpoint)?, address, folder: folder.into() })
    }

    /// Removes leftovers of dead processes in a project's state folder. Returns whether the project has used a registry.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn tidy(folder: &Path) -> Result<bool, ImageStoreError> {
        staging::sweep(&folder.join("staging"))?;
        Ok(folder.join("claims").is_dir())
    }

    /// The artifact under the tag of the image's key, if it belongs to this image.
    async fn parts(
        &self,
        repository: &str,
        key_tag: &str,
        image: &Digest,
    ) -> Result<Option<Box<ImageManifest>>, ImageStoreError> {
        let artifact = self.client.manifest(repository, &parts::tag(key_tag)).await?;
        let Some(Manifest::Image(artifact)) = artifact.map(|raw| raw.manifest) else { return Ok(None) };
        let own = artifact.subject().as_ref().is_some_and(|subject| oci::digest(subject) == *image);
        Ok(own.then_some(artifact))
    }

    async fn record_in(
        &self,
        repository: &str,
        artifact: &ImageManifest,
    ) -> Result<Option<ImageRecord>, ImageStoreError> {
        let Some(blob) = parts::record_in(artifact) else { return Ok(None) };
        let bytes = self.client.blob(repository, &oci::digest(blob)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    async fn look(&self, name: &str, reference: &str) -> Result<Option<Found>, ImageStoreError> {
        let repository = self.address.repository(name);
        let Some(top) = self.client.manifest(&repository, reference).await? else { return Ok(None) };
        let (digest, mut bytes) = (top.digest.clone(), u64::try_from(top.bytes.len()).unwrap_or(u64::MAX));
        let children: Vec<Digest> = top.manifest.children().iter().map(oci::digest).collect();
        let Some((image, config)) = self.client.image(&repository, top, None).await? else {
            tracing::warn!(name, reference, %digest, "the image is damaged: the registry lacks parts of it");
            return Ok(None);
        };
        let key = config.label(KEY_LABEL).and_then(|key| key.parse().ok()).map(LayerKey);
        bytes += image.manifest.blobs().map(Descriptor::size).sum::<u64>();
        for child in children {
            let known = child == image.digest;
            let child =
                if known { Some(image.clone()) } else { self.client.manifest(&repository, child.as_str()).await? };
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

    /// A record is stored under a tag derived from its key's tag.
    async fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        let repository = self.address.repository(name);
        let (image, tag) = if tag.starts_with("key-") {
            (self.client.digest(&repository, tag).await?, Some(tag.to_owned()))
        } else {
            let found = self.look(name, tag).await?;
            let key = found.as_ref().and_then(|found| found.key.as_ref()).map(LayerKey::tag);
            (found.map(|found| found.digest), key)
        };
        let Some((image, tag)) = image.zip(tag) else { return Ok(None) };
        let Some(artifact) = self.parts(&repository, &tag, &image).await? else { return Ok(None) };
        self.record_in(&repository, &artifact).await
    }

    /// Saves two requests and the download of the large record.
    async fn built_on(
        &self,
        name: &str,
        key: &LayerKey,
        image: &Digest,
    ) -> Result<Option<BTreeMap<LayerName, Digest>>, ImageStoreError> {
        let repository = self.address.repository(name);
        let Some(artifact) = self.parts(&repository, &key.tag(), image).await? else { return Ok(None) };
        match parts::built_on(&artifact) {
            Some(built_on) => Ok(Some(built_on)),
            None => Ok(self.record_in(&repository, &artifact).await?.map(|record| record.built_on)),
        }
    }

    async fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError> {
        promote::point(&self.client, &self.address, &name.into(), tag, key).await
    }

    /// Registries have no locks: if another machine builds the same key at the same time, the later image stays.
    async fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
        let (folder, key) = (self.folder.join("claims"), key.clone());
        blocking(move || claim::claim(&folder, &key)).await
    }

    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
        let folder = self.folder.join("staging");
        blocking(move || Ok(Box::new(staging::create(&folder)?) as Box<dyn StagingFolder>)).await
    }

    fn source(&self, name: &str, digest: &Digest) -> ImageSource {
        ImageSource::Registry { name: self.address.target(name).name, digest: digest.clone() }
    }

    async fn layout_of(
        &self,
        name: &str,
        digest: &Digest,
        platform: &Platform,
        scratch: &Path,
    ) -> Result<PathBuf, ImageStoreError> {
        let image = fetch::Wanted { repository: &self.address.repository(name), digest, platform };
        fetch::image(&self.client, image, scratch).await?;
        Ok(scratch.to_owned())
    }

    fn push_target(&self, name: &str) -> Option<PushTarget> {
        Some(self.address.target(name))
    }

    async fn config(
        &self,
        name: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<ImageConfig>, ImageStoreError> {
        let repository = self.address.repository(name);
        let Some(top) = self.client.manifest(&repository, digest.as_str()).await? else { return Ok(None) };
        let image = self.client.image(&repository, top, Some(platform)).await?;
        Ok(image.map(|(_, config)| config.processes()))
    }

    /// Looks for a tag, and begins an upload that it cancels.
    async fn probe(&self) -> Result<String, ImageStoreError> {
        let repository = self.address.repository("lian-build/doctor");
        self.client.digest(&repository, "none").await?;
        self.client.try_upload(&repository).await?;
        Ok(self.address.shown())
    }

    async fn promote_cache(&self, repository: &str) -> Result<bool, ImageStoreError> {
        let repository = self.address.repository(repository);
        let Some(next) = self.client.manifest(&repository, NEXT_CACHE).await? else { return Ok(false) };
        self.client.put_manifest(&repository, CACHE, &next).await?;
        Ok(true)
    }

    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError> {
        promote::promote(&self.client, &self.address, staged).await
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

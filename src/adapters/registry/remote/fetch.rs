//! Fetches an image, with its layers, into a folder. Not responsible for: reading it.

use std::path::{Path, PathBuf};

use super::super::client::{Client, RawManifest};
use super::super::files::{failed, make_folder};
use crate::domain::base::{Digest, Platform};
use crate::domain::ports::ImageStoreError;
use crate::system::oci;

/// An image to fetch.
pub(super) struct Wanted<'a> {
    pub(super) repository: &'a str,
    /// The image, or an index.
    pub(super) digest: &'a Digest,
    /// From an index, the image of this platform.
    pub(super) platform: &'a Platform,
}

/// Fetches the blobs of an image into a folder, as an OCI layout has them.
pub(super) async fn image(client: &Client, wanted: Wanted<'_>, into: &Path) -> Result<(), ImageStoreError> {
    let Wanted { repository, digest, platform } = wanted;
    let blobs = into.join("blobs/sha256");
    make_folder(&blobs)?;
    let missing = |what: &str| ImageStoreError::Corrupt {
        path: PathBuf::from(format!("{repository}@{digest}")),
        what: what.to_owned(),
        name: repository.to_owned(),
    };
    let top = client.manifest(repository, digest.as_str()).await?.ok_or_else(|| missing("it is not there"))?;
    put(&blobs, &top)?;
    let image = client.image(repository, top, Some(platform)).await?;
    let (image, _) = image.ok_or_else(|| missing("the registry lacks parts of it"))?;
    put(&blobs, &image)?;
    for blob in image.manifest.blobs().map(oci::digest) {
        let file = blobs.join(blob.hex());
        if !file.is_file() {
            client.blob_into(repository, &blob, &file).await?;
        }
    }
    Ok(())
}

fn put(blobs: &Path, manifest: &RawManifest) -> Result<(), ImageStoreError> {
    let file = blobs.join(manifest.digest.hex());
    std::fs::write(&file, &manifest.bytes).map_err(|error| failed("cannot write", &file, error))
}

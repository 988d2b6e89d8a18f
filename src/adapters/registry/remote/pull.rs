//! Reading from a registry: manifests and small blobs, each held against its digest. Not responsible for: layers, which only BuildKit
//! reads.

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::super::parts;
use super::auth::Scope;
use super::wire::{Call, Payload, Wire};
use crate::domain::base::{Digest, Platform};
use crate::domain::model::ImageRecord;
use crate::domain::ports::ImageStoreError;
use crate::system::oci::{self, ConfigFile, Manifest};

/// The media types that an image or a record may have.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// Registries take no larger ones.
const MANIFEST_BYTES: usize = 4 << 20;
/// A record names every file of a context.
const BLOB_BYTES: usize = 256 << 20;
/// What the registry says that the content's digest is.
const CONTENT_DIGEST: &str = "Docker-Content-Digest";

/// A manifest or an index, byte for byte.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) kind: String,
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
}

impl Sealed {
    /// Reads one; what is wrong with it where it is none.
    pub(super) fn read(bytes: Bytes) -> Result<Self, String> {
        let manifest = Manifest::read(&bytes).map_err(|error| error.to_string())?;
        Ok(Self { kind: manifest.media_type().to_string(), digest: Digest::of(&bytes), bytes, manifest })
    }

    /// How others name it.
    pub(super) fn descriptor(&self) -> Descriptor {
        oci::describe(self.kind.as_str().into(), &self.bytes)
    }
}

impl Wire {
    /// The manifest that a tag or a digest stands for, if there is one.
    pub(super) async fn manifest(&self, repository: &str, reference: &str) -> Result<Option<Sealed>, ImageStoreError> {
        let call = self.question(Method::GET, repository, &format!("manifests/{reference}"), Some(MANIFESTS));
        let (status, headers, bytes) = self.read(&call, MANIFEST_BYTES).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.faults.answered(repository, status, &bytes)),
        }
        let told = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let promised = reference.parse().ok().or_else(|| told(CONTENT_DIGEST)?.parse::<Digest>().ok());
        let place = format!("{repository} {reference}");
        if promised.is_some_and(|promised| promised != Digest::of(&bytes)) {
            return Err(self.faults.tampered(&place));
        }
        let mut sealed = Sealed::read(bytes).map_err(|what| {
            let help = "something else than lian-build put it there: delete the tag, or use another `registry.address`";
            self.faults.told(format!("holds no image at {place}: {what}"), help)
        })?;
        if sealed.manifest.named_media_type().is_none()
            && let Some(kind) = told(CONTENT_TYPE.as_str())
        {
            sealed.kind = kind.split(';').next().unwrap_or(kind).trim().to_owned();
        }
        Ok(Some(sealed))
    }

    /// The digest that a tag stands for, if there is one.
    pub(super) async fn digest(&self, repository: &str, tag: &str) -> Result<Option<Digest>, ImageStoreError> {
        let call = self.question(Method::HEAD, repository, &format!("manifests/{tag}"), Some(MANIFESTS));
        let response = self.send(&call).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refused(call.scope, response).await),
        }
        let told = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        match told.and_then(|told| told.parse().ok()) {
            Some(digest) => Ok(Some(digest)),
            None => Ok(self.manifest(repository, tag).await?.map(|sealed| sealed.digest)),
        }
    }

    /// Whether a blob is there.
    pub(super) async fn has(&self, repository: &str, digest: &Digest) -> Result<bool, ImageStoreError> {
        let call = self.question(Method::HEAD, repository, &format!("blobs/{digest}"), None);
        let response = self.send(&call).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(call.scope, response).await),
        }
    }

    /// A small blob.
    pub(super) async fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<Bytes>, ImageStoreError> {
        let call = self.question(Method::GET, repository, &format!("blobs/{digest}"), None);
        let (status, _, bytes) = self.read(&call, BLOB_BYTES).await?;
        match status {
            StatusCode::OK if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            StatusCode::OK => Err(self.faults.tampered(&format!("{repository} {digest}"))),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(self.faults.answered(repository, status, &bytes)),
        }
    }

    /// The manifest of the image itself and its config: an index has several, of which one is for the platform.
    pub(super) async fn image(
        &self,
        repository: &str,
        top: Sealed,
        platform: Option<&Platform>,
    ) -> Result<Option<(Sealed, ConfigFile)>, ImageStoreError> {
        let sealed = match (&top.manifest, top.manifest.image_for(platform)) {
            (Manifest::Image(_), _) => top,
            (Manifest::Index(_), Some(child)) => match self.manifest(repository, oci::digest(child).as_str()).await? {
                Some(child) => child,
                None => return Ok(None),
            },
            (Manifest::Index(_), None) => return Ok(None),
        };
        let Some(config) = sealed.manifest.config().map(oci::digest) else { return Ok(None) };
        let Some(bytes) = self.blob(repository, &config).await? else { return Ok(None) };
        Ok(ConfigFile::read(&bytes).map(|config| (sealed, config)))
    }

    /// The record kept under a tag, if it is the one of this image.
    pub(super) async fn record(
        &self,
        repository: &str,
        tag: &str,
        image: &Digest,
    ) -> Result<Option<ImageRecord>, ImageStoreError> {
        let Some(artifact) = self.manifest(repository, tag).await? else { return Ok(None) };
        let Manifest::Image(artifact) = artifact.manifest else { return Ok(None) };
        let own = artifact.subject().as_ref().is_some_and(|subject| oci::digest(subject) == *image);
        let Some(blob) = parts::record_in(&artifact).filter(|_| own) else { return Ok(None) };
        let bytes = self.blob(repository, &oci::digest(blob)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn question<'a>(&self, method: Method, repository: &'a str, rest: &str, accept: Option<&'static str>) -> Call<'a> {
        let scope = Scope { repository, beside: None };
        Call { method, url: self.url(repository, rest), scope, accept, body: Payload::Nothing }
    }
}

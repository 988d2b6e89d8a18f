//! Reads manifests and blobs from a registry and checks their digests. Not responsible for: what builds read, which is
//! BuildKit's.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::super::files::failed;
use super::api_error::{ApiError, Cause};
use super::auth::Scope;
use super::request::{Client, Payload, Request};
use crate::domain::base::{Digest, Hasher, Platform};
use crate::system::oci::{self, ConfigFile, Manifest};

/// Accepted media types of images and records.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// Maximum size of a manifest; registries do not accept larger ones.
const MANIFEST_BYTES: usize = 4 << 20;
/// Maximum size of a record. It can be large because it lists every file of a context.
const BLOB_BYTES: usize = 256 << 20;
/// Response header with the digest of the content.
const CONTENT_DIGEST: &str = "Docker-Content-Digest";

/// A manifest or an index, byte for byte.
#[derive(Debug, Clone)]
pub(in super::super) struct RawManifest {
    pub(in super::super) bytes: Bytes,
    pub(in super::super) media_type: String,
    pub(in super::super) digest: Digest,
    pub(in super::super) manifest: Manifest,
}

impl RawManifest {
    /// Parses a manifest. The error says what is wrong with it.
    pub(in super::super) fn read(bytes: Bytes) -> Result<Self, String> {
        let manifest = Manifest::read(&bytes).map_err(|error| error.to_string())?;
        Ok(Self { media_type: manifest.media_type().to_string(), digest: Digest::of(&bytes), bytes, manifest })
    }

    /// Its descriptor.
    pub(in super::super) fn descriptor(&self) -> Descriptor {
        oci::describe(self.media_type.as_str().into(), &self.bytes)
    }
}

impl Client {
    /// The manifest of a tag or digest, if it exists.
    pub(in super::super) async fn manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<RawManifest>, ApiError> {
        let request = self.question(Method::GET, repository, &format!("manifests/{reference}"), Some(MANIFESTS));
        let (status, headers, bytes) = self.read(&request, MANIFEST_BYTES).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.error(Cause::refused(repository, status, &bytes))),
        }
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let promised = reference.parse().ok().or_else(|| header(CONTENT_DIGEST)?.parse::<Digest>().ok());
        let place = format!("{repository} {reference}");
        if promised.is_some_and(|promised| promised != Digest::of(&bytes)) {
            return Err(self.error(Cause::DigestMismatch(place)));
        }
        let mut raw = RawManifest::read(bytes).map_err(|what| {
            let help = "it was not put there by lian-build: delete the tag, or use another `registry.address`";
            self.error(Cause::Unusable { what: format!("holds no image at {place}: {what}"), help })
        })?;
        if raw.manifest.named_media_type().is_none()
            && let Some(kind) = header(CONTENT_TYPE.as_str())
        {
            raw.media_type = kind.split(';').next().unwrap_or(kind).trim().to_owned();
        }
        Ok(Some(raw))
    }

    /// The digest of a tag, if the tag exists.
    pub(in super::super) async fn digest(&self, repository: &str, tag: &str) -> Result<Option<Digest>, ApiError> {
        let request = self.question(Method::HEAD, repository, &format!("manifests/{tag}"), Some(MANIFESTS));
        let response = self.send(&request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refused(request.scope, response).await),
        }
        let told = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        match told.and_then(|told| told.parse().ok()) {
            Some(digest) => Ok(Some(digest)),
            None => Ok(self.manifest(repository, tag).await?.map(|raw| raw.digest)),
        }
    }

    /// Whether a blob exists.
    pub(in super::super) async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, ApiError> {
        let request = self.question(Method::HEAD, repository, &format!("blobs/{digest}"), None);
        let response = self.send(&request).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(request.scope, response).await),
        }
    }

    /// Reads a small blob.
    pub(in super::super) async fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<Bytes>, ApiError> {
        let request = self.question(Method::GET, repository, &format!("blobs/{digest}"), None);
        let (status, _, bytes) = self.read(&request, BLOB_BYTES).await?;
        match status {
            StatusCode::OK if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            StatusCode::OK => Err(self.error(Cause::DigestMismatch(format!("{repository} {digest}")))),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(self.error(Cause::refused(repository, status, &bytes))),
        }
    }

    /// Writes a blob of any size into a file.
    pub(in super::super) async fn blob_into(
        &self,
        repository: &str,
        digest: &Digest,
        file: &Path,
    ) -> Result<(), ApiError> {
        let request = self.question(Method::GET, repository, &format!("blobs/{digest}"), None);
        let unwritable = |error| self.error(Cause::File(failed("cannot write", file, error)));
        self.retried(|| async {
            let mut response = self.ask(&request).await?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(request.scope, response).await);
            }
            let (mut out, mut hasher) = (File::create(file).map_err(unwritable)?, Hasher::default());
            while let Some(chunk) = self.chunk(&mut response).await? {
                hasher.update(&chunk);
                out.write_all(&chunk).map_err(unwritable)?;
            }
            if hasher.finish() == *digest {
                return Ok(());
            }
            Err(self.error(Cause::DigestMismatch(format!("{repository} {digest}"))))
        })
        .await
    }

    /// The image manifest and its config. From an index, the manifest of the platform is chosen.
    pub(in super::super) async fn image(
        &self,
        repository: &str,
        top: RawManifest,
        platform: Option<&Platform>,
    ) -> Result<Option<(RawManifest, ConfigFile)>, ApiError> {
        let raw = match (&top.manifest, top.manifest.image_for(platform)) {
            (Manifest::Image(_), _) => top,
            (Manifest::Index(_), Some(child)) => match self.manifest(repository, oci::digest(child).as_str()).await? {
                Some(child) => child,
                None => return Ok(None),
            },
            (Manifest::Index(_), None) => return Ok(None),
        };
        let Some(config) = raw.manifest.config().map(oci::digest) else { return Ok(None) };
        let Some(bytes) = self.blob(repository, &config).await? else { return Ok(None) };
        Ok(ConfigFile::read(&bytes).map(|config| (raw, config)))
    }

    fn question<'a>(
        &self,
        method: Method,
        repository: &'a str,
        rest: &str,
        accept: Option<&'static str>,
    ) -> Request<'a> {
        let scope = Scope { repository, beside: None };
        Request { method, url: self.url(repository, rest), scope, accept, body: Payload::Empty }
    }
}

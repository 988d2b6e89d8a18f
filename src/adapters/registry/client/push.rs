//! Writes to a registry: missing blobs, and manifests byte for byte. Not responsible for: the order of writes.

use std::path::Path;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode, Url};

use super::api_error::{ApiError, Cause};
use super::auth::Scope;
use super::pull::RawManifest;
use super::request::{Client, Payload, Request};
use crate::domain::base::Digest;
use crate::system::oci;
use crate::system::peer::Transfer;

/// Where a blob's bytes are.
#[derive(Clone)]
pub(in super::super) enum Blob<'a> {
    Bytes(Bytes),
    File(&'a Path),
}

impl Client {
    /// Uploads a blob if it is missing. If a repository in `beside` has it, it is mounted from there without an
    /// upload.
    pub(in super::super) async fn ensure_blob(
        &self,
        repository: &str,
        beside: &[String],
        blob: &Descriptor,
        source: Blob<'_>,
    ) -> Result<(), ApiError> {
        let digest = oci::digest(blob);
        if self.has_blob(repository, &digest).await? {
            return Ok(());
        }
        let mut from = None;
        for other in beside.iter().filter(|other| *other != repository) {
            // If this check fails for any reason, upload the blob.
            if self.has_blob(other, &digest).await.unwrap_or(false) {
                from = Some(other.as_str());
                break;
            }
        }
        self.retried(|| self.upload(repository, from, blob, source.clone())).await
    }

    /// One upload attempt. Each uses a new session, because the state of the previous one is unknown.
    async fn upload(
        &self,
        repository: &str,
        from: Option<&str>,
        blob: &Descriptor,
        source: Blob<'_>,
    ) -> Result<(), ApiError> {
        let scope = Scope { repository, beside: from };
        let mut url = self.url(repository, "blobs/uploads/");
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("mount", blob.digest().as_ref()).append_pair("from", from);
        }
        let start = Request { method: Method::POST, url, scope, accept: None, body: Payload::Empty };
        let begun = self.ask(&start).await?;
        let Some(mut url) = self.begun(scope, begun).await? else { return Ok(()) };
        url.query_pairs_mut().append_pair("digest", blob.digest().as_ref());
        let body = match source {
            Blob::Bytes(bytes) => Payload::Bytes { media_type: "application/octet-stream", bytes },
            Blob::File(path) => Payload::File { path, size: blob.size() },
        };
        let put = Request { method: Method::PUT, url, scope, accept: None, body };
        let done = self.ask(&put).await?;
        match done.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refused(scope, done).await),
        }
    }

    /// Where an upload goes on; `None` if the blob was mounted.
    async fn begun(&self, scope: Scope<'_>, begun: Transfer) -> Result<Option<Url>, ApiError> {
        match begun.status() {
            StatusCode::CREATED => return Ok(None),
            StatusCode::ACCEPTED => {}
            _ => return Err(self.refused(scope, begun).await),
        }
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match location.and_then(|location| self.joined(location)) {
            Some(url) => Ok(Some(url)),
            None => {
                let what = "started an upload without saying where".to_owned();
                Err(self.error(Cause::Unusable { what, help: "check the registry's log" }))
            }
        }
    }

    /// Begins an upload, which shows that this user may write here, and cancels it.
    pub(in super::super) async fn try_upload(&self, repository: &str) -> Result<(), ApiError> {
        let scope = Scope { repository, beside: None };
        let url = self.url(repository, "blobs/uploads/");
        let start = Request { method: Method::POST, url, scope, accept: None, body: Payload::Empty };
        let begun = self.send(&start).await?;
        let Some(url) = self.begun(scope, begun).await? else { return Ok(()) };
        // Uploads that nobody ends are cleaned up by the registry; not all can be cancelled.
        let cancel = Request { method: Method::DELETE, url, scope, accept: None, body: Payload::Empty };
        let _ = self.ask(&cancel).await;
        Ok(())
    }

    /// Puts a manifest under a tag or its own digest.
    pub(in super::super) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        raw: &RawManifest,
    ) -> Result<(), ApiError> {
        let request = Request {
            method: Method::PUT,
            url: self.url(repository, &format!("manifests/{reference}")),
            scope: Scope { repository, beside: None },
            accept: None,
            body: Payload::Bytes { media_type: &raw.media_type, bytes: raw.bytes.clone() },
        };
        let response = self.send(&request).await?;
        if !response.status().is_success() {
            return Err(self.refused(request.scope, response).await);
        }
        let told = response.headers().get("Docker-Content-Digest").and_then(|value| value.to_str().ok());
        match told.and_then(|told| told.parse::<Digest>().ok()) {
            Some(other) if other != raw.digest => Err(self.error(Cause::Unusable {
                what: format!("keeps {repository} {reference} as {other}, not as {}", raw.digest),
                help: "it changes manifests: use a registry that keeps them as they are",
            })),
            _ => Ok(()),
        }
    }

    /// Reads a manifest back and compares it with the uploaded bytes.
    pub(in super::super) async fn verify_manifest(&self, repository: &str, raw: &RawManifest) -> Result<(), ApiError> {
        match self.manifest(repository, raw.digest.as_str()).await? {
            Some(back) if back.bytes == raw.bytes => Ok(()),
            Some(_) => Err(self.error(Cause::DigestMismatch(format!("{repository} {}", raw.digest)))),
            None => Err(self.error(Cause::Unusable {
                what: format!("does not have what was just put into {repository}: {}", raw.digest),
                help: "check whether something deletes images there that have no tag yet; then try again",
            })),
        }
    }
}

//! Writing to a registry: blobs that it lacks, and manifests byte for byte. Not responsible for: the order of things (`promote` knows).

use std::path::Path;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};

use super::api_error::ApiError;
use super::auth::Scope;
use super::pull::Sealed;
use super::wire::{Call, Payload, Wire, retried};
use crate::domain::base::Digest;
use crate::domain::ports::ImageStoreError;
use crate::system::oci;

/// Where a blob's bytes are.
#[derive(Clone)]
pub(super) enum Source<'a> {
    Bytes(Bytes),
    File(&'a Path),
}

impl Wire {
    /// Brings a blob, unless it is there. What a repository beside has already is taken from there, without its bytes
    /// travelling again.
    pub(super) async fn bring(
        &self,
        repository: &str,
        beside: &[String],
        blob: &Descriptor,
        source: Source<'_>,
    ) -> Result<(), ImageStoreError> {
        let digest = oci::digest(blob);
        if self.has(repository, &digest).await? {
            return Ok(());
        }
        let mut from = None;
        for other in beside.iter().filter(|other| *other != repository) {
            // Whether it may be read there or not: its bytes can still be sent.
            if self.has(other, &digest).await.unwrap_or(false) {
                from = Some(other.as_str());
                break;
            }
        }
        retried(|| self.upload(repository, from, blob, source.clone())).await
    }

    /// One try at an upload: a new session each time, for what came of the last one is not known.
    async fn upload(
        &self,
        repository: &str,
        from: Option<&str>,
        blob: &Descriptor,
        source: Source<'_>,
    ) -> Result<(), ApiError> {
        let scope = Scope { repository, beside: from };
        let mut url = self.url(repository, "blobs/uploads/");
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("mount", blob.digest().as_ref()).append_pair("from", from);
        }
        let start = Call { method: Method::POST, url, scope, accept: None, body: Payload::Nothing };
        let begun = self.ask(&start).await?;
        match begun.status() {
            StatusCode::CREATED => return Ok(()),
            StatusCode::ACCEPTED => {}
            _ => return Err(self.refused(scope, begun).await.into()),
        }
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(mut url) = location.and_then(|location| self.joined(location)) else {
            return Err(self
                .faults
                .told("begins an upload and does not say where", "see the registry's own log")
                .into());
        };
        url.query_pairs_mut().append_pair("digest", blob.digest().as_ref());
        let body = match source {
            Source::Bytes(bytes) => Payload::Bytes { kind: "application/octet-stream", bytes },
            Source::File(path) => Payload::File { path, size: blob.size() },
        };
        let put = Call { method: Method::PUT, url, scope, accept: None, body };
        let done = self.ask(&put).await?;
        match done.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refused(scope, done).await.into()),
        }
    }

    /// Puts a manifest under a tag, or under its own digest.
    pub(super) async fn put(&self, repository: &str, reference: &str, sealed: &Sealed) -> Result<(), ImageStoreError> {
        let call = Call {
            method: Method::PUT,
            url: self.url(repository, &format!("manifests/{reference}")),
            scope: Scope { repository, beside: None },
            accept: None,
            body: Payload::Bytes { kind: &sealed.kind, bytes: sealed.bytes.clone() },
        };
        let response = self.send(&call).await?;
        if !response.status().is_success() {
            return Err(self.refused(call.scope, response).await);
        }
        let told = response.headers().get("Docker-Content-Digest").and_then(|value| value.to_str().ok());
        match told.and_then(|told| told.parse::<Digest>().ok()) {
            Some(other) if other != sealed.digest => Err(self.faults.told(
                format!("keeps {repository} {reference} as {other}, not as {}", sealed.digest),
                "it changes manifests: use a registry that keeps them as they are",
            )),
            _ => Ok(()),
        }
    }

    /// Reads a manifest back and holds it against what was put there.
    pub(super) async fn verify(&self, repository: &str, sealed: &Sealed) -> Result<(), ImageStoreError> {
        match self.manifest(repository, sealed.digest.as_str()).await? {
            Some(back) if back.bytes == sealed.bytes => Ok(()),
            Some(_) => Err(self.faults.tampered(&format!("{repository} {}", sealed.digest))),
            None => Err(self.faults.told(
                format!("does not have what was just put into {repository}: {}", sealed.digest),
                "see whether something deletes images there that have no tag yet; then try again",
            )),
        }
    }
}

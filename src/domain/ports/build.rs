//! Building and verifying an image. Not responsible for: where the image goes afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::domain::base::{Digest, Platform, Platforms};
use crate::domain::model::{BuildEvent, Fault, Tool};

use super::image::{ImageConfig, ImageSource, PushTarget};

/// Takes what a build reports, as it comes. Must not block.
pub type BuildSink<'a> = dyn Fn(BuildEvent) + Send + Sync + 'a;

/// An image under the name that a Dockerfile uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// The familiar name (`lamina/rust`, `debian:trixie-slim`): see [`crate::domain::model::ImageRef::familiar`].
    pub name: String,
    /// What it stands for.
    pub source: ImageSource,
}

/// Where a secret's value comes from. Its value never passes through argv or a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// An environment variable of this process.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// A secret handed to the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// Its id in the Dockerfile.
    pub id: String,
    /// Where its value is.
    pub value: SecretValue,
}

/// One image to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The context folder.
    pub context: PathBuf,
    /// The Dockerfile; its ignore file lies beside it (`<Dockerfile>.dockerignore`) or in the context.
    pub dockerfile: PathBuf,
    /// The stage; the last one where none.
    pub target: Option<String>,
    /// `ARG` values.
    pub build_args: BTreeMap<String, String>,
    /// What the image is built for.
    pub platforms: Platforms,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Secrets that are there; ids without a source are left out.
    pub secrets: Vec<SecretSource>,
    /// Ids of ssh mounts, served from the caller's agent.
    pub ssh: Vec<String>,
    /// Parents and external images, pinned.
    pub named_contexts: Vec<NamedContext>,
    /// A pinned frontend image (`host/repo@sha256:…`); the built-in one where none.
    pub frontend: Option<String>,
    /// A private, existing, empty folder: the image is exported into it as an OCI layout.
    pub staging: PathBuf,
    /// Pushed there by its digest instead, and nothing is exported.
    pub push: Option<PushTarget>,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest's (or index's) digest; its bytes are in the staging folder, or where they were pushed to.
    pub digest: Digest,
    /// Dockerfile steps that ran or were cached.
    pub steps: u32,
    /// Of these, cached.
    pub cached: u32,
    /// What the image was built for.
    pub platforms: Platforms,
}

/// What an image must hold.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// The image, just built.
    pub image: ImageSource,
    /// What the image was built for; each platform is verified by itself.
    pub platforms: Platforms,
    /// Binaries to find along its PATH, and to probe for their versions.
    pub tools: Vec<Tool>,
    /// Absolute paths that must exist.
    pub artifact_paths: Vec<String>,
    /// A private, existing, empty folder for the artifacts image (an OCI layout holding just `artifact_paths` at their
    /// places); none is built where there are no paths.
    pub staging: PathBuf,
    /// The artifacts image is pushed there by its digest instead.
    pub push_artifacts: Option<PushTarget>,
    /// Labels of the artifacts image.
    pub labels: BTreeMap<String, String>,
    /// What an image in a registry says of its processes, by platform. That of an image in a layout is read there.
    pub configs: BTreeMap<Platform, ImageConfig>,
}

/// Builds with BuildKit. Dropping a returned future cancels the work: no child process outlives it.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Builds one image into its staging folder.
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault>;

    /// Checks that the image holds what it must, without network, naming everything that is missing at once, and
    /// makes the artifacts image. Returns that image's digest where there are artifact paths.
    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault>;
}

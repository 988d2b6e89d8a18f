//! The interface for building and verifying an image. Not responsible for: where the image goes afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::domain::base::{Digest, Platform, Platforms};
use crate::domain::model::{BuildEvent, Fault, Tool};

use super::image::{ImageConfig, ImageSource, PushTarget};
use super::inputs::Definition;

/// How much of a step's log a daemon keeps, bytes, and how quickly it may come, bytes a second, for the environment of
/// every daemon that is started for a build. BuildKit's own limits (2 MiB, 200 KiB/s) cut off the end of a noisy step,
/// where its cause mostly stands.
pub const STEP_LOGS: [(&str, &str); 2] =
    [("BUILDKIT_STEP_LOG_MAX_SIZE", "16777216"), ("BUILDKIT_STEP_LOG_MAX_SPEED", "4194304")];

/// Receives a build's events. It must not block.
pub type BuildSink<'a> = dyn Fn(BuildEvent) + Send + Sync + 'a;

/// An image with its name in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// The name (`lamina/rust`, `debian:trixie-slim`; see [`crate::domain::model::ImageRef::context_name`]), with
    /// `::os/architecture` if it is for one platform only.
    pub name: String,
    /// The image that the name refers to.
    pub source: ImageSource,
}

/// Where a secret's value comes from. The value itself never appears in argv or a log.
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

/// The caches in registries that a build reads and writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedCaches {
    /// Those that are read, under the tag [`CACHE`]. One that is not there is passed over.
    pub from: Vec<PushTarget>,
    /// The one that is written, under the tag [`NEXT_CACHE`]: it counts once the image does.
    pub to: Option<PushTarget>,
    /// Its repository, as the image store names it: `ci/shop/app-cache`.
    pub repository: Option<String>,
}

/// The tag of a cache that is read.
pub const CACHE: &str = "latest";
/// The tag of a cache whose image does not count yet.
pub const NEXT_CACHE: &str = "next";

/// One image to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The context folder.
    pub context: PathBuf,
    /// The name of its folders' modes ([`crate::domain::model::Listing::folder_modes`]); `None` if all are git's. A builder
    /// that keeps contexts keeps those with other modes apart.
    pub folder_modes: Option<String>,
    /// The Dockerfile's path, for its name and for looking at it again.
    pub dockerfile: PathBuf,
    /// The texts of the Dockerfile and its ignore file: these are built, whatever the files say by then.
    pub definition: Definition,
    /// The stage to build; the last one if `None`.
    pub target: Option<String>,
    /// `ARG` values.
    pub build_args: BTreeMap<String, String>,
    /// What the image is built for.
    pub platforms: Platforms,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The secrets that have a value; ids without one are left out.
    pub secrets: Vec<SecretSource>,
    /// The ids of ssh mounts, which the caller's agent serves.
    pub ssh: Vec<String>,
    /// Parents and external images, pinned.
    pub named_contexts: Vec<NamedContext>,
    /// Names of images that BuildKit looks up and takes nothing from: an empty image stands in for each.
    pub stand_ins: Vec<String>,
    /// A pinned frontend image (`host/repo@sha256:…`); `None` for BuildKit's built-in one.
    pub frontend: Option<String>,
    /// An existing, empty, private folder, into which the image is exported as an OCI layout.
    pub staging: PathBuf,
    /// Where to push the image by its digest; nothing is exported then.
    pub push: Option<PushTarget>,
    /// Caches beside the builder's own.
    pub caches: SharedCaches,
}

/// The result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The digest of the manifest or index. Its bytes are in the staging folder, or where they were pushed to.
    pub digest: Digest,
    /// Dockerfile steps that ran or were cached.
    pub steps: u32,
    /// How many of them were cached.
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
    /// Binaries that must be on its PATH, with versions to check.
    pub tools: Vec<Tool>,
    /// Absolute paths that must exist.
    pub artifact_paths: Vec<String>,
    /// An existing, empty, private folder for the artifacts image: an OCI layout with just the `artifact_paths` at
    /// their places. Without such paths, none is built.
    pub staging: PathBuf,
    /// Where to push the artifacts image by its digest instead.
    pub push_artifacts: Option<PushTarget>,
    /// Labels of the artifacts image.
    pub labels: BTreeMap<String, String>,
    /// The configs of an image in a registry, by platform. The config of an image in a layout is read there.
    pub configs: BTreeMap<Platform, ImageConfig>,
}

/// Builds images with BuildKit. Dropping a returned future cancels the work: no child process outlives it.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Builds one image into its staging folder.
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault>;

    /// Verifies the image's content without network, reports everything missing at once, and builds the artifacts
    /// image. Returns its digest if there are artifact paths.
    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault>;
}

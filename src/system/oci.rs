//! Parses OCI documents: manifests, indexes, image configs. The types are `oci-spec`'s. Not responsible for: storing
//! and fetching them.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::base::{Digest, Platform};
use crate::domain::ports::ImageConfig;

/// The manifest of an image or artifact, or an index. Every digest in it is a SHA-256; documents with others are
/// rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// A config and layers.
    Image(Box<ImageManifest>),
    /// Manifests of several platforms.
    Index(Box<ImageIndex>),
}

/// The bytes are not a valid manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not valid JSON of a manifest.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It contains a digest with an unsupported algorithm.
    #[error("`{0}` is not a SHA-256 digest")]
    Digest(String),
}

impl Manifest {
    /// Parses a manifest or an index.
    ///
    /// # Errors
    /// [`ManifestError`] if the bytes are neither.
    pub fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        let value: Value = serde_json::from_slice(bytes)?;
        let read = match value.get("config") {
            Some(_) => Self::Image(serde_json::from_value(value)?),
            None => Self::Index(serde_json::from_value(value)?),
        };
        let mut named = read.blobs().chain(read.children()).chain(read.subject());
        if let Some(odd) = named.find(|named| named.as_digest_sha256().is_none()) {
            return Err(ManifestError::Digest(odd.digest().to_string()));
        }
        drop(named);
        Ok(read)
    }

    /// The blobs that it references, without nested manifests and its subject: the config and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config().into_iter().chain(self.layers())
    }

    /// The layers of an image.
    pub fn layers(&self) -> &[Descriptor] {
        match self {
            Self::Image(image) => image.layers(),
            Self::Index(_) => &[],
        }
    }

    /// The config of an image.
    pub fn config(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => Some(image.config()),
            Self::Index(_) => None,
        }
    }

    /// The manifests of an index.
    pub fn children(&self) -> &[Descriptor] {
        match self {
            Self::Image(_) => &[],
            Self::Index(index) => index.manifests(),
        }
    }

    /// The subject of an artifact.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject().as_ref(),
            Self::Index(index) => index.subject().as_ref(),
        }
    }

    /// The image of an index: the one for the platform, else the first. Attestations (platform `unknown/unknown`) are
    /// skipped.
    pub fn image_for(&self, platform: Option<&Platform>) -> Option<&Descriptor> {
        let is_image = |child: &&Descriptor| {
            child.platform().as_ref().is_none_or(|platform| *platform.os() != Os::Other("unknown".to_owned()))
        };
        let fits = |child: &&Descriptor| platform.is_some_and(|wanted| is_for(child, wanted));
        self.children().iter().find(fits).or_else(|| self.children().iter().find(is_image))
    }

    /// Its media type; derived from its fields if it states none.
    pub fn media_type(&self) -> MediaType {
        self.named_media_type().cloned().unwrap_or(match self {
            Self::Image(_) => MediaType::ImageManifest,
            Self::Index(_) => MediaType::ImageIndex,
        })
    }

    /// The media type that it states.
    pub fn named_media_type(&self) -> Option<&MediaType> {
        match self {
            Self::Image(image) => image.media_type().as_ref(),
            Self::Index(index) => index.media_type().as_ref(),
        }
    }
}

/// The digest of a descriptor that was parsed as part of a [`Manifest`], or created by [`describe`].
pub fn digest(descriptor: &Descriptor) -> Digest {
    descriptor.digest().to_string().parse().expect("invariant: descriptors with other digests are not read")
}

/// A descriptor of these bytes.
pub fn describe(media_type: MediaType, bytes: &[u8]) -> Descriptor {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let digest: oci_spec::image::Digest =
        Digest::of(bytes).as_str().parse().expect("invariant: our digests are OCI digests");
    Descriptor::new(media_type, size, digest)
}

/// Whether an index entry is for this platform, with any variant.
pub fn is_for(entry: &Descriptor, platform: &Platform) -> bool {
    entry.platform().as_ref().is_some_and(|entry| {
        entry.os().to_string() == platform.os() && entry.architecture().to_string() == platform.architecture()
    })
}

/// An image config with Docker's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    oci: ImageConfiguration,
    on_build: Vec<String>,
}

/// `ONBUILD` is Docker's: OCI does not specify it.
#[derive(Default, Deserialize)]
struct DockerFields {
    #[serde(default)]
    config: DockerConfig,
}

#[derive(Default, Deserialize)]
struct DockerConfig {
    #[serde(rename = "OnBuild", default)]
    on_build: Option<Vec<String>>,
}

impl ConfigFile {
    /// Parses it; `None` if the bytes are not an image config.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let oci = serde_json::from_slice(bytes).ok()?;
        let docker: DockerFields = serde_json::from_slice(bytes).unwrap_or_default();
        Some(Self { oci, on_build: docker.config.on_build.unwrap_or_default() })
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let labels = self.oci.config().as_ref()?.labels().as_ref()?;
        labels.get(name).map(String::as_str)
    }

    /// Its platform, `os/architecture`.
    pub fn platform(&self) -> Platform {
        Platform::of(&self.oci.os().to_string(), &self.oci.architecture().to_string(), "")
    }

    /// Its process settings.
    pub fn processes(&self) -> ImageConfig {
        let env = self.oci.config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default();
        ImageConfig { env, on_build: self.on_build.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(architecture: &str) -> Value {
        serde_json::json!({"mediaType": "m", "digest": Digest::of(architecture), "size": 1,
            "platform": {"os": if architecture == "unknown" { "unknown" } else { "linux" }, "architecture": architecture}})
    }

    #[test]
    fn an_index_gives_the_image_of_a_platform_and_no_attestation() {
        let index = serde_json::json!({"schemaVersion": 2,
            "manifests": [descriptor("unknown"), descriptor("arm64"), descriptor("amd64")]});
        let index = Manifest::read(index.to_string().as_bytes()).expect("an index");
        let chosen = |platform: Option<&str>| index.image_for(platform.map(Platform::from).as_ref()).map(digest);
        assert_eq!(chosen(Some("linux/amd64")), Some(Digest::of("amd64")));
        assert_eq!(chosen(Some("linux/arm64/v8")), Some(Digest::of("arm64")));
        assert_eq!(chosen(Some("linux/riscv64")), Some(Digest::of("arm64")), "the first image stands in");
        assert_eq!(chosen(None), Some(Digest::of("arm64")));
        assert_eq!((index.media_type(), index.blobs().count()), (MediaType::ImageIndex, 0));
    }

    #[test]
    fn content_that_cannot_be_checked_is_not_read() {
        let text = |digest: &str| {
            format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"m","digest":"{digest}","size":1}},"layers":[]}}"#)
        };
        let sound = Manifest::read(text(Digest::of("x").as_str()).as_bytes()).expect("a manifest");
        assert_eq!((sound.config().map(digest), sound.media_type()), (Some(Digest::of("x")), MediaType::ImageManifest));
        let odd = format!("sha512:{}", "0".repeat(128));
        assert!(matches!(Manifest::read(text(&odd).as_bytes()), Err(ManifestError::Digest(found)) if found == odd));
        assert!(Manifest::read(b"{}").is_err() && Manifest::read(b"<html>").is_err());
    }

    #[test]
    fn a_config_is_read_with_dockers_additions() {
        let text = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"Env":["A=b"],"Labels":{"x":"y"},"OnBuild":["RUN x"]}}"#;
        let config = ConfigFile::read(text.as_bytes()).expect("a config");
        assert_eq!(
            (config.label("x"), config.label("z"), config.platform().as_str()),
            (Some("y"), None, "linux/amd64")
        );
        let processes = config.processes();
        assert_eq!((processes.env, processes.on_build), (vec!["A=b".to_owned()], vec!["RUN x".to_owned()]));
        let bare = text.replace(r#""OnBuild":["RUN x"]"#, r#""OnBuild":null"#);
        assert!(ConfigFile::read(bare.as_bytes()).expect("a config").processes().on_build.is_empty());
        assert_eq!(ConfigFile::read(b"{}"), None);
    }
}

//! Reads images in an OCI layout as far as a build needs it: their config, and which blobs they share. Not responsible for: tags
//! and promotion (`registries` owns those).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::base::{self, Digest};
use crate::domain::ports::{ImageSource, NamedContext, VerifyRequest};

/// The PATH that BuildKit gives a step whose image says none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// A manifest or an index: the one has layers and a config, the other manifests.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Default, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: ImageSettings,
}

/// What an image says about the processes that run in it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ImageSettings {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
    #[serde(rename = "OnBuild", default)]
    on_build: Option<Vec<String>>,
}

impl ImageSettings {
    /// The folders that binaries are looked up in.
    pub(super) fn path(&self) -> Vec<&str> {
        let said = self.env.iter().flatten().rev().find_map(|entry| entry.strip_prefix("PATH="));
        said.unwrap_or(DEFAULT_PATH).split(':').filter(|folder| folder.starts_with('/')).collect()
    }

    /// The whole environment, `NAME=value`.
    pub(super) fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().flatten().filter_map(|entry| entry.split_once('='))
    }

    /// Whether a Dockerfile that starts from it would run instructions of the image's own.
    pub(super) fn triggers(&self) -> bool {
        self.on_build.as_ref().is_some_and(|triggers| !triggers.is_empty())
    }
}

/// Where a blob of a layout lies.
pub(super) fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// The settings of the image that is verified, for the one platform asked for; the defaults where nobody can tell them.
/// Those of an image in a registry come with the request.
pub(super) fn settings(request: &VerifyRequest) -> ImageSettings {
    let platform = request.platforms.first();
    let ImageSource::Layout { dir, digest } = &request.image else {
        let told = request.configs.get(platform).cloned().unwrap_or_default();
        return ImageSettings { env: Some(told.env), on_build: Some(told.on_build) };
    };
    let find = || {
        let mut manifest: Manifest = read(dir, digest)?;
        if manifest.config.is_none() {
            let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|entry| entry.is(platform));
            let chosen = manifest.manifests.iter().find(fits).or(manifest.manifests.first())?;
            manifest = read(dir, &chosen.digest)?;
        }
        read::<ConfigFile>(dir, &manifest.config?.digest)
    };
    find().unwrap_or_default().config
}

impl Platform {
    fn is(&self, platform: &base::Platform) -> bool {
        platform.os() == self.os && platform.architecture() == self.architecture
    }
}

/// Links the layers of the images that a build stands on into its staging folder, so that BuildKit's export finds them
/// there and writes only what is new. A mere saving: what cannot be linked is written.
pub(super) fn seed(staging: &Path, contexts: &[NamedContext]) {
    let target = staging.join("blobs/sha256");
    for NamedContext { source, .. } in contexts {
        let ImageSource::Layout { dir, digest } = source else { continue };
        let layers = layers(dir, digest);
        if layers.is_empty() || std::fs::create_dir_all(&target).is_err() {
            continue;
        }
        for layer in layers {
            // Whatever fails here (another file system, a blob that is there already) is no loss.
            let _ = std::fs::hard_link(blob(dir, &layer), target.join(layer.hex()));
        }
    }
}

fn layers(dir: &Path, digest: &Digest) -> Vec<Digest> {
    let Some(manifest) = read::<Manifest>(dir, digest) else { return Vec::new() };
    let children = manifest.manifests.iter().filter_map(|child| read::<Manifest>(dir, &child.digest));
    let nested: Vec<_> = children.flat_map(|child| child.layers).collect();
    manifest.layers.into_iter().chain(nested).map(|layer| layer.digest).collect()
}

fn read<T: DeserializeOwned>(dir: &Path, digest: &Digest) -> Option<T> {
    serde_json::from_slice(&std::fs::read(blob(dir, digest)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::ports::ImageConfig;

    #[test]
    fn the_last_path_counts_and_relative_folders_do_not() {
        let settings = ImageSettings {
            env: Some(vec!["PATH=/a".into(), "A=b=c".into(), "PATH=/opt/bin:.::/bin".into()]),
            on_build: None,
        };
        assert_eq!(settings.path(), ["/opt/bin", "/bin"]);
        assert_eq!(settings.env().nth(1), Some(("A", "b=c")));
        assert_eq!(ImageSettings::default().path().len(), 6);
        assert!(!settings.triggers());
    }

    fn request(image: ImageSource) -> VerifyRequest {
        VerifyRequest {
            image,
            platforms: "linux/amd64".into(),
            tools: Vec::new(),
            artifact_paths: Vec::new(),
            staging: PathBuf::new(),
            push_artifacts: None,
            labels: BTreeMap::new(),
            configs: BTreeMap::new(),
        }
    }

    #[test]
    fn an_image_that_cannot_be_read_has_the_defaults() {
        let nowhere = request(ImageSource::Layout { dir: "/nowhere".into(), digest: Digest::of("x") });
        assert_eq!(settings(&nowhere), ImageSettings::default());
    }

    #[test]
    fn an_image_in_a_registry_is_told_of() {
        let mut far = request(ImageSource::Registry { name: "host/x".into(), digest: Digest::of("x") });
        assert_eq!(settings(&far).path().len(), 6);
        let config = ImageConfig { env: vec!["PATH=/opt/bin".into()], on_build: vec!["RUN x".into()] };
        far.configs.insert("linux/amd64".into(), config);
        assert_eq!(settings(&far).path(), ["/opt/bin"]);
        assert!(settings(&far).triggers());
    }
}

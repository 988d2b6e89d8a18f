//! Reads the parts of images in an OCI layout that a build needs: config and shared blobs. Not responsible for: tags
//! and promotion (see the adapter `registry`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::domain::base::Digest;
use crate::domain::dockerfile::{self, Source};
use crate::domain::model::ImageRef;
use crate::domain::ports::{ImageConfig, ImageSource, NamedContext, VerifyRequest};
use crate::system::oci::{self, ConfigFile, Manifest};
use crate::system::read::{self, Cap};

/// The PATH that BuildKit gives a step whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process settings of an image.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ImageSettings(ImageConfig);

impl ImageSettings {
    /// The folders of its PATH.
    pub(super) fn path(&self) -> Vec<&str> {
        let set = self.0.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        set.unwrap_or(DEFAULT_PATH).split(':').filter(|folder| folder.starts_with('/')).collect()
    }

    /// The whole environment, `NAME=value`.
    pub(super) fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.env.iter().filter_map(|entry| entry.split_once('='))
    }

    /// Whether a Dockerfile based on it would run the image's own (`ONBUILD`) instructions.
    pub(super) fn triggers(&self) -> bool {
        !self.0.on_build.is_empty()
    }

    /// What BuildKit looks up for the image's triggers, even where a Dockerfile only copies from the image.
    pub(super) fn looked_up(&self) -> LookedUp {
        let mut found = LookedUp::default();
        for source in dockerfile::triggers_in(&self.0.on_build).sources {
            let (word, is_copy) = match &source {
                Source::Copy(word) => (word, true),
                Source::Mount(word) => (word, false),
            };
            match word.text.parse::<usize>() {
                Ok(stage) if is_copy => found.stages = found.stages.max(stage.saturating_add(1)),
                _ => found.images.extend(word.text.parse::<ImageRef>().map(|image| image.context_name())),
            }
        }
        found
    }
}

/// What the triggers of an image name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LookedUp {
    /// Images, or stages of whoever builds upon it, by the names of named contexts.
    pub(super) images: BTreeSet<String>,
    /// How many stages must come before: triggers count them.
    pub(super) stages: usize,
}

/// The path of a blob in a layout.
pub(super) fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// The settings of the image to verify, for the requested platform; defaults if they cannot be read. For an image in
/// a registry, the request contains them.
pub(super) fn settings(request: &VerifyRequest) -> ImageSettings {
    let platform = request.platforms.first();
    let ImageSource::Layout { dir, digest } = &request.image else {
        return ImageSettings(request.configs.get(platform).cloned().unwrap_or_default());
    };
    let find = || {
        let mut manifest = manifest(dir, digest)?;
        if let Some(image) = manifest.image_for(Some(platform)) {
            manifest = self::manifest(dir, &oci::digest(image))?;
        }
        let config = read::of_user(&blob(dir, &oci::digest(manifest.config()?)), Cap::Manifest).ok()?;
        Some(ConfigFile::read(&config)?.processes())
    };
    ImageSettings(find().unwrap_or_default())
}

/// Links the layers of a build's base images into its staging folder, so that BuildKit's export writes only new ones.
/// An optimisation only: a layer that cannot be linked is written.
pub(super) fn seed(staging: &Path, contexts: &[NamedContext]) {
    let target = staging.join("blobs/sha256");
    for NamedContext { source, .. } in contexts {
        let ImageSource::Layout { dir, digest } = source else { continue };
        let layers = layers(dir, digest);
        if layers.is_empty() || std::fs::create_dir_all(&target).is_err() {
            continue;
        }
        for layer in layers {
            // Ignore errors (another file system, a blob that already exists).
            let _ = std::fs::hard_link(blob(dir, &layer), target.join(layer.hex()));
        }
    }
}

fn layers(dir: &Path, digest: &Digest) -> Vec<Digest> {
    let Some(top) = manifest(dir, digest) else { return Vec::new() };
    let children: Vec<Manifest> =
        top.children().iter().filter_map(|child| manifest(dir, &oci::digest(child))).collect();
    let images = std::iter::once(&top).chain(&children);
    images.flat_map(Manifest::layers).map(oci::digest).collect()
}

fn manifest(dir: &Path, digest: &Digest) -> Option<Manifest> {
    Manifest::read(&read::of_user(&blob(dir, digest), Cap::Manifest).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_last_path_counts_and_relative_folders_do_not() {
        let settings = ImageSettings(ImageConfig {
            env: vec!["PATH=/a".into(), "A=b=c".into(), "PATH=/opt/bin:.::/bin".into()],
            on_build: Vec::new(),
        });
        assert_eq!(settings.path(), ["/opt/bin", "/bin"]);
        assert_eq!(settings.looked_up(), LookedUp::default());
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

    #[test]
    fn what_triggers_name_is_known() {
        let lines = [
            "COPY --from=2 /a /b",
            "COPY --from=build /a /b",
            "COPY --from=docker.io/lamina/tools:latest /a /b",
            "RUN --mount=from=0,target=/m --mount=type=cache,from=debian:1,target=/c true",
            "COPY --from=scratch /a /b",
            "COPY a /b",
        ];
        let settings = ImageSettings(ImageConfig { env: Vec::new(), on_build: lines.map(str::to_owned).into() });
        let LookedUp { images, stages } = settings.looked_up();
        assert_eq!(
            images.iter().map(String::as_str).collect::<Vec<_>>(),
            ["0", "build", "debian:1", "lamina/tools", "scratch"]
        );
        assert_eq!(stages, 3);
    }
}

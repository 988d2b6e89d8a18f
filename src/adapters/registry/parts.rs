//! The artifact that attaches a record to its image, the same in layouts and registries. Not responsible for: storing
//! it.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType, SCHEMA_VERSION};

use crate::domain::base::{Digest, LayerName};
use crate::domain::model::ImageRecord;
use crate::system::oci::describe;

/// The type of the artifact and of its only blob.
pub(super) const PARTS: &str = "application/vnd.lian-build.key-parts.v1+json";
/// Annotation with the parent images as JSON. A plan needs them for every image, and the record is large.
const BUILT_ON: &str = "dev.lian-build.built-on";
/// The content of an empty config.
const EMPTY_CONFIG: &[u8] = b"{}";

/// The artifact's three blobs.
pub(super) struct Parts {
    /// The empty config.
    pub(super) config: Vec<u8>,
    /// The record as JSON.
    pub(super) record: Vec<u8>,
    /// Its manifest. The image is its subject, so that other tools understand it and registries keep it.
    pub(super) manifest: Vec<u8>,
}

impl Parts {
    /// The artifact of this record, attached to the image `subject`.
    pub(super) fn of(record: &ImageRecord, subject: &Descriptor) -> Self {
        let built_on = serde_json::to_string(&record.built_on).expect("invariant: names and digests serialise");
        let record = serde_json::to_vec(record).expect("invariant: key parts are plain data and serialise");
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .artifact_type(PARTS)
            .config(describe(MediaType::EmptyJSON, EMPTY_CONFIG))
            .layers([describe(PARTS.into(), &record)])
            .subject(subject.clone())
            .annotations(HashMap::from([(BUILT_ON.to_owned(), built_on)]))
            .build()
            .expect("invariant: every required field is set");
        let manifest = serde_json::to_vec(&manifest).expect("invariant: manifests serialise");
        Self { config: EMPTY_CONFIG.to_vec(), record, manifest }
    }
}

/// The tag of the artifact for the image with this tag.
pub(super) fn tag(key_tag: &str) -> String {
    format!("{key_tag}.parts")
}

/// The parent images in an artifact's manifest. `None` if an older version wrote it.
pub(super) fn built_on(manifest: &ImageManifest) -> Option<BTreeMap<LayerName, Digest>> {
    serde_json::from_str(manifest.annotations().as_ref()?.get(BUILT_ON)?).ok()
}

/// The record's blob in an artifact's manifest.
pub(super) fn record_in(manifest: &ImageManifest) -> Option<&Descriptor> {
    manifest.layers().iter().find(|layer| layer.media_type().as_ref() == PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Must be byte-identical: promoting the same image again must not change its record's digest.
    #[test]
    fn the_artifact_of_a_record_is_always_the_same() {
        let parts = serde_json::json!({
            "schema": 1, "layer": "app", "dockerfile": Digest::of("FROM scratch"), "ignore": null, "target": null,
            "files": {}, "build_args": {}, "platform": "linux/amd64", "frontend": null, "secret_ids": [], "ssh_ids": [],
            "labels": {}, "tools": [], "artifact_paths": [], "parents": {},
        });
        let record = serde_json::from_value(serde_json::json!({"parts": parts, "built_on": {}})).expect("a record");
        let written = Parts::of(&record, &describe(MediaType::ImageManifest, b"image"));
        let expected = concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""artifactType":"application/vnd.lian-build.key-parts.v1+json","#,
            r#""config":{"mediaType":"application/vnd.oci.empty.v1+json","#,
            r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"#,
            r#""layers":[{"mediaType":"application/vnd.lian-build.key-parts.v1+json","#,
            r#""digest":"sha256:db96cc6de3062e90027e73caf334b97c44394ad08d6046f3f2d876cf2cab395f","size":318}],"#,
            r#""subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""digest":"sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d","size":5},"#,
            r#""annotations":{"dev.lian-build.built-on":"{}"}}"#,
        );
        assert_eq!(String::from_utf8_lossy(&written.manifest), expected);
    }

    #[test]
    fn parents_are_read_without_the_record() {
        let text = |annotations: &str| {
            let described = serde_json::json!(describe(MediaType::EmptyJSON, EMPTY_CONFIG));
            format!(r#"{{"schemaVersion":2,"config":{described},"layers":[]{annotations}}}"#)
        };
        let read = |text: String| built_on(&serde_json::from_str(&text).expect("a manifest"));
        assert_eq!(read(text("")), None, "an older version wrote it");
        let digest = Digest::of("base");
        let annotated = format!(r#","annotations":{{"{BUILT_ON}":"{{\"base\":\"{digest}\"}}"}}"#);
        assert_eq!(read(text(&annotated)), Some(BTreeMap::from([("base".into(), digest)])));
    }
}

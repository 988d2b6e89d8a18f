//! The artifact that keeps an image's record beside it: the same in a layout and in a registry. Not responsible for: storing it.

use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType, SCHEMA_VERSION};

use crate::domain::model::ImageRecord;
use crate::system::oci::describe;

/// The type of the artifact, and of the one blob in it.
pub(super) const PARTS: &str = "application/vnd.lian-build.key-parts.v1+json";
/// What an empty config holds.
const EMPTY_CONFIG: &[u8] = b"{}";

/// The artifact's three blobs.
pub(super) struct Parts {
    /// The empty config.
    pub(super) config: Vec<u8>,
    /// The record as JSON.
    pub(super) record: Vec<u8>,
    /// Names both, with the image as its subject, so that other tools understand it and registries keep it.
    pub(super) manifest: Vec<u8>,
}

impl Parts {
    /// The artifact of this record, which belongs to the image `subject`.
    pub(super) fn of(record: &ImageRecord, subject: &Descriptor) -> Self {
        let record = serde_json::to_vec(record).expect("invariant: key parts are plain data and serialise");
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .artifact_type(PARTS)
            .config(describe(MediaType::EmptyJSON, EMPTY_CONFIG))
            .layers([describe(PARTS.into(), &record)])
            .subject(subject.clone())
            .build()
            .expect("invariant: every required field is set");
        let manifest = serde_json::to_vec(&manifest).expect("invariant: manifests serialise");
        Self { config: EMPTY_CONFIG.to_vec(), record, manifest }
    }
}

/// The tag of the artifact beside the image with this tag.
pub(super) fn tag(key_tag: &str) -> String {
    format!("{key_tag}.parts")
}

/// The blob with the record, in an artifact's manifest.
pub(super) fn record_in(manifest: &ImageManifest) -> Option<&Descriptor> {
    manifest.layers().iter().find(|layer| layer.media_type().as_ref() == PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Digest;

    /// Byte for byte: the digest of a record's artifact must not change with the version that writes it.
    #[test]
    fn the_artifact_is_written_as_ever() {
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
            r#""digest":"sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d","size":5}}"#,
        );
        assert_eq!(String::from_utf8_lossy(&written.manifest), expected);
    }
}

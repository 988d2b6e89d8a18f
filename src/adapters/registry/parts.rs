//! The artifact that keeps an image's record beside it: the same in a layout and in a registry. Not responsible for: storing it.

use super::descriptor::{Descriptor, EMPTY, EMPTY_BYTES, MANIFEST, Manifest, PARTS};
use crate::domain::base::Digest;
use crate::domain::model::ImageRecord;

/// The artifact's three blobs.
pub(super) struct Parts {
    /// The empty config.
    pub(super) config: Vec<u8>,
    /// The record as JSON.
    pub(super) record: Vec<u8>,
    /// What names both, and the image as its subject: other tools understand it, and registries keep it too.
    pub(super) manifest: Vec<u8>,
}

impl Parts {
    /// The artifact of this record, which belongs to the image `subject`.
    pub(super) fn of(record: &ImageRecord, subject: &Descriptor) -> Self {
        let record = serde_json::to_vec(record).expect("invariant: key parts are plain data and serialise");
        let config = EMPTY_BYTES.to_vec();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: Some(PARTS.to_owned()),
            config: Some(described(EMPTY, &config)),
            layers: vec![described(PARTS, &record)],
            manifests: Vec::new(),
            subject: Some(subject.clone()),
        };
        let manifest = serde_json::to_vec(&manifest).expect("invariant: manifests serialise");
        Self { config, record, manifest }
    }
}

/// The blob with the record, in an artifact's manifest.
pub(super) fn record_in(manifest: &Manifest) -> Option<&Descriptor> {
    manifest.layers.iter().find(|layer| layer.media_type == PARTS)
}

/// How a manifest names these bytes.
pub(super) fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Descriptor { media_type: media_type.to_owned(), digest: Digest::of(bytes), size, platform: None }
}

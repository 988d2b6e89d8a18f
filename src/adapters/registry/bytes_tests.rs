//! What the readers of a layout, of a registry's words and of logins do with bytes that nobody meant for them. Not
//! responsible for: what sound ones mean.

use proptest::prelude::*;
use serde_json::json;

use super::index::{Index, REF_NAME, SUBJECT};
use super::parts::{Parts, built_on, record_in};
use crate::domain::base::mutated::{mutated_json, mutated_texts};
use crate::domain::base::{Digest, Platform};
use crate::domain::model::ImageRecord;
use crate::domain::ports::samples::key_parts;
use crate::system::confined;
use crate::system::oci::{ConfigFile, Manifest, digest, is_for};

fn descriptor(of: &str) -> serde_json::Value {
    json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(of), "size": 7,
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        "annotations": {REF_NAME: format!("lamina/{of}:latest"), "dev.lian-build.mark": "00ff", SUBJECT: Digest::of("x"),
            "dev.lian-build.promoted-at": "1790000000000"}})
}

fn indexes() -> Vec<serde_json::Value> {
    vec![
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor("a"), descriptor("b")]}),
        json!({"schemaVersion": 2, "manifests": []}),
    ]
}

fn manifests() -> Vec<serde_json::Value> {
    let record: ImageRecord =
        serde_json::from_value(json!({"parts": key_parts("app", "FROM scratch"), "built_on": {}})).expect("a record");
    let subject = serde_json::from_value(descriptor("a")).expect("a descriptor");
    let artifact = serde_json::from_slice(&Parts::of(&record, &subject).manifest).expect("a manifest");
    let image = json!({"schemaVersion": 2, "config": descriptor("c"), "layers": [descriptor("l"), descriptor("m")]});
    [vec![artifact, image], indexes()].concat()
}

proptest! {
    #[test]
    fn any_bytes_are_an_index_or_damaged(bytes in mutated_json(indexes())) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("index.json"), &bytes).expect("writable");
        let layout = confined::open(folder.path()).expect("a folder");
        let Ok(mut index) = Index::read(&layout) else { return Ok(()) };
        for entry in index.entries().collect::<Vec<_>>() {
            let Some((name, tag)) = entry.name_and_tag() else { continue };
            index.find(name, tag);
            entry.subject.as_ref().map(|subject| index.belonging(subject, name));
        }
        let (entries, removed) = (index.entries().count(), index.retain(|_| false));
        prop_assert_eq!((entries, index.entries().count()), (removed, 0));
        index.write(&layout).expect("what was read can be written");
        prop_assert!(Index::read(&layout).is_ok(), "what was written can be read");
    }

    #[test]
    fn any_bytes_are_a_manifest_or_an_error(bytes in mutated_json(manifests())) {
        let Ok(manifest) = Manifest::read(&bytes) else { return Ok(()) };
        let platform = Platform::from("linux/arm64");
        manifest.image_for(Some(&platform)).map(digest);
        for named in manifest.blobs().chain(manifest.children()).chain(manifest.subject()) {
            digest(named);
            is_for(named, &platform);
        }
        manifest.media_type();
        if let Manifest::Image(image) = &manifest {
            built_on(image);
            record_in(image).map(digest);
        }
    }

    #[test]
    fn any_bytes_are_a_config_and_a_record_or_nothing(
        config in mutated_json(vec![json!({"os": "linux", "architecture": "amd64", "created": "2026-11-22T22:42:10Z",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of("a")]},
            "config": {"Env": ["A=b"], "Labels": {"x": "y"}, "OnBuild": ["RUN x"], "User": "1"},
            "history": [{"created_by": "x", "empty_layer": true}]})]),
        record in mutated_json(vec![json!({"parts": key_parts("app", "FROM scratch"),
            "built_on": {"base": Digest::of("base")}})]),
    ) {
        if let Some(config) = ConfigFile::read(&config) {
            config.label("x");
            config.platform();
            config.processes();
        }
        if let Ok(record) = serde_json::from_slice::<ImageRecord>(&record) {
            let again = serde_json::to_vec(&record).expect("what was read can be written");
            let again: ImageRecord = serde_json::from_slice(&again).expect("what was written can be read");
            prop_assert_eq!(again, record);
        }
    }

    #[test]
    fn any_bytes_are_a_substitute_or_refused(bytes in mutated_texts(&["oci-layout:/a/b:tag", "oci-layout:x@sha256:00"])) {
        // No folder of this machine is meant.
        let text = String::from_utf8_lossy(&bytes).replace('/', "%");
        drop(text.parse::<super::Substitute>());
    }
}

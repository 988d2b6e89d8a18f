//! Tests of the layout: promotion, crashes, concurrent processes, and collection.

use std::collections::BTreeMap;
use std::sync::Barrier;

use oci_spec::image::ImageManifest;

use super::super::index::NewTag;
use super::super::marks::Marked;
use super::super::parts;
use super::super::promote::prepare;
use super::super::{Collected, KeepPolicy, claim, staging};
use super::*;
use crate::domain::model::{ImageRecord, KEY_LABEL, KeyParts, LayerKey};
use crate::domain::ports::samples::key_parts;
use crate::domain::ports::{Claim, Staged, StagedAt, StagingFolder};
use crate::system::now;

/// Opens a layout whose user's folder lies in it.
pub(in super::super) fn open(root: impl AsRef<Path>) -> Result<OciLayout, ImageStoreError> {
    OciLayout::open(root.as_ref(), &root.as_ref().join("user"))
}

fn put(folder: &Path, bytes: &[u8]) -> serde_json::Value {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a folder");
    let digest = Digest::of(bytes);
    std::fs::write(blobs.join(digest.hex()), bytes).expect("a blob");
    serde_json::json!({"mediaType": "x", "digest": digest, "size": bytes.len()})
}

/// Writes an image with these layers to a folder, like a BuildKit export.
fn image(folder: &Path, key: &LayerKey, layers: &[&str]) -> Digest {
    let config = serde_json::json!({"os":"linux","architecture":"amd64",
        "config":{"Labels":{KEY_LABEL:key}},"rootfs":{"type":"layers","diff_ids":[]}});
    let config = put(folder, config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(|layer| put(folder, layer.as_bytes())).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers
    });
    put(folder, manifest.to_string().as_bytes())["digest"].as_str().expect("a digest").parse().expect("a digest")
}

#[test]
fn what_cannot_be_read_is_not_taken_for_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = open(folder.path()).expect("a layout");
    promoted(&layout, "app", "1");
    let blobs = || std::fs::read_dir(layout.blobs()).expect("a folder").count();
    let before = blobs();
    // The manifest is there, and nobody can read it: what it needs is unknown.
    let manifest = layout.blob(&layout.list().expect("a list")[0].digest);
    std::fs::remove_file(&manifest).expect("removable");
    std::os::unix::fs::symlink(&manifest, &manifest).expect("a link to itself");
    let refused = layout.collect(KeepPolicy { bytes: 1 << 40 }).expect_err("it cannot be known what may go");
    assert!(refused.to_string().contains("nothing is removed"), "{refused}");
    assert_eq!(blobs(), before, "blobs of an image that is kept are gone");
    // The same with the index: an empty one in its place would lose every image.
    let index = layout.index_path();
    std::fs::remove_file(&index).expect("removable");
    std::os::unix::fs::symlink(&index, &index).expect("a link to itself");
    open(folder.path()).expect_err("it was replaced");
    assert!(std::fs::symlink_metadata(&index).expect("there").is_symlink());
}

pub(in super::super) fn record(parts: KeyParts) -> ImageRecord {
    ImageRecord { parts, built_on: std::collections::BTreeMap::new() }
}

fn staged(layout: &OciLayout, layer: &str, version: &str) -> (impl StagingFolder, Staged) {
    let staging = staging::create(&layout.staging_root()).expect("staging");
    let parts = key_parts(layer, version);
    let key = parts.key();
    let digest = image(staging.path(), &key, &["shared base", &format!("{layer} {version}")]);
    let name = format!("lamina/{layer}");
    let staged = Staged {
        name: name.as_str().into(),
        staging: StagedAt::Folder(staging.path().to_owned()),
        digest,
        key,
        record: record(parts),
        artifacts: None,
    };
    (staging, staged)
}

#[test]
fn latest_goes_back_to_an_older_key_with_its_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = open(folder.path()).expect("a layout");
    let (old, new) = (promoted(&layout, "rust", "1"), promoted(&layout, "rust", "2"));
    assert!(
        !layout.point(&"lamina/rust".into(), "latest", &new.key, now()).expect("an answer"),
        "it was the latest already"
    );
    assert!(layout.point(&"lamina/rust".into(), "latest", &old.key, now()).expect("an answer"));
    let found = layout.find("lamina/rust", "latest").expect("an answer").expect("found");
    assert_eq!((found.digest, found.key), (old.digest.clone(), Some(old.key.clone())));
    assert_eq!(layout.record("lamina/rust", "latest").expect("an answer"), Some(old.record));
    assert!(!layout.point(&"lamina/absent".into(), "latest", &new.key, now()).expect("an answer"));
    assert_sound(&layout);
}

fn claim(layout: &OciLayout, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
    claim::claim(&layout.claims(), key)
}

#[test]
fn a_key_is_claimed_once_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (open(folder.path()).expect("one"), open(folder.path()).expect("two"));
    let key = key_parts("rust", "1").key();
    let held = claim(&one, &key).expect("an answer").expect("free");
    assert!(claim(&two, &key).expect("an answer").is_none(), "claimed twice");
    assert!(claim(&two, &key_parts("rust", "2").key()).expect("an answer").is_some(), "another key is free");
    drop(held);
    assert!(claim(&two, &key).expect("an answer").is_some(), "a claim outlives its holder");
}

pub(in super::super) fn promoted(layout: &OciLayout, layer: &str, version: &str) -> Staged {
    let (_staging, staged) = staged(layout, layer, version);
    layout.promote(&staged, now()).expect("promoted");
    staged
}

/// Invariant of every layout: no tag points to a missing or truncated blob.
fn assert_sound(layout: &OciLayout) {
    let fresh = open(layout.root()).expect("a layout");
    for entry in fresh.index().expect("an index").entries() {
        for (digest, size) in fresh.closure(&entry.digest) {
            let meta = std::fs::metadata(fresh.blob(&digest)).expect("an indexed blob is there");
            assert_eq!(meta.len(), size);
        }
    }
}

pub(in super::super) fn fixture() -> (tempfile::TempDir, OciLayout) {
    let root = tempfile::tempdir().expect("a folder");
    let layout = open(root.path().join("images")).expect("a layout");
    (root, layout)
}

#[test]
fn finds_what_was_promoted_under_both_tags() {
    let (_root, layout) = fixture();
    assert_eq!(layout.find("lamina/rust", "latest").expect("an answer"), None);
    let staged = promoted(&layout, "rust", "1");
    for tag in ["latest", &staged.key.tag()] {
        let found = layout.find("lamina/rust", tag).expect("an answer").expect("found");
        assert_eq!((&found.digest, found.key.as_ref()), (&staged.digest, Some(&staged.key)));
        assert_eq!(found.platform, Some("linux/amd64".into()));
        assert!(found.bytes > 20);
        assert_eq!(layout.record("lamina/rust", tag).expect("an answer"), Some(staged.record.clone()));
    }
    assert_eq!(layout.find("lamina/rus", "latest").expect("an answer"), None);
    assert_eq!(std::fs::read_dir(layout.staging_root()).expect("a folder").count(), 1, "only the guard is left");
    assert_sound(&layout);
}

#[test]
fn a_second_promotion_moves_latest_and_keeps_the_older_key() {
    let (_root, layout) = fixture();
    let (old, new) = (promoted(&layout, "rust", "1"), promoted(&layout, "rust", "2"));
    let digest = |tag: &str| layout.find("lamina/rust", tag).expect("an answer").expect("found").digest;
    assert_eq!((digest("latest"), digest(&old.key.tag())), (new.digest, old.digest));
    assert_eq!(layout.record("lamina/rust", "latest").expect("an answer"), Some(new.record));
    assert_eq!(layout.record("lamina/rust", &old.key.tag()).expect("an answer"), Some(old.record));
}

#[test]
fn artifacts_are_promoted_in_the_same_breath() {
    let (_root, layout) = fixture();
    let (_staging, mut staged) = staged(&layout, "app", "1");
    let elsewhere = staging::create(&layout.staging_root()).expect("staging");
    let digest = image(elsewhere.path(), &staged.key, &["/usr/bin/app"]);
    staged.artifacts = Some((StagedAt::Folder(elsewhere.path().to_owned()), digest.clone()));
    layout.promote(&staged, now()).expect("promoted");
    for tag in ["latest", &staged.key.tag()] {
        assert_eq!(layout.find("lamina/app-artifacts", tag).expect("an answer").expect("found").digest, digest);
    }
}

#[test]
fn entries_of_others_stay_as_they_are() {
    let (_root, layout) = fixture();
    let foreign =
        serde_json::json!({"mediaType":"m","digest":Digest::of("f"),"size":1,"annotations":{"x":"y"},"data":"Zg=="});
    let index = serde_json::json!({"schemaVersion":2,"annotations":{"who":"else"},"manifests":[foreign, "odd"]});
    std::fs::write(layout.index_path(), index.to_string()).expect("an index");
    promoted(&layout, "rust", "1");
    layout.collect(KeepPolicy { bytes: 0 }).expect("collected");
    let text = std::fs::read_to_string(layout.index_path()).expect("an index");
    let index: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&index["manifests"][0], &index["manifests"][1]), (&foreign, &"odd".into()));
    assert_eq!(index["annotations"]["who"], "else");
}

#[test]
fn a_missing_blob_is_never_indexed() {
    let (_root, layout) = fixture();
    let (staging, staged) = staged(&layout, "rust", "1");
    let layer = staging.path().join("blobs/sha256").join(Digest::of("rust 1").hex());
    std::fs::write(&layer, "rust").expect("cut off");
    assert!(matches!(layout.promote(&staged, now()), Err(ImageStoreError::Corrupt { .. })));
    std::fs::remove_file(&layer).expect("removed");
    let error = layout.promote(&staged, now()).expect_err("it is missing");
    assert!(error.to_string().contains("it is missing"), "{error}");
    assert_eq!(layout.list().expect("a list"), []);
    assert_sound(&layout);
}

/// What lies in a staging folder may be changed until it is moved.
#[test]
fn what_is_promoted_is_what_its_digest_says() {
    let (root, layout) = fixture();
    let outside = root.path().join("outside");
    let (staging, staged) = staged(&layout, "rust", "1");
    let layer = staging.path().join("blobs/sha256").join(Digest::of("rust 1").hex());
    std::fs::write(&layer, "RUST 1").expect("of the same length");
    let error = layout.promote(&staged, now()).expect_err("it is another");
    assert!(error.to_string().contains("another digest"), "{error}");
    assert!(!layout.blob(&Digest::of("rust 1")).exists(), "it stays where images are used from");
    std::fs::write(&outside, "rust 1").expect("writable");
    std::os::unix::fs::symlink(&outside, &layer).expect("a link");
    layout.promote(&staged, now()).expect_err("a link");
    std::fs::remove_file(&layer).expect("a link");
    let (blobs, moved) = (staging.path().join("blobs"), root.path().join("moved"));
    std::fs::rename(&blobs, &moved).expect("moved");
    std::os::unix::fs::symlink(&moved, &blobs).expect("a link");
    std::fs::write(&layer, "rust 1").expect("writable");
    layout.promote(&staged, now()).expect_err("the folder is a link");
    assert_eq!(std::fs::read(&outside).expect("it stays"), b"rust 1");
    assert_eq!(layout.list().expect("a list"), []);
    assert_sound(&layout);
}

/// An image whose record names a parent, and its artifact.
fn with_parent(layout: &OciLayout) -> (Staged, ImageManifest) {
    let (_staging, mut staged) = staged(layout, "rust", "1");
    staged.record.built_on = BTreeMap::from([("base".into(), Digest::of("base image"))]);
    layout.promote(&staged, now()).expect("promoted");
    let index = layout.index().expect("an index");
    let artifact =
        *layout.parts(&index, staged.name.as_str(), &staged.digest).expect("an answer").expect("an artifact");
    (staged, artifact)
}

#[test]
fn parents_are_told_without_the_record_but_not_without_its_file() {
    let (_root, layout) = fixture();
    let (staged, artifact) = with_parent(&layout);
    let told = || layout.built_on(staged.name.as_str(), &staged.digest).expect("an answer");
    assert_eq!(told(), Some(staged.record.built_on.clone()));
    let record = parts::record_in(&artifact).expect("a record");
    let (path, size) = (layout.blob(&oci::digest(record)), usize::try_from(record.size()).expect("small"));
    std::fs::write(&path, vec![b' '; size]).expect("writable");
    assert_eq!(told(), None, "its content is another");
    std::fs::write(&path, "cut off").expect("writable");
    assert_eq!(told(), None);
}

#[test]
fn the_parents_that_an_older_version_recorded_are_told() {
    let (_root, layout) = fixture();
    let (staged, mut artifact) = with_parent(&layout);
    artifact.set_annotations(None);
    let older = serde_json::to_vec(&artifact).expect("JSON");
    put(layout.root(), &older);
    let target = &oci::describe(artifact.media_type().clone().expect("one"), &older);
    let mut index = (*layout.index().expect("an index")).clone();
    let (name, tag, subject) = (staged.name.as_str(), parts::tag(&staged.key.tag()), Some(&staged.digest));
    let (reference, digest) = (format!("{name}:{tag}"), oci::digest(target));
    let marked = Marked { reference: &reference, digest: &digest, subject, key: None };
    let mark = &layout.shared.marks.mark(&marked).expect("a mark");
    index.set(&NewTag { name, tag: &tag, target, at: now(), subject, mark });
    index.write(&layout.shared.folder).expect("written");
    assert_eq!(layout.built_on(name, &staged.digest).expect("an answer"), Some(staged.record.built_on));
}

#[test]
fn a_damaged_image_is_not_found_and_mended_by_the_next_promotion() {
    let (_root, layout) = fixture();
    promoted(&layout, "rust", "1");
    std::fs::write(layout.blob(&Digest::of("rust 1")), "").expect("cut off");
    assert_eq!(layout.find("lamina/rust", "latest").expect("an answer"), None);
    promoted(&layout, "rust", "1");
    assert!(layout.find("lamina/rust", "latest").expect("an answer").is_some());
    assert_sound(&layout);
}

#[test]
fn a_crash_before_the_index_leaves_the_old_state() {
    let (_root, layout) = fixture();
    let old = promoted(&layout, "rust", "1");
    let (_staging, staged) = staged(&layout, "rust", "2");
    // All but the last step, as if the process died here.
    prepare(&layout, &staged, Timestamp(1)).expect("prepared");
    assert_sound(&layout);
    assert_eq!(layout.find("lamina/rust", "latest").expect("an answer").expect("found").digest, old.digest);
    // A second build of the same key starts over and succeeds.
    promoted(&layout, "rust", "2");
    assert_eq!(layout.find("lamina/rust", "latest").expect("an answer").expect("found").digest, staged.digest);
}

#[test]
fn many_at_once_all_stay() {
    let (_root, layout) = fixture();
    let root = layout.root().to_owned();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (root, start) = (&root, &start);
            scope.spawn(move || {
                // Each thread opens its own layout, like a separate process.
                let layout = open(root).expect("a layout");
                start.wait();
                for version in 0..4 {
                    promoted(&layout, &format!("layer-{thread}"), &version.to_string());
                }
            });
        }
    });
    for thread in 0..8 {
        let key = key_parts(&format!("layer-{thread}"), "3").key();
        let found = layout.find(&format!("lamina/layer-{thread}"), "latest").expect("an answer").expect("found");
        assert_eq!(found.key, Some(key));
    }
    assert_eq!(layout.list().expect("a list").len(), 8 * 5);
    assert_sound(&layout);
}

#[test]
fn collects_the_oldest_first_and_never_what_is_latest() {
    let (_root, layout) = fixture();
    let versions: Vec<Staged> = ["1", "2", "3"]
        .into_iter()
        .enumerate()
        .map(|(at, version)| {
            let (_staging, staged) = staged(&layout, "rust", version);
            let at = Timestamp(u64::try_from(at).expect("small"));
            prepare(&layout, &staged, at).expect("prepared").write(&layout.shared.folder).expect("written");
            staged
        })
        .collect();
    let all = layout.collect(KeepPolicy { bytes: u64::MAX }).expect("collected");
    assert_eq!((all.images, all.blobs), (0, 0));
    std::fs::write(layout.blob(&Digest::of("nobody's")), "nobody's").expect("a blob");
    std::fs::write(layout.blobs().join("a note"), "no blob").expect("a file");
    std::fs::write(layout.blobs().join(".tmp-half"), "half").expect("a file");
    // One byte over the limit: the oldest image is removed with its parts; shared blobs stay.
    let total: u64 = layout
        .index()
        .expect("an index")
        .entries()
        .filter(|e| e.subject.is_none())
        .fold(std::collections::BTreeSet::new(), |mut blobs, entry| {
            blobs.extend(layout.closure(&entry.digest));
            blobs
        })
        .iter()
        .map(|(_, size)| size)
        .sum();
    let done = layout.collect(KeepPolicy { bytes: total - 1 }).expect("collected");
    assert_eq!((done.images, done.busy), (1, false));
    assert!(!layout.blob(&Digest::of("nobody's")).exists() && !layout.blobs().join(".tmp-half").exists());
    assert!(layout.blobs().join("a note").exists(), "it is not lian-build's");
    assert!(layout.find("lamina/rust", &versions[0].key.tag()).expect("an answer").is_none());
    assert!(layout.find("lamina/rust", &versions[1].key.tag()).expect("an answer").is_some());
    assert_sound(&layout);

    let done = layout.collect(KeepPolicy { bytes: 0 }).expect("collected");
    assert_eq!(done.images, 1);
    assert_eq!(layout.find("lamina/rust", "latest").expect("an answer").expect("found").digest, versions[2].digest);
    assert_sound(&layout);
}

#[test]
fn nothing_is_collected_from_under_a_run() {
    let (_root, layout) = fixture();
    promoted(&layout, "rust", "1");
    let run = layout.in_use().expect("in use");
    let other = open(layout.root()).expect("a layout");
    assert_eq!(
        other.collect(KeepPolicy { bytes: 0 }).expect("an answer"),
        Collected { busy: true, ..Collected::default() }
    );
    drop(run);
    assert!(!other.collect(KeepPolicy { bytes: 0 }).expect("an answer").busy);
}

#[test]
fn whoever_removes_the_lock_files_makes_no_room_for_a_second_holder() {
    let (_root, layout) = fixture();
    promoted(&layout, "rust", "1");
    let run = layout.in_use().expect("in use");
    let other = open(layout.root()).expect("a layout");
    std::fs::remove_file(layout.in_use_path()).expect("removed");
    assert!(other.collect(KeepPolicy { bytes: 0 }).expect("an answer").busy, "collected from under a run");
    drop(run);
    let changing = layout.alone().expect("alone");
    std::fs::remove_file(layout.root().join(".lock")).expect("removed");
    let free = || {
        let handle = other.shared.folder.handle().expect("a folder");
        crate::system::lock::try_exclusive(&handle).expect("lockable")
    };
    assert!(!free(), "the index has two writers");
    drop(changing);
    assert!(free());
}

#[test]
fn dropping_an_image_leaves_its_neighbours() {
    let (_root, layout) = fixture();
    promoted(&layout, "rust", "1");
    promoted(&layout, "rust-deps", "1");
    let done = layout.drop_image("lamina/rust").expect("dropped");
    assert_eq!(done.images, 1);
    let names: Vec<String> = layout.list().expect("a list").into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, ["lamina/rust-deps", "lamina/rust-deps"]);
    assert_sound(&layout);
}

#[test]
fn no_link_at_any_level_of_a_layout_is_followed() {
    let (root, layout) = fixture();
    let staged = promoted(&layout, "rust", "1");
    let elsewhere = root.path().join("elsewhere");
    let held = |path: &Path| walkdir::WalkDir::new(path).into_iter().count();
    let names = ["staging", "claims", "blobs", "blobs/sha256", ".lock", ".in-use", "index.json"];
    for name in names {
        let path = layout.root().join(name);
        let _ = std::fs::remove_dir_all(&elsewhere);
        std::fs::create_dir_all(elsewhere.join("42-0/inside")).expect("a folder");
        std::fs::write(elsewhere.join("file"), "{}").expect("a file");
        let target = if path.is_dir() { elsewhere.clone() } else { elsewhere.join("file") };
        let aside = root.path().join("aside");
        std::fs::rename(&path, &aside).or_else(|_| std::fs::write(&aside, "")).expect("movable");
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        let before = held(&elsewhere);
        let used = || -> Result<(), ImageStoreError> {
            let layout = open(layout.root())?;
            drop((layout.in_use()?, claim(&layout, &staged.key)?, staging::create(&layout.staging_root())?));
            layout.find("lamina/rust", "latest")?;
            layout.collect(KeepPolicy { bytes: 0 }).map(drop)
        };
        let error = used().expect_err(name);
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        assert!(cause.contains("link"), "{name}: {error}: {cause}");
        assert_eq!((held(&elsewhere), std::fs::read(elsewhere.join("file")).expect("there")), (before, b"{}".to_vec()));
        std::fs::remove_file(&path).expect("removable");
        std::fs::rename(&aside, &path).expect("movable");
    }
    assert!(layout.find("lamina/rust", "latest").expect("an answer").is_some());
}

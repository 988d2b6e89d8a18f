//! Tests of which images are used again: forged, flipped, truncated, swapped and doubled ones are not.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::layout::tests::{fixture, open, promoted};
use super::*;
use crate::domain::ports::Staged;

const NAME: &str = "lamina/rust";

/// What a plan learns of a layer: whether its image is used again, else why not.
fn plan(layout: &OciLayout, staged: &Staged) -> Result<bool, Option<Unusable>> {
    let found = layout.find(NAME, &staged.key.tag()).expect("an answer");
    let parents = found.and_then(|found| layout.built_on(NAME, &found.digest).expect("an answer"));
    parents.map(|_| true).ok_or_else(|| layout.unusable(&NAME.into(), &staged.key).expect("an answer"))
}

/// As another process sees it.
fn anew(layout: &OciLayout) -> OciLayout {
    open(layout.root()).expect("a layout")
}

fn blobs(layout: &OciLayout) -> Vec<PathBuf> {
    let list = std::fs::read_dir(layout.blobs()).expect("a folder");
    list.map(|entry| entry.expect("an entry").path()).collect()
}

/// Changes a file's content and gives it its old time again.
fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let modified: SystemTime = std::fs::metadata(path).expect("there").modified().expect("a time");
    let mut bytes = std::fs::read(path).expect("readable");
    with(&mut bytes);
    std::fs::write(path, bytes).expect("writable");
    std::fs::File::options().write(true).open(path).expect("there").set_modified(modified).expect("settable");
}

/// Waits until what was just written can be remembered as checked.
fn settle(layout: &OciLayout, staged: &Staged) {
    let remembered = || std::fs::read_dir(layout.root().join("user/checked")).is_ok_and(|list| list.count() == 1);
    while !remembered() {
        assert_eq!(plan(&anew(layout), staged), Ok(true));
    }
}

#[test]
fn a_flipped_byte_in_any_blob_is_damage_although_all_was_checked_before() {
    let (_root, layout) = fixture();
    let staged = promoted(&layout, "rust", "1");
    settle(&layout, &staged);
    // The empty config of the record is needed by nobody.
    let used = blobs(&layout).into_iter().filter(|path| std::fs::metadata(path).expect("there").len() > 2);
    let used: Vec<PathBuf> = used.collect();
    assert_eq!(used.len(), 6, "manifest, config, two layers, the record and its manifest");
    for path in used {
        let size = usize::try_from(std::fs::metadata(&path).expect("there").len()).expect("small");
        for at in [0, size / 2, size - 1] {
            change(&path, |bytes| bytes[at] ^= 1);
            let layout = anew(&layout);
            assert_eq!(plan(&layout, &staged), Err(Some(Unusable::Damaged)), "byte {at} of {}", path.display());
            promoted(&layout, "rust", "1");
            assert_eq!(plan(&layout, &staged), Ok(true), "{} is not mended by a promotion", path.display());
        }
    }
}

#[test]
fn blobs_that_were_swapped_truncated_or_linked_are_damage() {
    let (root, layout) = fixture();
    let staged = promoted(&layout, "rust", "1");
    let (one, other) = (layout.blob(&Digest::of("rust 1")), root.path().join("elsewhere"));
    let cases: [(&str, &dyn Fn()); 4] = [
        ("swapped", &|| std::fs::write(&one, "rust 2").expect("writable")),
        ("truncated", &|| std::fs::write(&one, "rust").expect("writable")),
        ("longer", &|| std::fs::write(&one, "rust 1 and more").expect("writable")),
        ("linked", &|| {
            std::fs::rename(&one, &other).expect("movable");
            std::os::unix::fs::symlink(&other, &one).expect("a link");
        }),
    ];
    for (case, damage) in cases {
        damage();
        let error = layout.check(NAME, &staged.digest).expect_err(case);
        let told = format!("{error}");
        assert!(told.contains(Digest::of("rust 1").hex()), "{case}: {told}");
        assert_eq!(plan(&anew(&layout), &staged), Err(Some(Unusable::Damaged)), "{case}");
        promoted(&layout, "rust", "1");
        assert_eq!(plan(&anew(&layout), &staged), Ok(true), "{case} is not mended by a promotion");
    }
    assert_eq!(std::fs::read(&other).expect("there"), b"rust 1", "what a link led to was changed");
}

/// A change of the index's entries.
type Forgery<'a> = &'a dyn Fn(&mut Vec<serde_json::Value>);

/// Changes the index as whoever wrote the repository could.
fn forge(layout: &OciLayout, with: impl Fn(&mut Vec<serde_json::Value>)) {
    change(&layout.index_path(), |bytes| {
        let mut index: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        with(index["manifests"].as_array_mut().expect("a list"));
        *bytes = index.to_string().into_bytes();
    });
}

#[test]
fn an_image_is_used_again_by_the_user_who_wrote_it_alone() {
    let (root, layout) = fixture();
    let staged = promoted(&layout, "rust", "1");
    let others = |user: &str| OciLayout::open(layout.root(), &root.path().join(user)).expect("a layout");
    assert_eq!(plan(&others("without a key"), &staged), Err(Some(Unusable::NotYours)));
    let other = others("with another key");
    promoted(&other, "other", "1");
    assert_eq!(plan(&other, &staged), Err(Some(Unusable::NotYours)));
    assert!(!other.point(&NAME.into(), "latest", &staged.key, crate::system::now()).expect("an answer"));
    assert_eq!(other.find(NAME, "latest").expect("an answer"), None, "it can be loaded");
    assert_eq!(plan(&layout, &staged), Ok(true));
}

#[test]
fn a_mark_holds_for_its_tag_its_image_and_its_record_alone() {
    let (_root, layout) = fixture();
    let (evil, good) = (promoted(&layout, "rust", "evil"), promoted(&layout, "rust", "good"));
    let (evil_tag, good_tag) = (format!("{NAME}:{}", evil.key.tag()), format!("{NAME}:{}", good.key.tag()));
    let named =
        |value: &serde_json::Value, name: &str| value["annotations"]["org.opencontainers.image.ref.name"] == *name;
    let whole = std::fs::read(layout.index_path()).expect("readable");
    let replace = |key: &'static str, suffix: &'static str| {
        let (evil_tag, good_tag) = (format!("{evil_tag}{suffix}"), format!("{good_tag}{suffix}"));
        move |list: &mut Vec<serde_json::Value>| {
            let evil = list.iter().find(|value| named(value, &evil_tag)).expect("there")[key].clone();
            list.iter_mut().find(|value| named(value, &good_tag)).expect("there")[key] = evil;
        }
    };
    let cases: [(&str, Forgery<'_>); 3] = [
        ("another image under the tag", &replace("digest", "")),
        ("another record", &replace("digest", ".parts")),
        ("no marks", &|list: &mut Vec<serde_json::Value>| {
            for value in list {
                value["annotations"].as_object_mut().expect("annotations").remove("dev.lian-build.mark");
            }
        }),
    ];
    for (case, forged) in cases {
        forge(&layout, forged);
        assert_eq!(plan(&anew(&layout), &good), Err(Some(Unusable::NotYours)), "{case}");
        std::fs::write(layout.index_path(), &whole).expect("writable");
        assert_eq!(plan(&anew(&layout), &good), Ok(true), "{case}");
    }
}

#[test]
fn two_entries_for_one_tag_are_a_fault() {
    let (_root, layout) = fixture();
    let staged = promoted(&layout, "rust", "1");
    forge(&layout, |list| list.insert(0, list[0].clone()));
    let error = anew(&layout).find(NAME, "latest").expect_err("one of them wins");
    let help = miette::Diagnostic::help(&error).expect("help").to_string();
    assert!(error.to_string().contains(&format!("two entries for the tag \"{NAME}:{}\"", staged.key.tag())), "{error}");
    assert!(help.contains("index.json away"), "{help}");
}

#[test]
fn an_index_of_a_million_entries_is_refused_unread() {
    let (_root, layout) = fixture();
    let numbers = vec!["0"; 3_000_000].join(",");
    std::fs::write(layout.index_path(), format!(r#"{{"manifests":[{numbers}]}}"#)).expect("writable");
    let error = anew(&layout).find(NAME, "latest").expect_err("it is read");
    assert!(error.to_string().contains("more entries"), "{error}");
    std::fs::File::create(layout.index_path()).expect("writable").set_len(1 << 40).expect("sparse");
    let error = anew(&layout).find(NAME, "latest").expect_err("it is read");
    assert!(std::error::Error::source(&error).expect("a cause").to_string().contains("longer than"), "{error}");
}

//! Image layouts that a stranger plants in a repository, and that somebody is talked into naming: nothing in them is
//! built upon, and no link of theirs is followed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Canary, cloned};
use crate::support::project::{Project, Ran};

/// The planted layout's folder.
const PLANTED: &str = "planted";
const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// A repository with two layers and a layout with both images, sound, labelled and recorded by the stranger.
fn planted() -> Project {
    let origin = Project::with_base();
    origin.layer("tools", BASE, "FROM base.example/busybox:1\nRUN echo tool > /tool\n");
    origin.layer("app", "  build_base = \"tools\",", "FROM lamina/tools\nRUN cat /tool\n");
    origin.lian(&["apply", "--layout", PLANTED]).exits(0);
    origin
}

fn in_planted(project: &Project, arguments: &[&str]) -> Ran {
    project.command(arguments).env("LIAN_LAYOUT", PLANTED).output().expect("it starts").into()
}

fn outcomes(project: &Project) -> Vec<String> {
    in_planted(project, &["apply", "--format", "json"]).exits(0).outcomes()
}

#[test]
fn a_planted_image_is_built_again_however_well_it_is_forged() {
    let origin = planted();
    let clone = cloned(&origin);
    // What the stranger sees: everything is there.
    let mut command = clone.command(&["plan", "--detailed-exitcode", "--layout", PLANTED]);
    let theirs: Ran = command.env("LIAN_DATA_DIR", origin.data()).output().expect("it starts").into();
    theirs.exits(0);
    let planned = in_planted(&clone, &["plan", "--detailed-exitcode"]).exits(2);
    assert!(planned.stdout.contains("its record was not written by you"), "{}", planned.both());
    assert_eq!(outcomes(&clone), ["app=built", "tools=built"]);
    assert_eq!(outcomes(&clone), ["app=reused", "tools=reused"]);
}

/// The largest blobs first: the layers.
fn blobs(project: &Project) -> Vec<PathBuf> {
    let list = std::fs::read_dir(project.path().join(PLANTED).join("blobs/sha256")).expect("a layout");
    let mut list: Vec<(u64, PathBuf)> =
        list.flatten().map(|one| (one.metadata().expect("there").len(), one.path())).collect();
    list.sort();
    list.into_iter().rev().map(|(_, path)| path).collect()
}

fn flip_last_byte(path: &Path) {
    let modified = std::fs::metadata(path).and_then(|found| found.modified()).expect("a time");
    let mut bytes = std::fs::read(path).expect("readable");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(path, bytes).expect("writable");
    std::fs::File::options().write(true).open(path).and_then(|file| file.set_modified(modified)).expect("set");
}

#[test]
fn a_flipped_byte_is_the_damage_of_its_image_and_is_mended() {
    let project = planted();
    in_planted(&project, &["plan", "--detailed-exitcode"]).exits(0);
    let largest = blobs(&project).remove(0);
    flip_last_byte(&largest);
    let planned = in_planted(&project, &["plan", "--detailed-exitcode"]).exits(2);
    let blob = largest.file_name().expect("a name").to_str().expect("text");
    assert!(planned.stdout.contains("its image is damaged"), "{}", planned.both());
    for told in ["the image lamina/tools:key-", "is damaged", blob, "its content has another digest"] {
        assert!(planned.stderr.contains(told), "`{told}` is not told: {}", planned.both());
    }
    assert!(outcomes(&project).contains(&"tools=built".to_owned()));
    assert_eq!(outcomes(&project), ["app=reused", "tools=reused"]);
}

#[test]
fn no_link_in_a_planted_layout_is_followed() {
    let project = planted();
    for name in ["staging", "claims", "blobs", "blobs/sha256", ".lock", ".in-use", "index.json"] {
        let canary = Canary::new();
        let (link, aside) = (project.path().join(PLANTED).join(name), project.path().join("aside"));
        std::fs::rename(&link, &aside).expect("the layout has it");
        let target = if aside.is_dir() { canary.path().to_owned() } else { canary.path().join("index.json") };
        symlink(target, &link).expect("a link");
        let mut said = String::new();
        for command in [&["plan"][..], &["apply", "--force", "tools"], &["gc", "--keep-bytes", "1"]] {
            said.push_str(&in_planted(&project, command).both());
            canary.is_whole(&format!("{command:?} with {name} as a link"));
        }
        assert!(said.contains("symbolic link"), "{name}: {said}");
        std::fs::remove_file(&link).expect("removable");
        std::fs::rename(&aside, &link).expect("movable");
    }
}

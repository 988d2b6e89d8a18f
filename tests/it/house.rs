//! The rules of the house that a machine can hold: floors, names of callers, sizes of files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A room imports only from floors below its own (ADR-002). `report` draws what `plan` and `life` say.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("model", 1),
    ("cache", 2),
    ("dockerfile", 2),
    ("graph", 2),
    ("ports", 2),
    ("sizing", 2),
    ("plan", 3),
    ("life", 4),
    ("buildkit", 5),
    ("context", 5),
    ("drive", 5),
    ("nickel", 5),
    ("providers", 5),
    ("registries", 5),
    ("remote", 5),
    ("report", 5),
    ("serve", 5),
    ("store", 5),
    ("cli", 6),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(root().join(below))
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no sources below {below}");
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).expect("readable"))).collect()
}

fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    Path::new(first).extension().is_none_or(|extension| extension != "rs").then(|| first.to_owned())
}

/// Every room named by `crate::room` in a text, groups (`use crate::{a, b}`) included.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for after in text.split("crate::").skip(1) {
        if let Some(group) = after.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or("");
            rooms.extend(group.split(',').map(|item| item.trim().split("::").next().unwrap_or("").to_owned()));
        } else {
            rooms.push(after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        }
    }
    rooms
}

#[test]
fn rooms_import_only_from_floors_below() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let Some(room) = room(&path) else { continue };
        let Some(floor) = floors.get(room.as_str()) else {
            faults.push(format!("{}: the room `{room}` has no floor", path.display()));
            continue;
        };
        let test = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        let production = if test { "" } else { text.split("#[cfg(test)]\nmod tests").next().unwrap_or("") };
        for other in imports(production).into_iter().filter(|other| *other != room) {
            match floors.get(other.as_str()) {
                Some(below) if below < floor => {}
                Some(_) => faults.push(format!("{}: {room} imports {other}", path.display())),
                None => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_lower_floors_are_pure() {
    let banned = ["tokio::", "std::fs", "std::env", "std::process", "SystemTime", "println!", "eprintln!", "std::net"];
    for (path, text) in sources("src") {
        let Some(room) = room(&path) else { continue };
        if FLOORS.iter().any(|(name, floor)| *name == room && *floor <= 4) {
            for word in banned {
                assert!(!text.contains(word), "{}: floor 0 to 4 and `{word}`", path.display());
            }
        }
    }
}

#[test]
fn the_core_knows_no_caller() {
    // ADR-001. The words are put together here so that this file does not match itself.
    let callers = [["provisioning", "workspace"].join("_"), ["vapora", ""].join("_"), ["woodpecker", ""].join("_")];
    for (path, text) in sources("src") {
        for caller in &callers {
            assert!(!text.contains(caller.as_str()), "{} names a caller: {caller}", path.display());
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_own() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        assert!(text.lines().count() <= 500, "{} has more than 500 lines", path.display());
        assert!(text.starts_with("//!"), "{} does not open with //!", path.display());
    }
}

#[test]
fn the_oom_retry_is_one() {
    assert_eq!(lian_build::life::MAX_OOM_RETRIES, 1, "ADR-039");
}

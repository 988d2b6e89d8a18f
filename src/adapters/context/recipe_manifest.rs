//! How a manifest on disk differs from a recipe's copy of it: dependencies, features, profiles, and the library and
//! binaries. What no dependency's build depends on does not count. Not responsible for: errors that Cargo would report.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

/// A manifest in a recipe, as cargo-chef rewrote it: without the fields that it does not know, and with defaults
/// spelled out.
#[derive(Debug, Deserialize)]
pub(super) struct RecipeManifest {
    pub(super) relative_path: PathBuf,
    pub(super) contents: String,
    #[serde(default)]
    pub(super) targets: Vec<RecipeTarget>,
}

/// Something that Cargo builds from a manifest's folder.
#[derive(Debug, Deserialize)]
pub(super) struct RecipeTarget {
    name: String,
    /// `"Bin"`, `{"Lib": …}`, …
    kind: serde_json::Value,
}

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The recipe lacks it.
    New(String),
    /// Only the recipe has it.
    Gone(String),
    /// Both have it, with different values.
    Altered(String),
}

impl Difference {
    /// The difference in words for people.
    pub(super) fn told(&self, manifest: &str) -> String {
        match self {
            Self::New(what) => format!("{what} in {manifest}, not in the recipe"),
            Self::Gone(what) => format!("{what} in the recipe, not in {manifest}"),
            Self::Altered(what) => format!("{what} in {manifest}, different in the recipe"),
        }
    }
}

const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
/// The fields of a dependency and of a profile that cargo-chef keeps. Others cannot be compared.
const DEPENDENCY_FIELDS: [&str; 13] = [
    "version",
    "registry",
    "registry-index",
    "path",
    "git",
    "branch",
    "tag",
    "rev",
    "features",
    "optional",
    "default-features",
    "package",
    "workspace",
];
const PROFILE_FIELDS: [&str; 14] = [
    "opt-level",
    "debug",
    "rpath",
    "inherits",
    "lto",
    "debug-assertions",
    "codegen-units",
    "panic",
    "incremental",
    "overflow-checks",
    "strip",
    "package",
    "split-debuginfo",
    "build-override",
];

/// What differs between the manifest in `folder` and the recipe's copy. A partial recipe may lack what it does not
/// need.
pub(super) fn differences(
    manifest: &Table,
    folder: &Path,
    recipe: &Table,
    targets: &[RecipeTarget],
    partial: bool,
) -> Vec<Difference> {
    let (here, cooked) = (facts(manifest), facts(recipe));
    let mut differences = Vec::new();
    for (what, value) in &here {
        match cooked.get(what) {
            None if partial && what.starts_with("workspace.") => {}
            None => differences.push(Difference::New(what.clone())),
            Some(other) if other != value => differences.push(Difference::Altered(what.clone())),
            Some(_) => {}
        }
    }
    differences.extend(cooked.keys().filter(|what| !here.contains_key(*what)).cloned().map(Difference::Gone));
    if let Some(found) = targets_of(manifest, folder) {
        let cooked: BTreeSet<String> = targets.iter().filter_map(told_target).collect();
        differences.extend(found.difference(&cooked).cloned().map(Difference::New));
        differences.extend(cooked.difference(&found).cloned().map(Difference::Gone));
    }
    differences
}

/// Everything that is compared, by its dotted name, in one form however it was written.
fn facts(manifest: &Table) -> BTreeMap<String, Value> {
    let mut facts = BTreeMap::new();
    dependencies(manifest, "", &mut facts);
    for (platform, tables) in tables(manifest, "target") {
        dependencies(tables, &format!("target.{platform}."), &mut facts);
    }
    if let Some(workspace) = manifest.get("workspace").and_then(Value::as_table) {
        dependencies(workspace, "workspace.", &mut facts);
    }
    for (registry, patches) in tables(manifest, "patch") {
        facts.extend(patches.iter().map(|(name, value)| (format!("patch.{registry}.{name}"), dependency(value))));
    }
    for (name, value) in manifest.get("features").and_then(Value::as_table).into_iter().flatten() {
        facts.insert(format!("features.{name}"), sorted(value));
    }
    for (name, settings) in tables(manifest, "profile") {
        let settings = profile(settings);
        if !settings.is_empty() {
            facts.insert(format!("profile.{name}"), Value::Table(settings));
        }
    }
    facts
}

/// The tables inside a table.
fn tables<'a>(manifest: &'a Table, name: &str) -> impl Iterator<Item = (&'a String, &'a Table)> {
    let inner = manifest.get(name).and_then(Value::as_table).into_iter().flatten();
    inner.filter_map(|(name, value)| value.as_table().map(|table| (name, table)))
}

fn dependencies(manifest: &Table, prefix: &str, facts: &mut BTreeMap<String, Value>) {
    for kind in DEPENDENCIES {
        for name in [kind.to_owned(), kind.replace('-', "_")] {
            for (name, value) in manifest.get(&name).and_then(Value::as_table).into_iter().flatten() {
                facts.insert(format!("{prefix}{kind}.{name}"), dependency(value));
            }
        }
    }
}

/// `"1"` becomes `{ version = "1" }`, fields with their default value are dropped, and the version of a path dependency
/// is masked.
fn dependency(value: &Value) -> Value {
    let Some(written) = value.as_table() else {
        return Value::Table([("version".to_owned(), value.clone())].into_iter().collect());
    };
    let mut kept = known(written, &DEPENDENCY_FIELDS);
    let inherited = kept.get("workspace").and_then(Value::as_bool) == Some(true);
    if let Some(features) = kept.get_mut("features") {
        *features = sorted(features);
    }
    kept.retain(|field, value| match field {
        "optional" | "workspace" => *value != Value::Boolean(false),
        "default-features" => !inherited && *value != Value::Boolean(true),
        "features" => value.as_array().is_none_or(|features| !features.is_empty()),
        "version" => !written.contains_key("path"),
        _ => true,
    });
    Value::Table(kept)
}

fn profile(written: &Table) -> Table {
    let mut kept = known(written, &PROFILE_FIELDS);
    if let Some(strip) = kept.get_mut("strip") {
        match strip.as_str() {
            Some("none") => *strip = Value::Boolean(false),
            Some("symbols") => *strip = Value::Boolean(true),
            _ => {}
        }
    }
    kept.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
    kept
}

/// The known fields, including their old spelling with `_`.
fn known(written: &Table, fields: &[&str]) -> Table {
    let kebab = written.iter().map(|(field, value)| (field.replace('_', "-"), value.clone()));
    kebab.filter(|(field, _)| fields.contains(&field.as_str())).collect()
}

/// Sorts a list whose order has no meaning.
fn sorted(value: &Value) -> Value {
    let Some(items) = value.as_array() else { return value.clone() };
    let mut items = items.clone();
    items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    items.dedup();
    Value::Array(items)
}

/// `lib.name` or `bin.name`; `None` for what is not built by default.
fn told_target(target: &RecipeTarget) -> Option<String> {
    if target.kind.get("Lib").is_some() {
        Some(format!("lib.{}", target.name.replace('-', "_")))
    } else if target.kind == "Bin" {
        Some(format!("bin.{}", target.name))
    } else {
        None
    }
}

/// The library and the binaries that Cargo would find; nothing if the manifest has no package.
fn targets_of(manifest: &Table, folder: &Path) -> Option<BTreeSet<String>> {
    let package = manifest.get("package")?.as_table()?;
    let name = package.get("name")?.as_str()?;
    let mut found = BTreeSet::new();
    let library = manifest.get("lib").and_then(Value::as_table);
    let discovers = |what: &str| package.get(what).and_then(Value::as_bool);
    if library.is_some() || discovers("autolib") != Some(false) && folder.join("src/lib.rs").is_file() {
        let own = library.and_then(|library| library.get("name")).and_then(Value::as_str);
        found.insert(format!("lib.{}", own.unwrap_or(name).replace('-', "_")));
    }
    let listed: Vec<&Table> =
        manifest.get("bin").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table).collect();
    let texts = |field: &str| listed.iter().filter_map(|bin| bin.get(field)?.as_str()).collect::<BTreeSet<&str>>();
    let (names, paths) = (texts("name"), texts("path"));
    found.extend(names.iter().map(|name| format!("bin.{name}")));
    // In edition 2015, which is the default, a list of binaries is complete.
    let first_edition = package.get("edition").is_none_or(|edition| edition.as_str() == Some("2015"));
    if discovers("autobins").unwrap_or(!first_edition || listed.is_empty()) {
        let unlisted = discovered(name, folder);
        let unlisted =
            unlisted.iter().filter(|(name, path)| !names.contains(name.as_str()) && !paths.contains(path.as_str()));
        found.extend(unlisted.map(|(name, _)| format!("bin.{name}")));
    }
    Some(found)
}

/// The binaries that exist because their files do: name and path.
fn discovered(package: &str, folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if folder.join("src/main.rs").is_file() {
        found.push((package.to_owned(), "src/main.rs".to_owned()));
    }
    for entry in fs::read_dir(folder.join("src/bin")).into_iter().flatten().filter_map(Result::ok).take(10_000) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.path().is_dir() {
            if entry.path().join("main.rs").is_file() {
                found.push((name.clone(), format!("src/bin/{name}/main.rs")));
            }
        } else if let Some(stem) = name.strip_suffix(".rs").filter(|stem| !stem.is_empty()) {
            found.push((stem.to_owned(), format!("src/bin/{name}")));
        }
    }
    found
}

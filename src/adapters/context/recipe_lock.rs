//! How two Cargo lock files differ in what would be compiled. Versions of the workspace's own packages do not count,
//! because cargo-chef masks them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

#[derive(Deserialize)]
struct LockFile {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// A version and where it comes from. The workspace's own packages have neither.
type Release = (String, Option<String>);

/// What the lock file holds about a release.
#[derive(Debug, PartialEq, Eq)]
struct Locked {
    checksum: Option<String>,
    dependencies: BTreeSet<String>,
}

/// Packages by name.
#[derive(Debug)]
pub(super) struct Lock(BTreeMap<String, BTreeMap<Release, Locked>>);

impl Lock {
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let LockFile { package: packages } = toml::from_str(text)?;
        let own: BTreeSet<String> =
            packages.iter().filter(|package| package.source.is_none()).map(|package| package.name.clone()).collect();
        // A dependency is named with its version if its name alone is ambiguous.
        let masked = |dependency: String| match dependency.split(' ').next() {
            Some(name) if own.contains(name) => name.to_owned(),
            _ => dependency,
        };
        let mut lock: BTreeMap<String, BTreeMap<Release, Locked>> = BTreeMap::new();
        for Package { name, version, source, checksum, dependencies } in packages {
            let (version, dependencies) = match source {
                Some(_) => (version, dependencies.into_iter().map(masked).collect()),
                // Their dependencies stand in their manifests, which are compared.
                None => (String::new(), BTreeSet::new()),
            };
            lock.entry(name).or_default().insert((version, source), Locked { checksum, dependencies });
        }
        Ok(Self(lock))
    }
}

/// What differs, by package, in words for people. A partial recipe may lack what it does not need.
pub(super) fn differences(lock: &Lock, recipe: &Lock, partial: bool) -> Vec<String> {
    let none = BTreeMap::new();
    let names: BTreeSet<&String> = lock.0.keys().chain(recipe.0.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let (here, cooked) = (lock.0.get(name).unwrap_or(&none), recipe.0.get(name).unwrap_or(&none));
        let only = |these: &BTreeMap<Release, Locked>, those: &BTreeMap<Release, Locked>| {
            these.keys().filter(|release| !those.contains_key(*release)).map(|(version, _)| version.clone()).collect()
        };
        let (new, gone): (Vec<String>, Vec<String>) = (only(here, cooked), only(cooked, here));
        if gone.is_empty() && (new.is_empty() || partial) {
            differences.extend(cooked.iter().filter_map(|(release, locked)| altered(name, release, here, locked)));
            continue;
        }
        let (added, dropped) = (new.join(", "), gone.join(", "));
        differences.push(if gone.is_empty() {
            format!("{} in Cargo.lock, not in the recipe", named(name, &added))
        } else if new.is_empty() {
            format!("{} in the recipe, not in Cargo.lock", named(name, &dropped))
        } else if added == dropped {
            format!("{} in Cargo.lock, from another source than the recipe's", named(name, &added))
        } else if dropped.is_empty() || added.is_empty() {
            format!("{name} is the workspace's own on one side only")
        } else {
            format!("{} in Cargo.lock, {dropped} in the recipe", named(name, &added))
        });
    }
    differences
}

/// How a release that both files hold differs.
fn altered(name: &str, release: &Release, here: &BTreeMap<Release, Locked>, cooked: &Locked) -> Option<String> {
    let locked = here.get(release).filter(|locked| *locked != cooked)?;
    let what = if locked.checksum == cooked.checksum { "dependencies" } else { "checksum" };
    Some(format!("{} in Cargo.lock, with another {what} in the recipe", named(name, &release.0)))
}

fn named(name: &str, versions: &str) -> String {
    if versions.is_empty() { name.to_owned() } else { format!("{name} {versions}") }
}

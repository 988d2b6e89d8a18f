//! A recipe that cargo-chef wrote, beside manifests and lock files that changed since.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::stale_recipe;
use crate::domain::model::{Declared, Diagnostic};

const SOURCES: [&str; 11] = [
    "api/src/lib.rs",
    "api/src/main.rs",
    "api/src/serve.rs",
    "api/src/bin/one.rs",
    "api/src/bin/tool/main.rs",
    "core/src/lib.rs",
    "extra/src/lib.rs",
    "extra/src/bin/hidden.rs",
    "legacy/src/main.rs",
    "legacy/src/other.rs",
    "mac/src/lib.rs",
];

/// The fixture's workspace in a project's folder `c`, and a layer that cooks it.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Self {
        Self::with("recipe.json")
    }

    fn with(recipe: &str) -> Self {
        let workspace = Self(tempfile::tempdir().expect("a temporary folder"));
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipe");
        let read = |path: &str| fs::read_to_string(fixture.join(path)).expect("a file of the fixture");
        for path in ["Cargo.toml", "Cargo.lock"] {
            workspace.put(path, &read(path));
        }
        for member in ["api", "core", "extra", "legacy", "mac"] {
            let path = format!("crates/{member}/Cargo.toml");
            workspace.put(&path, &read(&path));
        }
        for source in SOURCES {
            workspace.put(&format!("crates/{source}"), "");
        }
        workspace.put("recipe.json", &read(recipe));
        workspace
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join("c").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.path().join("c").join(path)).expect("it was there");
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.path().join("c").join(path)).expect("a file");
        assert!(text.contains(from), "{path} has no {from:?}");
        self.put(path, &text.replace(from, to));
    }

    fn look(&self) -> Option<Diagnostic> {
        let layer = serde_json::json!({"name": "deps", "kind": "deps", "build_base": "rust", "context": "../../c"});
        let layer = serde_json::from_value(layer).expect("a layer");
        let folder = self.0.path().join("catalog/deps");
        fs::create_dir_all(&folder).expect("a folder");
        let declared = Declared { layer, file: folder.join("workflow.ncl"), places: BTreeMap::new() };
        stale_recipe(&declared, self.0.path())
    }

    /// The differences, one a line; the code where it is another.
    fn says(&self) -> String {
        let Some(found) = self.look() else { return String::new() };
        assert!(!found.is_error());
        let message = found.message.replace(&self.0.path().display().to_string(), "ROOT");
        match message.strip_prefix("ROOT/c/recipe.json, which `deps` cooks, is stale: ") {
            Some(first) => {
                assert_eq!(found.code, "lian::context::stale_recipe");
                let first = first.split_once("; +").map_or(first, |(first, _)| first);
                let others = found.notes.iter().filter_map(|note| note.strip_prefix("also: "));
                std::iter::once(first).chain(others).collect::<Vec<_>>().join("\n")
            }
            None => format!("{}: {message}", found.code),
        }
    }
}

#[test]
fn a_fresh_recipe_is_fresh_however_cargo_chef_wrote_it() {
    assert_eq!(Workspace::new().says(), "");
    assert_eq!(Workspace::with("recipe-of-extra.json").says(), "");
}

/// File, what is replaced in it, by what; what is said.
const CHANGES: [(&str, &str, &str, &str); 19] = [
    ("Cargo.lock", "version = \"1.0.5\"", "version = \"1.0.9\"", "cfg-if 1.0.9 in Cargo.lock, 1.0.5 in the recipe"),
    (
        "Cargo.lock",
        "name = \"itoa\"",
        "name = \"ryu\"",
        "itoa 1.0.19 in the recipe, not in Cargo.lock\nryu 1.0.19 in Cargo.lock, not in the recipe",
    ),
    (
        "Cargo.lock",
        "4e7648175b45a9a4",
        "0000000000000000",
        "cfg-if 1.0.5 in Cargo.lock, with another checksum in the recipe",
    ),
    (
        "crates/api/Cargo.toml",
        "once_cell = { version = \"1\"",
        "once_cell = { version = \"1.5\"",
        "dependencies.once_cell in crates/api/Cargo.toml, different in the recipe",
    ),
    (
        "crates/api/Cargo.toml",
        "\"fast\", \"big\"",
        "\"fast\"",
        "dependencies.core-things in crates/api/Cargo.toml, different in the recipe",
    ),
    (
        "crates/api/Cargo.toml",
        "[dev_dependencies]\nlibc = \"0.2\"",
        "[dev_dependencies]\nlog = \"0.2\"",
        "dev-dependencies.log in crates/api/Cargo.toml, not in the recipe\ndev-dependencies.libc in the recipe, not in crates/api/Cargo.toml",
    ),
    (
        "crates/api/Cargo.toml",
        "cfg(unix)",
        "cfg(windows)",
        "target.cfg(windows).dependencies.libc in crates/api/Cargo.toml, not in the recipe\ntarget.cfg(unix).dependencies.libc in the recipe, not in crates/api/Cargo.toml",
    ),
    (
        "crates/api/Cargo.toml",
        "default = [\"lazy\"]",
        "default = []",
        "features.default in crates/api/Cargo.toml, different in the recipe",
    ),
    (
        "crates/api/Cargo.toml",
        "\"serve\"",
        "\"server\"",
        "bin.server in crates/api/Cargo.toml, not in the recipe\nbin.serve in the recipe, not in crates/api/Cargo.toml",
    ),
    (
        "crates/mac/Cargo.toml",
        "mac_ro",
        "macro_",
        "lib.macro_ in crates/mac/Cargo.toml, not in the recipe\nlib.mac_ro in the recipe, not in crates/mac/Cargo.toml",
    ),
    (
        "crates/legacy/Cargo.toml",
        "version = \"0.1.0\"",
        "version = \"0.1.0\"\nedition = \"2021\"",
        "bin.legacy in crates/legacy/Cargo.toml, not in the recipe",
    ),
    ("Cargo.toml", "lto = \"thin\"", "lto = true", "profile.release in Cargo.toml, different in the recipe"),
    (
        "Cargo.toml",
        "[profile.dev.package.\"*\"]\nopt-level = 1",
        "[profile.dev.package.\"*\"]\nopt-level = 2",
        "profile.dev in Cargo.toml, different in the recipe",
    ),
    (
        "Cargo.toml",
        "[profile.dist]",
        "[profile.other]",
        "profile.other in Cargo.toml, not in the recipe\nprofile.dist in the recipe, not in Cargo.toml",
    ),
    (
        "Cargo.toml",
        "itoa = \"1\"",
        "itoa = \"1\"\nlog = \"0.4\"",
        "workspace.dependencies.log in Cargo.toml, not in the recipe",
    ),
    // No difference to what is cooked: versions of the workspace's own, lints, sources, order, spelling.
    ("Cargo.lock", "version = \"0.4.2\"", "version = \"0.5.0\"", ""),
    ("Cargo.toml", "version = \"0.4.2\"", "version = \"0.5.0\"", ""),
    ("Cargo.toml", "\"forbid\"", "\"deny\"", ""),
    ("crates/api/Cargo.toml", "\"fast\", \"big\"", "\"big\", \"fast\"", ""),
];

#[test]
fn says_what_differs() {
    for (path, from, to, wanted) in CHANGES {
        let workspace = Workspace::new();
        workspace.replace(path, from, to);
        assert_eq!(workspace.says(), wanted, "{path}: {from} became {to}");
    }
}

#[test]
fn a_recipe_for_one_binary_may_lack_what_it_does_not_need() {
    let partial = || Workspace::with("recipe-of-extra.json");
    let workspace = partial();
    workspace.replace("crates/api/Cargo.toml", "libc = \"0.2\"", "libc = \"0.1\"");
    workspace.replace("Cargo.toml", "itoa = \"1\"", "itoa = \"1\"\nlog = \"0.4\"");
    assert_eq!(workspace.says(), "");
    workspace.replace("Cargo.lock", "version = \"1.0.5\"", "version = \"1.0.9\"");
    assert_eq!(workspace.says(), "cfg-if 1.0.9 in Cargo.lock, 1.0.5 in the recipe");
    let workspace = partial();
    workspace.replace("crates/extra/Cargo.toml", "cfg-if = \"1\"", "cfg-if = \"1\"\nlog = \"0.4\"");
    assert_eq!(workspace.says(), "dependencies.log in crates/extra/Cargo.toml, not in the recipe");
}

#[test]
fn files_that_come_and_go_count() {
    let workspace = Workspace::new();
    workspace.put("crates/api/src/bin/two.rs", "");
    workspace.remove("crates/api/src/bin/tool/main.rs");
    workspace.remove("crates/mac/Cargo.toml");
    workspace.put("rust-toolchain.toml", "[toolchain]\nchannel = \"1.90\"\n");
    workspace.put(".cargo/config.toml", "of this machine");
    assert_eq!(
        workspace.says(),
        "bin.two in crates/api/Cargo.toml, not in the recipe\nbin.tool in the recipe, not in crates/api/Cargo.toml\n\
         crates/mac/Cargo.toml is in the recipe, but does not exist\nthe toolchain file differs from the recipe's"
    );
    let workspace = Workspace::new();
    workspace.remove("Cargo.lock");
    assert_eq!(workspace.says(), "", "a library commits no lock file");
}

#[test]
fn many_differences_are_counted_and_the_way_out_is_told() {
    let workspace = Workspace::new();
    workspace.replace("Cargo.lock", "version = \"1.0", "version = \"1.1");
    let found = workspace.look().expect("stale");
    assert!(found.message.ends_with("cfg-if 1.1.5 in Cargo.lock, 1.0.5 in the recipe; +1 more"), "{}", found.message);
    let folder = workspace.0.path().join("c").display().to_string();
    let wanted = format!("`cargo chef prepare --recipe-path recipe.json` in {folder}, and commit it");
    assert_eq!(found.help, Some(format!("run {wanted}")));
    fs::write(workspace.0.path().join("Makefile"), "recipe: x\n\ttrue\n").expect("a file");
    assert_eq!(workspace.look().and_then(|found| found.help), Some(format!("run `make recipe`, or {wanted}")));
}

#[test]
fn what_is_not_sent_or_is_no_recipe_is_not_judged() {
    let stale = || {
        let workspace = Workspace::new();
        workspace.replace("Cargo.lock", "version = \"1.0", "version = \"1.1");
        assert_ne!(workspace.says(), "");
        workspace
    };
    let workspace = stale();
    workspace.put(".dockerignore", "*.json\n");
    assert_eq!(workspace.says(), "", "the ignore file leaves it out");
    workspace.put("Dockerfile.dockerignore", "*\n!recipe.json\n");
    assert_ne!(workspace.says(), "", "the one beside the Dockerfile lets it in");
    let workspace = stale();
    workspace.remove("Cargo.toml");
    assert_eq!(workspace.says(), "", "no manifest beside it");
    let workspace = stale();
    workspace.put("recipe.json", r#"{"flour": "500 g"}"#);
    assert_eq!(workspace.says(), "", "a recipe for something else");
    workspace.remove("recipe.json");
    assert_eq!(workspace.says(), "", "none");
}

#[test]
fn a_recipe_that_cannot_be_compared_is_a_warning_too() {
    let says = |path: &str, text: &str| {
        let workspace = Workspace::new();
        workspace.put(path, text);
        let said = workspace.says();
        let unreadable =
            "lian::context::unreadable_recipe: cannot tell whether ROOT/c/recipe.json, which `deps` cooks, is stale: ";
        said.strip_prefix(unreadable).unwrap_or_else(|| panic!("{said:?}")).to_owned()
    };
    assert!(says("recipe.json", "{").starts_with("recipe.json is not what cargo-chef writes: EOF"));
    assert!(says("recipe.json", r#"{"skeleton": 1}"#).contains("is not what cargo-chef writes: invalid type"));
    assert!(says("Cargo.lock", "[[package]]\nname = 1\n").starts_with("Cargo.lock: invalid type"));
    assert!(says("crates/api/Cargo.toml", "<<<<<<< ours").starts_with("crates/api/Cargo.toml: "));
    let outside =
        r#"{"skeleton": {"manifests": [{"relative_path": "../../../etc/passwd", "contents": ""}], "lock_file": null}}"#;
    assert!(says("recipe.json", outside).contains("leads outside the project"));
}

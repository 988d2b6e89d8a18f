//! Compares a committed cargo-chef recipe with Cargo's own files. Not responsible for: making or renewing it.

use std::fs;
use std::io::Error;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::effort::Effort;
use super::files::{inside, resolve, tidy};
use super::ignore::Inherited;
use super::recipe_lock::{self, Lock};
use super::recipe_manifest::{self, RecipeManifest};
use super::walk::ignore_file;
use crate::domain::model::{Declared, Diagnostic};
use crate::domain::ports::ContextError;
use crate::system::read::{self, Cap};

const RECIPE: &str = "recipe.json";
const MANIFEST: &str = "Cargo.toml";
const LOCK: &str = "Cargo.lock";
/// How many differences are listed; the others are counted.
const NAMED: usize = 1;

/// The recipe file that cargo-chef writes.
#[derive(Debug, Deserialize)]
struct Recipe {
    skeleton: Skeleton,
}

#[derive(Debug, Deserialize)]
struct Skeleton {
    manifests: Vec<RecipeManifest>,
    lock_file: Option<String>,
    #[serde(default)]
    config_file: Option<String>,
    #[serde(default)]
    rust_toolchain_file: Option<(serde_json::Value, String)>,
}

/// Why a recipe cannot be compared with Cargo's files.
#[derive(Debug, thiserror::Error)]
enum Uncomparable {
    #[error("{0} is not what cargo-chef writes: {1}")]
    Recipe(String, serde_json::Error),
    #[error("{file}: {}", .error.message())]
    Toml { file: String, error: toml::de::Error },
    #[error("{0} cannot be read: {1}")]
    File(String, Error),
    #[error(transparent)]
    Context(#[from] ContextError),
}

/// What `check` reports about the recipe at the root of a layer's context, if BuildKit would be sent one that no longer
/// matches the manifests and the lock file beside it. A context without a recipe costs one access to the file system.
pub fn stale_recipe(declared: &Declared, project_root: &Path) -> Option<Diagnostic> {
    let folder = declared.context_dir();
    let recipe = folder.join(RECIPE);
    if !fs::symlink_metadata(&recipe).is_ok_and(|found| found.is_file()) {
        return None;
    }
    let root = resolve(project_root).ok()?;
    let (ignore, _) = ignore_file(&root, &folder, &declared.dockerfile_path()).ok()?;
    let excluded = ignore.excludes(RECIPE, &Inherited::default(), &mut Effort::default());
    if excluded.is_ok_and(|(excluded, _)| excluded) || !folder.join(MANIFEST).is_file() {
        return None;
    }
    let layer = &declared.layer.name;
    let shown = tidy(&recipe).display().to_string();
    let compared = Project { root, folder }.compare();
    let warning = match compared {
        Ok(differences) if differences.is_empty() => return None,
        Ok(differences) => {
            let message = format!("{shown}, which `{layer}` cooks, is stale: {}", summary(&differences));
            differences
                .iter()
                .skip(NAMED)
                .take(20)
                .fold(Diagnostic::warning("lian::context::stale_recipe", message), |warning, difference| {
                    warning.note(format!("also: {difference}"))
                })
        }
        Err(error) => Diagnostic::warning(
            "lian::context::unreadable_recipe",
            format!("cannot tell whether {shown}, which `{layer}` cooks, is stale: {error}"),
        ),
    };
    let text = format!("this context holds the {RECIPE}");
    Some(warning.layer(layer).label(declared.place("context"), text).help(renewal(declared, project_root)))
}

/// `a; b; +2 more`.
fn summary(differences: &[String]) -> String {
    let mut named = differences.iter().take(NAMED).cloned().collect::<Vec<_>>();
    if differences.len() > NAMED {
        named.push(format!("+{} more", differences.len() - NAMED));
    }
    named.join("; ")
}

/// How to renew the recipe: the project's own way if it has one, else cargo-chef's.
fn renewal(declared: &Declared, project_root: &Path) -> String {
    let makefile = read::of_project(project_root, &project_root.join("Makefile"), Cap::Makefile);
    let makefile = makefile.and_then(read::text).unwrap_or_default();
    let own = if makefile.lines().any(|line| line.starts_with("recipe:")) { "`make recipe`, or " } else { "" };
    let folder = tidy(&declared.context_dir());
    format!("run {own}`cargo chef prepare --recipe-path {RECIPE}` in {}, and commit it", folder.display())
}

/// A folder with Cargo's files, inside a resolved root.
struct Project {
    root: PathBuf,
    folder: PathBuf,
}

impl Project {
    /// What differs, in words for people; the lock file first.
    fn compare(&self) -> Result<Vec<String>, Uncomparable> {
        let Some(Skeleton { manifests, lock_file, config_file, rust_toolchain_file }) = self.recipe()? else {
            return Ok(Vec::new());
        };
        let root = self.manifest(Path::new(MANIFEST))?;
        let partial = match manifests.iter().find(|manifest| manifest.relative_path == Path::new(MANIFEST)) {
            Some(cooked) => members(&root) != members(&toml(RECIPE, &cooked.contents)?),
            None => false,
        };
        let mut differences = self.locked(lock_file.as_deref(), partial)?;
        for cooked in &manifests {
            let shown = cooked.relative_path.display().to_string();
            let manifest = match self.manifest(&cooked.relative_path) {
                Err(Uncomparable::Context(ContextError::Missing { .. })) => {
                    differences.push(format!("{shown} is in the recipe, but does not exist"));
                    continue;
                }
                found => found?,
            };
            let path = self.folder.join(&cooked.relative_path);
            let folder = path.parent().unwrap_or(&self.folder);
            let recipe = toml(RECIPE, &cooked.contents)?;
            let told = recipe_manifest::differences(&manifest, folder, &recipe, &cooked.targets, partial);
            differences.extend(told.into_iter().map(|difference| difference.told(&shown)));
        }
        let toolchain = self.first(&["rust-toolchain", "rust-toolchain.toml"])?;
        if toolchain != rust_toolchain_file.map(|(_, text)| text) {
            differences.push("the toolchain file differs from the recipe's".to_owned());
        }
        // The configuration may be this machine's own, so it is compared only if there is one.
        if let (Some(here), Some(cooked)) = (self.first(&[".cargo/config", ".cargo/config.toml"])?, config_file)
            && here != cooked
        {
            differences.push("Cargo's configuration differs from the recipe's".to_owned());
        }
        Ok(differences)
    }

    /// The recipe; `None` if the file is for something else.
    fn recipe(&self) -> Result<Option<Skeleton>, Uncomparable> {
        let text = self.text(Path::new(RECIPE))?;
        let wrong = |error| Uncomparable::Recipe(RECIPE.to_owned(), error);
        let value: serde_json::Value = serde_json::from_str(&text).map_err(wrong)?;
        if value.get("skeleton").is_none() {
            return Ok(None);
        }
        serde_json::from_value(value).map(|Recipe { skeleton }| Some(skeleton)).map_err(wrong)
    }

    /// How the lock files differ. A project that commits none has nothing to compare.
    fn locked(&self, cooked: Option<&str>, partial: bool) -> Result<Vec<String>, Uncomparable> {
        let Some(text) = self.first(&[LOCK])? else { return Ok(Vec::new()) };
        let parse = |name: &str, text: &str| Lock::parse(text).map_err(|error| no_toml(name, error));
        let Some(cooked) = cooked else {
            return Ok(vec![format!("there is a {LOCK}, and the recipe has none")]);
        };
        Ok(recipe_lock::differences(&parse(LOCK, &text)?, &parse(RECIPE, cooked)?, partial))
    }

    fn manifest(&self, path: &Path) -> Result<toml::Table, Uncomparable> {
        toml(&path.display().to_string(), &self.text(path)?)
    }

    /// The text of the first of these files that exists.
    fn first(&self, names: &[&str]) -> Result<Option<String>, Uncomparable> {
        for name in names {
            match self.text(Path::new(name)) {
                Err(Uncomparable::Context(ContextError::Missing { .. })) => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    /// The text of a file. A recipe names paths, and none of them may lead out of the project.
    fn text(&self, path: &Path) -> Result<String, Uncomparable> {
        let resolved = inside(&self.root, &self.folder.join(path))?;
        let unreadable = |error| Uncomparable::File(path.display().to_string(), error);
        read::of_project(&self.root, &resolved, Cap::Cargo).and_then(read::text).map_err(unreadable)
    }
}

fn toml(name: &str, text: &str) -> Result<toml::Table, Uncomparable> {
    text.parse().map_err(|error| no_toml(name, error))
}

fn no_toml(file: &str, error: toml::de::Error) -> Uncomparable {
    Uncomparable::Toml { file: file.to_owned(), error }
}

/// The members that a workspace lists. A recipe for one binary (`prepare --bin`) lists only those that it needs, so
/// what only Cargo's files hold is then not a difference.
fn members(manifest: &toml::Table) -> Vec<&str> {
    let listed = manifest.get("workspace").and_then(|workspace| workspace.get("members"));
    listed.and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

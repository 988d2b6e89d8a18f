//! The grants of a project, in its state folder, and in files for CI. Not responsible for: what is wanted.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::TrustError;
use super::want::{Kind, Want};
use crate::app::Error;
use crate::app::project::Project;
use crate::domain::base::{Digest, LayerName, SourceLocation, Span};
use crate::system::{confined, git_index, lock};

/// The file in the state folder.
const FILE: &str = "grants.json";
/// Its version.
const SCHEMA: u32 = 1;
/// A grant is a few hundred bytes.
const MOST: u64 = 4 << 20;

/// What the user granted. Only the digest counts; the rest is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Identifies exactly what was granted.
    pub digest: Digest,
    /// Its kind.
    pub kind: Kind,
    /// Which one.
    pub what: String,
    /// The layer that gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerName>,
    /// The id of the secret or ssh mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The declaring file.
    pub file: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    grants: Vec<Grant>,
}

impl Grant {
    /// The grant of a want.
    pub fn of(want: &Want) -> Self {
        let (digest, kind, what) = (want.digest(), want.kind, want.what.clone());
        Self { digest, kind, what, layer: want.layer.clone(), id: want.id.clone(), file: want.file.clone() }
    }

    /// Whether it was granted on these terms.
    pub(super) fn has_terms(&self, terms: &str) -> bool {
        let nowhere = SourceLocation { file: PathBuf::new(), span: Span::default() };
        let want = Want::of_all(self.kind, self.what.clone(), self.file.clone(), nowhere);
        let (layer, id) = (self.layer.clone(), self.id.clone());
        Want { layer, id, terms: terms.to_owned(), ..want }.digest() == self.digest
    }

    /// The short name by which it is revoked.
    pub fn name(&self) -> String {
        self.digest.hex()[..12].to_owned()
    }
}

/// The grants as a file for `--trust`.
pub fn exported(grants: Vec<Grant>) -> String {
    let file = File { schema: SCHEMA, grants };
    serde_json::to_string_pretty(&file).expect("invariant: grants are plain data") + "\n"
}

/// The recorded grants of a project.
pub fn read(project: &Project) -> Result<Vec<Grant>, Error> {
    if !project.has_state()? {
        return Ok(Vec::new());
    }
    let bad = |what: String| Error::from(TrustError::Grants { path: project.state().join(FILE), what });
    match confined::open(project.state()).and_then(|folder| folder.read(FILE, MOST)) {
        Ok(bytes) => parsed(&bytes).map_err(bad),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// The grants in a file that the user names. One that git tracks could be written by whoever asks.
pub(super) fn in_file(path: &Path) -> Result<Vec<Grant>, Error> {
    let bad = |what: String| Error::from(TrustError::Grants { path: path.to_owned(), what });
    let actual = std::fs::canonicalize(path).map_err(|error| bad(error.to_string()))?;
    for named in [path, &actual] {
        let named = std::path::absolute(named).unwrap_or_else(|_| named.to_owned());
        if git_index::tracks(&named).map_err(|error| bad(error.to_string()))? {
            return Err(TrustError::Tracked { path: named }.into());
        }
    }
    let (folder, name) = (actual.parent().unwrap_or(Path::new("/")), actual.file_name().unwrap_or_default());
    let bytes =
        confined::open(folder).and_then(|folder| folder.read(name, MOST)).map_err(|error| bad(error.to_string()))?;
    parsed(&bytes).map_err(bad)
}

fn parsed(bytes: &[u8]) -> Result<Vec<Grant>, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match file.schema {
        SCHEMA => Ok(file.grants),
        other => Err(format!("its schema is {other}, and this lian-build knows {SCHEMA}")),
    }
}

/// Adds grants to the recorded ones.
pub(super) fn add(project: &Project, new: impl IntoIterator<Item = Grant>) -> Result<(), Error> {
    change(project, |grants| {
        for grant in new {
            if grants.iter().all(|known| known.digest != grant.digest) {
                grants.push(grant);
            }
        }
        Ok(())
    })
}

/// Takes recorded grants back: those with these names, or `all`. Returns them.
pub fn revoke(project: &Project, names: &[String]) -> Result<Vec<Grant>, Error> {
    let mut gone = Vec::new();
    change(project, |grants| {
        let is_named = |grant: &Grant, name: &String| name == "all" || grant.name() == *name;
        if let Some(id) = names.iter().find(|name| *name != "all" && !grants.iter().any(|one| is_named(one, name))) {
            return Err(TrustError::Unknown { id: id.clone() }.into());
        }
        let (taken, kept) = grants.drain(..).partition(|grant| names.iter().any(|name| is_named(grant, name)));
        (gone, *grants) = (taken, kept);
        Ok(())
    })?;
    Ok(gone)
}

/// One change at a time, whoever makes it.
fn change(project: &Project, with: impl FnOnce(&mut Vec<Grant>) -> Result<(), Error>) -> Result<(), Error> {
    project.make_state()?;
    let bad = |error: io::Error| {
        Error::from(TrustError::Grants { path: project.state().join(FILE), what: error.to_string() })
    };
    let folder = confined::open(project.state()).map_err(bad)?;
    let guard = folder.lock_file("grants.lock").map_err(bad)?;
    lock::exclusive(&guard).map_err(bad)?;
    let mut grants = read(project)?;
    with(&mut grants)?;
    folder.write_whole(FILE, exported(grants).as_bytes()).map_err(bad)
}

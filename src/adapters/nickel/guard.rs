//! Follows a file's imports through the syntax trees before anything is evaluated: they must exist, stay inside the
//! project, and never form a circle. This is necessary because two files that import each other hang Nickel, and
//! `import "/etc/passwd" as 'Text` succeeds. Not responsible for: evaluating.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nickel_lang_core::ast::InputFormat;
use nickel_lang_core::cache::{CacheHub, SourcePath, normalize_path};
use nickel_lang_core::error::ParseErrors;
use nickel_lang_core::files::FileId;
use nickel_lang_core::position::RawSpan;

use super::embedded;
use super::syntax::{self, Wanted};
use crate::domain::base::nearest;
use crate::system::read::{self, Cap};

/// Something wrong with an import.
#[derive(Debug, Clone)]
pub(super) enum ImportFault {
    /// The importing or imported file does not parse.
    Parse(ParseErrors),
    /// The file does not exist, or cannot be read.
    NotFound { path: PathBuf, reason: String, near: Option<String>, span: Option<RawSpan> },
    /// It lies outside the project.
    Outside { path: PathBuf, target: PathBuf, span: Option<RawSpan> },
    /// It leads back to itself, through these files.
    Cycle { files: Vec<PathBuf>, span: Option<RawSpan> },
    /// It names a package.
    Package { name: String, span: Option<RawSpan> },
}

/// Remembers the results for files that were checked.
#[derive(Debug)]
pub(super) struct Guard {
    scope: Vec<PathBuf>,
    /// The paths by which embedded files are imported.
    embedded: Vec<String>,
    known: HashMap<FileId, Vec<ImportFault>>,
    approved: HashSet<FileId>,
}

impl Guard {
    /// Imports must stay below the folders of `scope`, which are canonical, or be among the files called `embedded`.
    pub(super) fn new(scope: Vec<PathBuf>, embedded: Vec<String>) -> Self {
        Self { scope, embedded, known: HashMap::new(), approved: HashSet::new() }
    }

    /// Whether a file lies below the folders of the scope, with links followed. A missing file counts as inside.
    pub(super) fn allows(&self, path: &Path) -> bool {
        fs::canonicalize(path).map_or(true, |actual| self.holds(&actual))
    }

    fn holds(&self, actual: &Path) -> bool {
        self.scope.iter().any(|folder| actual.starts_with(folder))
    }

    /// Approves a file without checking it.
    pub(super) fn approve(&mut self, file: FileId) {
        self.known.insert(file, Vec::new());
        self.approved.insert(file);
    }

    /// Whether a file was checked and found sound.
    pub(super) fn is_approved(&self, file: FileId) -> bool {
        self.approved.contains(&file)
    }

    /// Reads a file of the project and hands its text to Nickel, which would wait for ever on a pipe and read a device
    /// without end. Nickel then reads the file no more: what was looked at is what is evaluated.
    pub(super) fn load(&self, hub: &mut CacheHub, path: &Path, format: InputFormat, cap: Cap) -> io::Result<FileId> {
        self.load_bound(hub, (path, ""), format, cap)
    }

    /// The same, with a text before the file's.
    pub(super) fn load_bound(
        &self,
        hub: &mut CacheHub,
        (path, before): (&Path, &str),
        format: InputFormat,
        cap: Cap,
    ) -> io::Result<FileId> {
        let name = SourcePath::Path(normalize_path(path)?, format);
        if let Some(known) = hub.sources.id_of(&name) {
            return Ok(known);
        }
        let actual = fs::canonicalize(path)?;
        let outside = || io::Error::new(io::ErrorKind::PermissionDenied, "it lies outside the project");
        let folder = self.scope.iter().find(|folder| actual.starts_with(folder)).ok_or_else(outside)?;
        let text = read::of_project(folder, &actual, cap).and_then(read::text)?;
        Ok(hub.sources.add_string(name, format!("{before}{text}")))
    }

    /// All faults of a file's imports, and of their imports.
    pub(super) fn check(&mut self, hub: &mut CacheHub, file: FileId, path: &Path) -> Vec<ImportFault> {
        let mut trail = Vec::new();
        self.visit(hub, file, path, &mut trail)
    }

    fn visit(
        &mut self,
        hub: &mut CacheHub,
        file: FileId,
        path: &Path,
        trail: &mut Vec<(PathBuf, PathBuf)>,
    ) -> Vec<ImportFault> {
        if let Some(faults) = self.known.get(&file) {
            return faults.clone();
        }
        self.approved.insert(file);
        if let Err(errors) = hub.parse_to_ast(file) {
            let faults = vec![ImportFault::Parse(errors)];
            self.known.insert(file, faults.clone());
            return faults;
        }
        let wanted = hub.asts.get(file).map(syntax::imports).unwrap_or_default();
        let mut faults = Vec::new();
        trail.push((fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), path.to_owned()));
        for import in wanted {
            match import {
                Wanted::Package { name, span } => faults.push(ImportFault::Package { name, span }),
                Wanted::File { path: import, format, span } => {
                    faults.extend(self.follow(hub, path, &import, format, span, trail));
                }
            }
        }
        trail.pop();
        self.known.insert(file, faults.clone());
        faults
    }

    fn follow(
        &mut self,
        hub: &mut CacheHub,
        importer: &Path,
        import: &Path,
        format: InputFormat,
        span: Option<RawSpan>,
        trail: &mut Vec<(PathBuf, PathBuf)>,
    ) -> Vec<ImportFault> {
        let (path, file) = match self.resolve(hub, importer, import, format, span) {
            Ok(found) => found,
            Err(fault) => return vec![fault],
        };
        self.approved.insert(file);
        if format != InputFormat::Nickel {
            return Vec::new();
        }
        let actual = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if let Some(at) = trail.iter().position(|(seen, _)| *seen == actual) {
            let mut files: Vec<_> = trail[at..].iter().map(|(_, path)| path.clone()).collect();
            files.push(trail[at].1.clone());
            return vec![ImportFault::Cycle { files, span }];
        }
        self.visit(hub, file, &path, trail)
    }

    /// The file that Nickel will read for this import: it searches the importing file's folder, then the embedded
    /// files.
    fn resolve(
        &self,
        hub: &mut CacheHub,
        importer: &Path,
        import: &Path,
        format: InputFormat,
        span: Option<RawSpan>,
    ) -> Result<(PathBuf, FileId), ImportFault> {
        let mut reason = "there is no such file".to_owned();
        let folders = [importer.parent().unwrap_or(Path::new("/")), Path::new(embedded::FOLDER)];
        for folder in folders {
            let Ok(candidate) = normalize_path(folder.join(import)) else { continue };
            if !candidate.starts_with(embedded::FOLDER) {
                let Ok(actual) = fs::canonicalize(&candidate) else { continue };
                if !self.holds(&actual) {
                    return Err(ImportFault::Outside { path: import.to_owned(), target: actual, span });
                }
                return match self.load(hub, &candidate, format, Cap::Import) {
                    Ok(file) => Ok((candidate, file)),
                    Err(error) => {
                        reason = error.to_string();
                        Err(ImportFault::NotFound { path: import.to_owned(), reason, near: None, span })
                    }
                };
            }
            if let Ok(found) = hub.sources.get_or_add_file(&candidate, format) {
                return Ok((candidate, found.inner()));
            }
        }
        let near = self.near(importer, import);
        Err(ImportFault::NotFound { path: import.to_owned(), reason, near, span })
    }

    /// An import that was probably meant: an embedded file, or one in the folder that was named.
    fn near(&self, importer: &Path, import: &Path) -> Option<String> {
        let wanted = import.to_str()?;
        if let Some(name) = nearest(wanted, self.embedded.iter().map(String::as_str)) {
            return Some(name.to_owned());
        }
        let folder = importer.parent()?.join(import).parent()?.to_owned();
        let names: Vec<String> =
            fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let name = nearest(import.file_name()?.to_str()?, names.iter().map(String::as_str))?;
        Some(import.with_file_name(name).display().to_string())
    }
}

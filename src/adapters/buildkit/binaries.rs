//! Finds the programs buildctl and buildkitd. Not responsible for: installing them (`scripts/setup.sh` does).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::error::BuildkitError;
use crate::system::environment::{self, Purpose};

/// BuildKit's two programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The client.
    pub buildctl: PathBuf,
    /// The daemon. It is not needed if one is already running.
    pub buildkitd: Option<PathBuf>,
}

impl Binaries {
    /// Searches `LIAN_BUILDKIT_BIN`, then `PATH`, then `~/.cache/lian-build/tools`.
    ///
    /// # Errors
    /// [`BuildkitError::NotFound`] if there is no buildctl. A missing daemon is not an error yet.
    pub fn find() -> Result<Self, BuildkitError> {
        let given = std::env::var_os("LIAN_BUILDKIT_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Self::find_in(given.as_deref(), std::env::var_os("PATH"), cache().as_deref())
    }

    /// Like [`Binaries::find`], with the environment as arguments. If a folder is given, no other one is searched:
    /// whoever names a folder wants that one.
    pub fn find_in(given: Option<&Path>, path: Option<OsString>, cache: Option<&Path>) -> Result<Self, BuildkitError> {
        let folders = match given {
            Some(folder) => vec![folder.to_owned()],
            None => {
                let mut folders: Vec<PathBuf> =
                    path.as_ref().map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
                folders.extend(cache.map(tool_folders).unwrap_or_default());
                folders
            }
        };
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|file| is_executable(file));
        match find("buildctl") {
            Some(buildctl) => Ok(Self { buildctl, buildkitd: find("buildkitd") }),
            None => Err(not_found("buildctl", given)),
        }
    }

    /// A command for the client, not yet started.
    pub(super) fn client(&self) -> Command {
        Command::from(environment::command(&self.buildctl, Purpose::Buildctl))
    }

    /// The path of the daemon's program.
    ///
    /// # Errors
    /// [`BuildkitError::NotFound`] if it was not found.
    pub fn daemon(&self) -> Result<&Path, BuildkitError> {
        self.buildkitd.as_deref().ok_or_else(|| not_found("buildkitd", None))
    }
}

fn not_found(name: &'static str, given: Option<&Path>) -> BuildkitError {
    let searched = match given {
        Some(folder) => format!("LIAN_BUILDKIT_BIN={}", folder.display()),
        None => "PATH or ~/.cache/lian-build/tools".to_owned(),
    };
    BuildkitError::NotFound { name, searched }
}

fn cache() -> Option<PathBuf> {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
}

/// Where setup installs them: `bin` links to the version that was installed last; each version has its own folder
/// beside it.
fn tool_folders(cache: &Path) -> Vec<PathBuf> {
    let tools = cache.join("lian-build/tools");
    let Ok(entries) = std::fs::read_dir(&tools) else { return Vec::new() };
    let mut versions: Vec<_> = entries
        .flatten()
        // Earlier versions of lian-build kept programs here that came out of the images of workflows.
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("buildctl-"))
        .flat_map(|entry| [entry.path(), entry.path().join("bin")])
        .filter_map(|folder| Some((std::fs::metadata(&folder).ok()?.modified().ok()?, folder)))
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    std::iter::once(tools.join("bin")).chain(versions.into_iter().map(|(_, folder)| folder)).collect()
}

/// Whether this is a file that can be executed.
pub(super) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The first program of this name on this process's `PATH`.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(folder: &Path, name: &str) -> PathBuf {
        std::fs::create_dir_all(folder).expect("a folder");
        let file = folder.join(name);
        std::fs::write(&file, "#!/bin/sh\n").expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("a mode");
        file
    }

    #[test]
    fn prefers_the_given_folder_then_the_path_then_the_cache() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = root.path().join("cache");
        let cached = program(&cache.join("lian-build/tools/abc/bin"), "buildctl");
        let daemon = program(&cache.join("lian-build/tools/abc/bin"), "buildkitd");
        let on_path = program(&root.path().join("path"), "buildctl");
        let path = || Some(root.path().join("path").into_os_string());

        let found = Binaries::find_in(None, path(), Some(&cache)).expect("found");
        assert_eq!((found.buildctl, found.buildkitd), (on_path, Some(daemon)));
        let foreign = program(&cache.join("lian-build/tools/buildctl-v9/bin"), "buildctl");
        let found = Binaries::find_in(None, None, Some(&cache)).expect("found").buildctl;
        assert_eq!(found, cached, "{} came out of somebody's image", foreign.display());

        let nowhere = root.path().join("nowhere");
        let error =
            Binaries::find_in(Some(&nowhere), path(), Some(&cache)).expect_err("a given folder is the only one");
        assert!(error.to_string().contains("LIAN_BUILDKIT_BIN="), "{error}");
    }

    #[test]
    fn a_file_without_its_execute_bit_is_no_program() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(root.path().join("buildctl"), "").expect("a file");
        let found = Binaries::find_in(None, Some(root.path().as_os_str().to_owned()), None);
        assert!(matches!(found, Err(BuildkitError::NotFound { name: "buildctl", .. })));
    }
}

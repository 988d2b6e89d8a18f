//! Finds the folder for everything that lian-build keeps for this user. Not responsible for: what lies in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::domain::model::{Classified, FaultClass};

/// Where root's data goes on a machine that gives it no home, e.g. to a service.
const OF_THE_SYSTEM: &str = "/var/lib/lian-build";

/// There is no place for the user's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum DataFolderError {
    /// `HOME` is not set.
    #[error("lian-build keeps its state in your home folder, and HOME is not set to one")]
    #[diagnostic(
        code(lian::state::no_home),
        help("set HOME, or name a folder of your own for everything that lian-build keeps: LIAN_DATA_DIR=DIR")
    )]
    NoHome,
    /// `XDG_DATA_HOME` depends on the working directory.
    #[error("XDG_DATA_HOME is `{}`, which is not an absolute path", .0.display())]
    #[diagnostic(
        code(lian::state::relative_data_home),
        help("write it from the root, or unset it: then it is ~/.local/share")
    )]
    Relative(PathBuf),
}

impl Classified for DataFolderError {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// `LIAN_DATA_DIR`, else `lian-build` in `XDG_DATA_HOME`, else in `~/.local/share`. Absolute. Makes nothing.
pub fn data_folder() -> Result<PathBuf, DataFolderError> {
    let root = rustix::process::geteuid().is_root();
    found(&|name| std::env::var_os(name), root)
}

fn found(given: &dyn Fn(&str) -> Option<OsString>, root: bool) -> Result<PathBuf, DataFolderError> {
    let given = |name: &str| given(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = given("LIAN_DATA_DIR") {
        // The daemon runs in another working directory.
        return Ok(std::path::absolute(&folder).unwrap_or(folder));
    }
    if let Some(home) = given("XDG_DATA_HOME") {
        return if home.is_absolute() { Ok(home.join("lian-build")) } else { Err(DataFolderError::Relative(home)) };
    }
    match given("HOME").filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(".local/share/lian-build")),
        None if root => Ok(Path::new(OF_THE_SYSTEM).to_owned()),
        None => Err(DataFolderError::NoHome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], root: bool) -> Result<PathBuf, DataFolderError> {
        let given = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        found(&given, root)
    }

    #[test]
    fn the_nearest_word_of_the_user_wins_and_a_place_that_moves_about_is_refused() {
        let home = ("HOME", "/home/ann");
        let path = |text: &str| Ok(PathBuf::from(text));
        assert_eq!(with(&[home], false), path("/home/ann/.local/share/lian-build"));
        assert_eq!(with(&[home, ("XDG_DATA_HOME", "/data")], false), path("/data/lian-build"));
        assert_eq!(with(&[home, ("XDG_DATA_HOME", "")], false), path("/home/ann/.local/share/lian-build"));
        assert_eq!(with(&[("XDG_DATA_HOME", "data"), ("LIAN_DATA_DIR", "/own")], false), path("/own"));
        assert_eq!(with(&[home, ("XDG_DATA_HOME", "data")], false), Err(DataFolderError::Relative("data".into())));
        for nowhere in [&[][..], &[("HOME", "")], &[("HOME", "ann")]] {
            assert_eq!(with(nowhere, false), Err(DataFolderError::NoHome));
            assert_eq!(with(nowhere, true), path(OF_THE_SYSTEM));
        }
    }
}

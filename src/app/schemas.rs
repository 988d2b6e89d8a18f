//! The program's Nickel schemas: the fixed ones, and those of its providers. Not responsible for: evaluating.

use std::path::{Path, PathBuf};

use super::Error;
use crate::adapters::nickel::{ProviderContract, ProviderSchema, Schemas};
use crate::adapters::providers::{Descriptor, registry};
use crate::domain::model::{Classified, FaultClass};

/// A schema could not be written to the requested folder.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the file {path} cannot be written: {cause}")]
#[diagnostic(code(lian::cli::unwritable), help("name a folder that can be written to"))]
struct Unwritable {
    path: String,
    cause: String,
}

impl Classified for Unwritable {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// All files that a catalog can import besides its own.
pub fn all() -> Schemas {
    let providers: Vec<ProviderSchema> = registry().iter().map(of_provider).collect();
    Schemas::new(&providers)
}

fn of_provider(descriptor: &Descriptor) -> ProviderSchema {
    let settings = descriptor.settings.as_ref().map(|settings| ProviderContract {
        summary: settings.summary,
        text: settings.contract,
        records: settings.records,
    });
    ProviderSchema { name: descriptor.name.as_str().to_owned(), settings }
}

/// Writes every schema below a folder, and returns the paths.
pub fn export(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let write = |(name, text): (&str, &str)| {
        let path = folder.join(name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                let (path, cause) = (path.display().to_string(), error.to_string());
                Err(Error::from(Unwritable { path, cause }))
            }
        }
    };
    all().files().map(write).collect()
}

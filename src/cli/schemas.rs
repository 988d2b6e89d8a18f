//! `lian-build schemas`: writes the embedded schemas to files. Not responsible for: their content.

use std::path::PathBuf;

use clap::Args;

use super::args::{Format, Global};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::schemas;
use crate::report;

/// Writes the embedded schemas out, for editors and the Nickel language server
#[derive(Debug, Args)]
pub struct Schemas {
    /// The folder to write to
    #[arg(long, value_name = "DIR")]
    export: PathBuf,
}

/// Runs the command.
pub fn schemas(global: &Global, flags: &Schemas) -> Outcome {
    let written = schemas::export(&flags.export)?;
    let folder = flags.export.display();
    match global.format {
        Format::Json => {
            let files: Vec<String> = written.iter().map(|file| file.display().to_string()).collect();
            show::json(&serde_json::json!({ "schema": 1, "files": files }));
        }
        _ if global.quiet => {}
        _ => {
            show::out(&format!("{} below {folder}\n", report::count(written.len(), "file")));
            show::out(&format!("for the Nickel language server: export NICKEL_IMPORT_PATH={folder}\n"));
        }
    }
    Ok(Exit::Done)
}

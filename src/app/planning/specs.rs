//! Reads the runner requirements of projects from `.build-spec.ncl`. Not responsible for: choosing among offers (see
//! `sizing`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::app::Error;
use crate::app::config::{Config, evaluator};
use crate::domain::base::LayerName;
use crate::domain::model::{BuildSpec, Declared, Diagnostic};

/// The file in a context that states what its build needs.
const FILE: &str = ".build-spec.ncl";

/// The specifications in these layers' contexts, if present.
pub fn read<'a>(
    config: &Config,
    layers: impl Iterator<Item = &'a Declared>,
) -> Result<BTreeMap<LayerName, BuildSpec>, Error> {
    let chosen: Vec<&Declared> = layers.collect();
    let with_file = chosen.iter().filter_map(|declared| {
        let file = declared.context_dir().join(FILE);
        // Whatever stands there was meant: what cannot be read is told by who reads it.
        file.symlink_metadata().is_ok().then(|| (declared.layer.name.clone(), file))
    });
    let (names, files): (Vec<LayerName>, Vec<PathBuf>) = with_file.unzip();
    let said = &config.spec;
    if files.is_empty() {
        let all = chosen.iter().filter(|_| *said != BuildSpec::default());
        return Ok(all.map(|declared| (declared.layer.name.clone(), said.clone())).collect());
    }
    let loaded = evaluator().within(config.budget).build_specs(&files, config.project.root())?;
    if loaded.diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Error::files(loaded.diagnostics, loaded.sources));
    }
    let mut specs: BTreeMap<LayerName, BuildSpec> =
        names.into_iter().zip(loaded.specs).filter_map(|(name, spec)| Some((name, spec?))).collect();
    for declared in chosen {
        let spec = specs.remove(&declared.layer.name).unwrap_or_default();
        specs.insert(declared.layer.name.clone(), over(said, spec));
    }
    Ok(specs)
}

/// Command-line values override the file; a size on the command line replaces the file's whole size.
pub fn over(said: &BuildSpec, file: BuildSpec) -> BuildSpec {
    let sized = said.runner_type.is_some() || said.cpu.is_some() || said.memory_gb.is_some();
    let (runner_type, cpu, memory_gb) = match sized {
        true => (said.runner_type.clone(), said.cpu, said.memory_gb),
        false => (file.runner_type, file.cpu, file.memory_gb),
    };
    let language = said.language.clone().or(file.language);
    BuildSpec { language, runner_type, cpu, memory_gb, time_budget_min: said.time_budget_min.or(file.time_budget_min) }
}

//! What projects' `.build-spec.ncl` files ask of runners. Refuses: choosing among offers (see `rent`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::exit::{Exit, Failure, What};
use super::settings::{Settings, evaluator};
use crate::base::LayerName;
use crate::model::{BuildSpec, Declared, Diagnostic};

/// Where a context says what its build needs.
const FILE: &str = ".build-spec.ncl";

/// The specifications of these layers' contexts, where they have one.
pub fn read<'a>(
    settings: &Settings,
    layers: impl Iterator<Item = &'a Declared>,
) -> Result<BTreeMap<LayerName, BuildSpec>, Failure> {
    let with_file = layers.filter_map(|declared| {
        let file = declared.context_dir().join(FILE);
        file.is_file().then(|| (declared.layer.name.clone(), file))
    });
    let (names, files): (Vec<LayerName>, Vec<PathBuf>) = with_file.unzip();
    if files.is_empty() {
        return Ok(BTreeMap::new());
    }
    let loaded = evaluator().build_specs(&files, &settings.project_root)?;
    if loaded.diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Failure { what: What::Faults(loaded.diagnostics, loaded.sources), exit: Exit::Failed });
    }
    Ok(names.into_iter().zip(loaded.specs).filter_map(|(name, spec)| Some((name, spec?))).collect())
}

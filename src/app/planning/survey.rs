//! From a catalog's files to a sound graph with keys: what `check`, `plan` and `apply` share. Not responsible for: building.

use std::collections::{BTreeMap, BTreeSet};

use crate::adapters::context;
use crate::adapters::nickel::LoadRequest;
use crate::app::Error;
use crate::app::config::{Config, evaluator};
use crate::domain::base::{Digest, LayerName, Platform, Platforms};
use crate::domain::dockerfile;
use crate::domain::graph::{self, LayerGraph};
use crate::domain::model::{
    Base, Catalog, Declared, Diagnostic, DockerfileFacts, DockerfileFault, DockerfileFaultKind, DockerfileRead, Secret,
    Sources, UseKind,
};

/// A catalog as far as it could be read, with everything that is wrong with it.
pub struct Survey {
    /// The layers that evaluated.
    pub catalog: Catalog,
    /// The graph, where there are no errors.
    pub graph: Option<LayerGraph>,
    /// Faults and warnings, in the order of files.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that they point into.
    pub sources: Sources,
    /// Each layer's Dockerfile as read.
    pub dockerfiles: BTreeMap<LayerName, DockerfileRead>,
    /// The digest of each Dockerfile's text.
    pub texts: BTreeMap<LayerName, Digest>,
    /// How many layers did not evaluate.
    broken: usize,
}

impl Survey {
    /// Reads the whole catalog. Needs neither lock, network nor daemon.
    pub fn take(settings: &Config) -> Result<Self, Error> {
        let loaded = evaluator().load(&LoadRequest {
            root: settings.catalog.clone(),
            settings: settings.set.clone(),
            allow_imports: settings.allow_imports.clone(),
            project_root: settings.project_root.clone(),
        })?;
        let mut survey = Self { sources: loaded.sources, ..Self::empty(loaded.catalog) };
        survey.diagnostics = loaded.diagnostics;
        survey.broken = loaded.broken.len();
        survey.read_dockerfiles(settings, loaded.unsettled);
        let broken: BTreeSet<LayerName> = loaded.broken.into_iter().collect();
        let (graph, faults) = graph::build(&survey.catalog, &survey.dockerfiles, &broken);
        survey.diagnostics.extend(faults);
        let sound = !survey.diagnostics.iter().any(Diagnostic::is_error);
        survey.graph = graph.filter(|_| sound);
        Ok(survey)
    }

    fn empty(catalog: Catalog) -> Self {
        Self {
            catalog,
            graph: None,
            diagnostics: Vec::new(),
            sources: Sources::default(),
            dockerfiles: BTreeMap::new(),
            texts: BTreeMap::new(),
            broken: 0,
        }
    }

    /// One Dockerfile that no catalog declares: what it stands on and what it mounts is what it says itself.
    pub fn of_one(settings: &Config, mut catalog: Catalog) -> Self {
        let mut survey = Self::empty(catalog.clone());
        survey.read_dockerfiles(settings, false);
        for declared in &mut catalog.layers {
            let Some(Ok(facts)) = survey.dockerfiles.get(&declared.layer.name).map(|read| &read.facts) else {
                continue;
            };
            let layer = &mut declared.layer;
            if let Some(base) = facts.uses.iter().rev().find(|used| used.kind == UseKind::From) {
                layer.build_base = Base::External { image: base.image.clone() };
            }
            let used = facts.ssh_ids.keys().filter(|id| !layer.ssh.contains(id)).cloned().collect::<Vec<_>>();
            layer.ssh.extend(used);
            for id in facts.secret_ids.keys() {
                if layer.secrets.iter().all(|known| known.id != *id) {
                    layer.secrets.push(Secret { id: id.clone(), env: None, file: None, required: false });
                }
            }
        }
        survey.catalog = catalog;
        let (graph, faults) = graph::build(&survey.catalog, &survey.dockerfiles, &BTreeSet::new());
        // There is no declaration to disagree with, as long as there is a graph without it.
        let known = graph.is_some();
        survey.diagnostics.extend(faults.into_iter().filter(|fault| !known || fault.code != graph::MISMATCH));
        survey.graph = graph.filter(|_| !survey.diagnostics.iter().any(Diagnostic::is_error));
        survey
    }

    /// How many layers were declared, well or badly.
    pub fn count(&self) -> usize {
        self.catalog.layers.len() + self.broken
    }

    /// Where the catalog's own settings did not evaluate its namespace is not known, so Dockerfiles are judged by
    /// themselves only.
    fn read_dockerfiles(&mut self, settings: &Config, unsettled: bool) {
        for declared in &self.catalog.layers {
            let located = match context::check_files(declared, &self.catalog.project_root) {
                Ok(located) => located,
                Err(faults) => {
                    self.diagnostics.extend(faults);
                    continue;
                }
            };
            self.diagnostics.extend(context::stale_recipe(declared, &self.catalog.project_root));
            let given = graph::known_build_args(&self.catalog.settings, &settings.build_args, &declared.layer);
            let target = declared.layer.target.as_deref();
            let facts = dockerfile::read(&located.text, target, &given, platforms(settings, declared).first());
            let name = declared.layer.name.clone();
            let known = self.dockerfiles.contains_key(&name) || (unsettled && !torn(&facts));
            if !known {
                self.texts.insert(name.clone(), Digest::of(&located.text));
            }
            self.sources.add(located.dockerfile.clone(), located.text);
            // Of two layers with one name the first counts.
            if !known {
                self.dockerfiles.insert(name, DockerfileRead { file: located.dockerfile, facts });
            }
        }
    }
}

/// Whether a Dockerfile cannot be read whatever the catalog says.
fn torn(facts: &Result<DockerfileFacts, Vec<DockerfileFault>>) -> bool {
    facts.as_ref().is_err_and(|faults| faults.iter().all(|fault| fault.kind == DockerfileFaultKind::Parse))
}

/// What a layer is built for: its own platforms, that of the runner type that was named for it, or that of the first runner
/// on offer.
pub fn platforms(settings: &Config, declared: &Declared) -> Platforms {
    let decided = || settings.platforms.get(&declared.layer.name).unwrap_or(&settings.platform).clone().into();
    Platforms::of(&declared.layer.platforms).unwrap_or_else(decided)
}

/// This machine's platform as OCI writes it.
pub fn host_platform() -> Platform {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm/v7",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{arch}").into()
}

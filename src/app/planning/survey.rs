//! From a catalog's files to a sound graph with keys: what `check`, `plan` and `apply` share. Not responsible for: building.

use std::collections::{BTreeMap, BTreeSet};

use super::target_platforms::TargetPlatforms;
use crate::adapters::context;
use crate::adapters::nickel::{LoadRequest, Loaded};
use crate::app::Error;
use crate::app::config::{Config, evaluator};
use crate::domain::base::LayerName;
use crate::domain::dockerfile;
use crate::domain::graph::{self, LayerGraph};
use crate::domain::model::{
    Base, Catalog, Diagnostic, DockerfileFacts, DockerfileFault, DockerfileFaultKind, DockerfileRead, Secret, Sources,
    UseKind,
};
use crate::system::host_platform;

/// What a catalog's files declare, before any Dockerfile is read.
#[derive(Clone)]
pub struct Declarations {
    catalog: Catalog,
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
    /// Layers that did not evaluate.
    broken: BTreeSet<LayerName>,
    /// The catalog's own settings did not evaluate.
    unsettled: bool,
    /// Nobody declares what the Dockerfiles use: they say it themselves.
    inferred: bool,
}

impl Declarations {
    /// Evaluates the whole catalog. Needs neither lock, network nor daemon.
    pub fn evaluate(config: &Config) -> Result<Self, Error> {
        let loaded = evaluator().load(&LoadRequest {
            root: config.catalog.value.clone(),
            settings: config.set.clone(),
            allow_imports: config.allow_imports.clone(),
            project_root: config.project.root().to_owned(),
        })?;
        let broken = loaded.broken.into_iter().collect();
        let Loaded { catalog, diagnostics, sources, unsettled, .. } = loaded;
        Ok(Self { catalog, diagnostics, sources, broken, unsettled, inferred: false })
    }

    /// A Dockerfile that no catalog declares: what it stands on and what it mounts is what it says itself.
    pub fn of_one(catalog: Catalog) -> Self {
        let (diagnostics, sources, broken) = (Vec::new(), Sources::default(), BTreeSet::new());
        Self { catalog, diagnostics, sources, broken, unsettled: false, inferred: true }
    }
}

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
    /// What the Dockerfiles were read for.
    pub platforms: TargetPlatforms,
    /// How many layers did not evaluate.
    broken: usize,
}

impl Survey {
    /// Evaluates the whole catalog and reads it for this machine.
    pub fn of_catalog(config: &Config) -> Result<Self, Error> {
        Ok(Self::read(Declarations::evaluate(config)?, config, TargetPlatforms::all(host_platform())))
    }

    /// Reads the Dockerfiles of what is declared, for these platforms, and draws the graph.
    pub fn read(declarations: Declarations, config: &Config, platforms: TargetPlatforms) -> Self {
        let Declarations { catalog, diagnostics, sources, broken, unsettled, inferred } = declarations;
        let (graph, dockerfiles) = (None, BTreeMap::new());
        let mut survey = Self { catalog, graph, diagnostics, sources, dockerfiles, platforms, broken: broken.len() };
        survey.read_dockerfiles(config, unsettled);
        if inferred {
            survey.infer();
        }
        let (graph, faults) = graph::build(&survey.catalog, &survey.dockerfiles, &broken);
        // Where nobody declares anything, nothing disagrees with the Dockerfile, as long as there is a graph without it.
        let agrees = |fault: &Diagnostic| inferred && graph.is_some() && fault.code == graph::MISMATCH;
        survey.diagnostics.extend(faults.into_iter().filter(|fault| !agrees(fault)));
        survey.graph = graph.filter(|_| !survey.diagnostics.iter().any(Diagnostic::is_error));
        survey
    }

    /// Declares what the Dockerfiles use.
    fn infer(&mut self) {
        for declared in &mut self.catalog.layers {
            let Some(Ok(facts)) = self.dockerfiles.get(&declared.layer.name).map(|read| &read.facts) else {
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
    }

    /// How many layers were declared, well or badly.
    pub fn count(&self) -> usize {
        self.catalog.layers.len() + self.broken
    }

    /// Where the catalog's own settings did not evaluate its namespace is not known, so Dockerfiles are judged by
    /// themselves only.
    fn read_dockerfiles(&mut self, config: &Config, unsettled: bool) {
        for declared in &self.catalog.layers {
            let located = match context::check_files(declared, &self.catalog.project_root) {
                Ok(located) => located,
                Err(faults) => {
                    self.diagnostics.extend(faults);
                    continue;
                }
            };
            self.diagnostics.extend(context::stale_recipe(declared, &self.catalog.project_root));
            let given = graph::known_build_args(&self.catalog.settings, &config.build_args, &declared.layer);
            let target = declared.layer.target.as_deref();
            let facts = dockerfile::read(&located.text, target, &given, self.platforms.of(declared).first());
            let name = declared.layer.name.clone();
            let known = self.dockerfiles.contains_key(&name) || (unsettled && !torn(&facts));
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

//! Reads a catalog's files into a valid graph with keys, for `check`, `plan` and `apply`. Not responsible for:
//! building.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::target_platforms::TargetPlatforms;
use super::{substituted, triggers};
use crate::adapters::context;
use crate::adapters::nickel::{LoadRequest, Loaded};
use crate::app::Error;
use crate::app::config::{Config, evaluator};
use crate::domain::base::{LayerName, human_duration};
use crate::domain::dockerfile::{self, Dockerfile};
use crate::domain::graph::{self, Evidence, KnownPlatforms, LayerGraph};
use crate::domain::model::{
    Base, Catalog, Declared, Diagnostic, DockerfileFacts, DockerfileFault, DockerfileFaultKind, DockerfileRead, Secret,
    Sources, UseKind,
};
use crate::system::host_platform;

/// What a catalog's files declare, before any Dockerfile is read.
#[derive(Clone)]
pub struct Declarations {
    catalog: Catalog,
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
    /// Layers whose evaluation failed.
    broken: BTreeSet<LayerName>,
    /// Whether the evaluation of the catalog's own settings failed.
    unsettled: bool,
    /// Whether parents and mounts are taken from the Dockerfiles because no catalog declares them.
    inferred: bool,
    /// How long the evaluation took. It counts as part of the check.
    took: Duration,
}

impl Declarations {
    /// Evaluates the whole catalog. Needs no lock, network or daemon.
    pub fn evaluate(config: &Config) -> Result<Self, Error> {
        let began = Instant::now();
        let loaded = evaluator().within(config.budget).load(&LoadRequest {
            root: config.catalog.value.clone(),
            settings: config.set.clone(),
            allow_imports: config.allow_imports.clone(),
            project_root: config.project.root().to_owned(),
        })?;
        let broken = loaded.broken.into_iter().collect();
        let Loaded { catalog, diagnostics, sources, unsettled, .. } = loaded;
        Ok(Self { catalog, diagnostics, sources, broken, unsettled, inferred: false, took: began.elapsed() })
    }

    /// A Dockerfile without a catalog: its parents and mounts are taken from the Dockerfile itself.
    pub fn of_one(catalog: Catalog) -> Self {
        let (diagnostics, sources, broken) = (Vec::new(), Sources::default(), BTreeSet::new());
        Self { catalog, diagnostics, sources, broken, unsettled: false, inferred: true, took: Duration::ZERO }
    }

    /// What is declared.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

/// A catalog as far as it could be read, with all its faults.
pub struct Survey {
    /// The layers that were evaluated.
    pub catalog: Catalog,
    /// The graph, if there are no errors.
    pub graph: Option<LayerGraph>,
    /// Faults and warnings, in file order.
    pub diagnostics: Vec<Diagnostic>,
    /// The source texts that the diagnostics point into.
    pub sources: Sources,
    /// Each layer's Dockerfile, parsed.
    pub dockerfiles: BTreeMap<LayerName, DockerfileRead>,
    /// The platforms for which the Dockerfiles were read.
    pub platforms: TargetPlatforms,
    /// How many layers failed to evaluate.
    broken: usize,
}

impl Survey {
    /// Evaluates the whole catalog and reads it for this machine's platform, as a guess at that of the runners.
    pub fn of_catalog(config: &Config) -> Result<Self, Error> {
        Ok(Self::read(Declarations::evaluate(config)?, config, TargetPlatforms::guessed(host_platform())))
    }

    /// Reads the Dockerfiles of the declared layers for these platforms and creates the graph.
    pub fn read(declarations: Declarations, config: &Config, platforms: TargetPlatforms) -> Self {
        let Declarations { catalog, diagnostics, sources, broken, unsettled, inferred, took } = declarations;
        let ends = Instant::now() + config.budget.saturating_sub(took);
        let (graph, dockerfiles) = (None, BTreeMap::new());
        let mut survey = Self { catalog, graph, diagnostics, sources, dockerfiles, platforms, broken: broken.len() };
        let is_spent = || Instant::now() >= ends;
        survey.read_dockerfiles(config, &Reading { unsettled, alone: inferred, is_spent: &is_spent });
        if inferred {
            survey.infer();
        }
        let sure = survey.platforms.sure(&survey.catalog);
        let builders = survey.platforms.known || !survey.platforms.builders.is_empty();
        let (graph, faults) = graph::build(
            &survey.catalog,
            Evidence {
                dockerfiles: &survey.dockerfiles,
                broken: &broken,
                platforms: KnownPlatforms { layers: &sure, builders },
                alone: inferred,
            },
        );
        // Without declarations nothing can contradict the Dockerfile, as long as a graph exists without it.
        let agrees = |fault: &Diagnostic| inferred && graph.is_some() && fault.code == graph::MISMATCH;
        survey.diagnostics.extend(faults.into_iter().filter(|fault| !agrees(fault)));
        let digests = substituted::check(config, &survey.catalog, &survey.dockerfiles, &survey.platforms);
        survey.diagnostics.extend(digests);
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
            for id in facts.secret_ids.keys() {
                if layer.secrets.iter().all(|known| known.id != *id) {
                    layer.secrets.push(Secret {
                        id: id.clone(),
                        env: None,
                        file: None,
                        required: facts.secret_ids[id].required,
                    });
                }
            }
        }
    }

    /// How many layers were declared, including invalid ones.
    pub fn count(&self) -> usize {
        self.catalog.layers.len() + self.broken
    }

    /// If the catalog's settings failed to evaluate, its namespace is unknown, so each Dockerfile is checked on its
    /// own.
    fn read_dockerfiles(&mut self, config: &Config, reading: &Reading<'_>) {
        let mut parsed: Vec<(&Declared, PathBuf, Parsed)> = Vec::new();
        for (at, declared) in self.catalog.layers.iter().enumerate() {
            let found = context::check_files(declared, &self.catalog.project_root, reading.is_spent);
            if (reading.is_spent)() {
                self.diagnostics.extend(spent(self.catalog.layers[at..].iter(), config.budget));
                break;
            }
            match found {
                Ok(located) => {
                    let file = dockerfile::parse_source(&located.source);
                    self.sources.add(located.dockerfile.clone(), located.source.text);
                    parsed.push((declared, located.dockerfile, file));
                }
                Err(faults) => {
                    self.diagnostics.extend(faults);
                    continue;
                }
            }
            self.diagnostics.extend(context::ignore_fault(declared, &self.catalog.project_root));
            self.diagnostics.extend(context::stale_recipe(declared, &self.catalog.project_root));
        }
        let files = parsed.iter().filter_map(|(declared, _, file)| Some((&declared.layer, file.as_ref().ok()?)));
        let mut triggers = triggers::of_pins(config);
        triggers.extend(triggers::of_substitutes(config, &self.platforms.default));
        if !reading.alone {
            triggers.extend(triggers::of_layers(&self.catalog.settings, files));
        }
        let mut parsed = parsed.into_iter();
        while let Some((declared, path, file)) = parsed.next() {
            if (reading.is_spent)() {
                let left = std::iter::once(declared).chain(parsed.map(|(declared, ..)| declared));
                // What the time was too short for twice is told once.
                if !self.diagnostics.iter().any(|known| known.code == BUDGET_SPENT) {
                    self.diagnostics.extend(spent(left, config.budget));
                }
                break;
            }
            let reader = dockerfile::Reading {
                target: declared.layer.target.as_deref(),
                build_args: &graph::known_build_args(&self.catalog.settings, &config.build_args, &declared.layer),
                platforms: &self.platforms.of(declared),
                builder: self.platforms.builder(declared),
                frontend: declared.layer.frontend.is_some(),
                triggers: &triggers,
            };
            let facts = file.and_then(|file| dockerfile::references(&file, &reader));
            if let Ok(facts) = &facts {
                let root = &self.catalog.project_root;
                let faults = context::ignored_copies(declared, root, &path, &facts.must_exist);
                self.diagnostics.extend(faults);
            }
            let name = declared.layer.name.clone();
            // If two layers have the same name, the first one counts.
            if !self.dockerfiles.contains_key(&name) && (!reading.unsettled || torn(&facts)) {
                self.dockerfiles.insert(name, DockerfileRead { file: path, facts });
            }
        }
    }
}

/// How Dockerfiles are read.
struct Reading<'a> {
    /// The catalog's settings failed to evaluate.
    unsettled: bool,
    /// There is a Dockerfile and no catalog.
    alone: bool,
    /// Whether the time for the check is over.
    is_spent: &'a dyn Fn() -> bool,
}

/// The code of a check whose time was over.
const BUDGET_SPENT: &str = "lian::check::budget";

/// The time of the check was over before these layers were looked at.
fn spent<'a>(left: impl Iterator<Item = &'a Declared>, budget: Duration) -> Option<Diagnostic> {
    const NAMED: usize = 5;
    let left: Vec<&Declared> = left.collect();
    let first = left.first()?;
    let mut names: Vec<String> = left.iter().take(NAMED).map(|declared| format!("`{}`", declared.layer.name)).collect();
    if left.len() > NAMED {
        names.push(format!("+{} more", left.len() - NAMED));
    }
    let message = format!("the check has used up its {}: not checked are {}", human_duration(budget), names.join(", "));
    let help = "look for a huge context or a file that is slow to read, or allow more with --check-budget SECONDS";
    Some(Diagnostic::error(BUDGET_SPENT, message).label(first.place("name"), "the first of them").help(help))
}

/// A Dockerfile, or all that is wrong with its syntax.
type Parsed = Result<Dockerfile, Vec<DockerfileFault>>;

/// Whether a Dockerfile is invalid independent of the catalog.
fn torn(facts: &Result<DockerfileFacts, Vec<DockerfileFault>>) -> bool {
    facts.as_ref().is_err_and(|faults| faults.iter().all(|fault| fault.kind == DockerfileFaultKind::Parse))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::app::project::Project;
    use crate::domain::model::CatalogSettings;

    /// A survey of these layers, which nothing was read for.
    fn unread(root: &std::path::Path, names: &[&str]) -> Survey {
        let declared = |name: &&str| {
            let folder = root.join("catalog").join(name);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("Dockerfile"), "FROM scratch\n").expect("written");
            let layer = serde_json::json!({ "name": name, "kind": "app", "build_base": "debian", "context": "." });
            let layer = serde_json::from_value(layer).expect("a layer");
            Declared { layer, file: folder.join("workflow.ncl"), places: BTreeMap::new() }
        };
        let layers = names.iter().map(declared).collect();
        let catalog = Catalog {
            root: root.join("catalog"),
            project_root: root.to_owned(),
            settings: CatalogSettings::default(),
            layers,
        };
        let (graph, dockerfiles, diagnostics) = (None, BTreeMap::new(), Vec::new());
        let (sources, platforms) = (Sources::default(), TargetPlatforms::guessed(host_platform()));
        Survey { catalog, graph, diagnostics, sources, dockerfiles, platforms, broken: 0 }
    }

    #[test]
    fn a_check_whose_time_is_over_reads_no_further_dockerfile_and_says_which() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = std::fs::canonicalize(folder.path()).expect("a folder");
        let state = root.join("state");
        let config = Config::of_project(Project::of_folder(&root, Some(&state)).expect("a project"), None);
        let looks = Cell::new(0);
        let read = |most: usize| {
            let mut survey = unread(&root, &["a", "b", "c"]);
            looks.set(0);
            let is_spent = || {
                looks.set(looks.get() + 1);
                looks.get() > most
            };
            survey.read_dockerfiles(&config, &Reading { unsettled: false, alone: true, is_spent: &is_spent });
            survey
        };
        assert_eq!(read(usize::MAX).dockerfiles.len(), 3);
        let all = looks.get();
        // The last looks are those before what each Dockerfile names is found.
        for (left, named) in [(1, "are `c`"), (2, "are `b`, `c`"), (3, "are `a`, `b`, `c`")] {
            let survey = read(all - left);
            let faults: Vec<_> = survey.diagnostics.iter().filter(|fault| fault.code == BUDGET_SPENT).collect();
            assert_eq!((survey.dockerfiles.len(), faults.len()), (3 - left, 1));
            assert!(faults[0].message.ends_with(named), "{}", faults[0].message);
        }
    }
}

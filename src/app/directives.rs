//! Directives: reads them, says what their actor reads and writes, and refuses what lies outside
//! (`lian::cache::forbidden_ref`). Not responsible for: the table of who may do what (see `domain::cache`), building.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;
use super::cache_scope::{CacheScope, FORBIDDEN, argument, is_harmless};
use super::config::{self, evaluator};
use super::project::Project;
use super::target_image;
use crate::domain::base::{SourceLocation, Span};
use crate::domain::cache::{Access, ActorId, Identity, NameFault, RefUse, Workspace};
use crate::domain::model::{Actor, Diagnostic, LIBRARIES, Workflow};

/// Where directives are, and with what they are read.
#[derive(Debug, Clone, Default)]
pub struct DirectivesSource {
    /// The file.
    pub file: PathBuf,
    /// The names that are bound around it.
    pub set: Vec<(String, String)>,
    /// The state folder, if the user chose one.
    pub state: Option<PathBuf>,
}

/// Directives whose actor may do all that they ask for.
#[derive(Debug, Clone)]
pub struct Directives {
    /// The file.
    pub file: PathBuf,
    /// How it is built.
    pub workflow: Workflow,
    /// The build context.
    pub context: PathBuf,
    /// Who may read and write what.
    pub scope: CacheScope,
    /// The image, `[registry/]namespace/name[:tag]`.
    pub image: String,
}

impl Directives {
    /// Reads a file; all faults are told at once.
    pub fn read(source: &DirectivesSource) -> Result<Self, Error> {
        let loaded = evaluator().directives(&source.file, &source.set, &[])?;
        let Some(workflow) = loaded.workflow else { return Err(Error::files(loaded.diagnostics, loaded.sources)) };
        let workflow = config::with_paths_of_providers(workflow, &source.file)?;
        let mut reading =
            Reading { workflow: &workflow, file: &source.file, places: &loaded.places, faults: Vec::new() };
        let scope = reading.scope();
        let image = scope.as_ref().map(|scope| reading.image(scope));
        let (Some(scope), Some(image), true) = (scope, image, reading.faults.is_empty()) else {
            return Err(Error::files(reading.faults, loaded.sources));
        };
        let context = match workflow.artifact.as_ref().and_then(|artifact| artifact.context.clone()) {
            Some(context) => context,
            None => root_of(&source.file, source.state.as_deref())?,
        };
        Ok(Self { file: source.file.clone(), workflow, context, scope, image })
    }
}

/// The root of the project that a file lies in, as it is written from the working directory.
fn root_of(file: &Path, state: Option<&Path>) -> Result<PathBuf, Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = Project::of_context(folder, state)?.root().to_owned();
    let here = std::env::current_dir().ok().and_then(|here| here.canonicalize().ok());
    Ok(match here {
        Some(here) if here == root => PathBuf::from("."),
        _ => root,
    })
}

/// Directives while they are checked.
struct Reading<'a> {
    workflow: &'a Workflow,
    file: &'a Path,
    places: &'a BTreeMap<String, SourceLocation>,
    faults: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn scope(&mut self) -> Option<CacheScope> {
        let policy = self.workflow.cache_policy.clone()?;
        if self.workflow.catalog.is_some() || !self.workflow.targets.is_empty() || !self.workflow.set.is_empty() {
            let fault = Diagnostic::error(
                "lian::directives::catalog",
                "directives build one image, and name layers of a catalog",
            )
            .help("leave `catalog`, `targets` and `set` out, or build the catalog: `lian-build apply`");
            self.fault(fault, &["catalog", "targets", "set"]);
        }
        for name in self.workflow.build_args.keys().filter(|name| !is_harmless(name)) {
            self.fault(argument(name), &[&format!("build_args.{name}")]);
        }
        let workspace = self.workflow.workspace.clone().unwrap_or_default();
        let workspace = self.name("the workspace", &workspace, "workspace", Workspace::parse);
        let named: Vec<String> = match &self.workflow.libraries {
            Some(named) => named.clone(),
            None => LIBRARIES.map(str::to_owned).to_vec(),
        };
        let libraries: Vec<Option<Workspace>> = named
            .iter()
            .enumerate()
            .map(|(at, library)| self.name("the library", library, &format!("libraries.{at}"), Workspace::parse))
            .collect();
        let identity = self.identity(policy.actor);
        let workspace = workspace?;
        let all = Access::of(&identity?, &workspace, &libraries.into_iter().collect::<Option<Vec<_>>>()?);
        let scope = CacheScope::new(policy, workspace, all);
        let within = scope.within(self.workflow.registry.as_ref());
        let mut scope = within.map_err(|fault| self.fault(*fault, &["registry.address"])).ok()?;
        let beyond = match scope.all.clone().asked(&scope.policy) {
            Ok(access) => {
                scope.access = access;
                return Some(scope);
            }
            Err(beyond) => beyond,
        };
        for one in beyond {
            let (field, list) = match one.wanted {
                RefUse::Read => ("reads", &scope.policy.reads),
                RefUse::Write => ("writes", &scope.policy.writes),
            };
            let at = list.iter().flatten().position(|reference| *reference == one.reference).unwrap_or(0);
            let fault = scope.forbidden(&format!("`{}`", one.reference), one.wanted);
            self.fault(fault, &[&format!("cache_policy.{field}.{at}")]);
        }
        // What else is wrong is told beside it.
        Some(scope)
    }

    fn identity(&mut self, actor: Actor) -> Option<Identity> {
        let id = self.workflow.actor_id.clone();
        let id = id.map(|id| self.name("the actor's name", &id, "actor_id", ActorId::parse));
        match (actor, id) {
            (Actor::Ci, _) => Some(Identity::Ci),
            (Actor::CiAux, _) => Some(Identity::CiAux),
            (Actor::Human | Actor::Agent, Some(id)) => id.map(Identity::Session),
            (Actor::Human | Actor::Agent, None) => {
                let message = format!("a session of `'{actor}` does not say whose it is");
                let help = "name who builds: `actor_id = \"jpl\"`; what a session writes is kept apart by it";
                self.fault(
                    Diagnostic::error("lian::directives::actor_id", message).help(help),
                    &["cache_policy.actor"],
                );
                None
            }
        }
    }

    /// The image; where it cannot be built, a fault says why.
    fn image(&mut self, scope: &CacheScope) -> String {
        let own = || format!("{}/{}", scope.mounts(), scope.workspace);
        let Some(given) = self.workflow.artifact.as_ref().and_then(|artifact| artifact.image.clone()) else {
            return own();
        };
        let image = match target_image::parse(&given) {
            Ok(image) => image,
            Err(what) => {
                let message = format!("`{given}` does not name an image to build: {what}");
                let fault = Diagnostic::error("lian::directives::image", message).help(
                    "write `[registry/]namespace/name[:tag]`, in lower case: `registry.example:5000/team/app:v1`",
                );
                self.fault(fault, &["artifact.image"]);
                return given;
            }
        };
        if !scope.may_write(&image) {
            self.fault(scope.forbidden(&format!("the image {given}"), RefUse::Write), &["artifact.image"]);
        }
        given
    }

    fn name<N>(
        &mut self,
        what: &str,
        text: &str,
        field: &str,
        parse: impl Fn(&str) -> Result<N, NameFault>,
    ) -> Option<N> {
        let fault = match parse(text) {
            Ok(name) => return Some(name),
            Err(fault) => fault,
        };
        let message = format!("{what} `{text}` cannot be a part of an image's name: {fault}");
        let help = "write lower-case letters and digits, parted by single `.`, `_` or `-`: `jpl`, `agent-7`";
        self.fault(Diagnostic::error(FORBIDDEN, message).help(help), &[field]);
        None
    }

    /// Notes a fault, at the first of these fields that is written.
    fn fault(&mut self, fault: Diagnostic, fields: &[&str]) {
        let place = fields.iter().find_map(|field| self.places.get(*field).cloned());
        // What is not written stands nowhere: the file is told.
        let whole = || SourceLocation { file: self.file.to_owned(), span: Span::default() };
        self.faults.push(fault.label(place.unwrap_or_else(whole), ""));
    }
}

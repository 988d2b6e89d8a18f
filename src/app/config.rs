//! The configuration of a command: the workflow, overridden by the command line. Not responsible for: reading the
//! catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::adapters::nickel::{self, Evaluator};
use crate::adapters::providers::{self, Descriptor};
use crate::adapters::registry::Substitute;
use crate::app::cache_scope::CacheScope;
use crate::app::project::{self, Project};
use crate::app::setting::{Origin, Setting};
use crate::app::trust::Trust;
use crate::app::{Error, UsageError};
use crate::domain::model::{BuildSpec, ContextTransfer, ImageRef, ProviderName, Workflow};
use crate::system::read::{self, Cap};
use crate::system::{catalog_root, git_root, resolved};

/// The default workflow file.
const DEFAULT_WORKFLOW: &str = "workflows/local.ncl";

/// How long checking a catalog may take, if nothing is said.
pub const BUDGET: Duration = Duration::from_secs(30);

/// All settings of a command, from flags and workflow. Created once, then immutable.
#[derive(Debug, Clone)]
pub struct Config {
    /// The catalog's folder, as displayed.
    pub catalog: Setting<PathBuf>,
    /// The catalog's project.
    pub project: Project,
    /// Overrides of fields, in order.
    pub set: Vec<(String, String)>,
    /// Folders outside the project that may be imported from.
    pub allow_imports: Vec<PathBuf>,
    /// How long checking the catalog may take.
    pub budget: Duration,
    /// The workflow as it is written; `dispatch` sets runners and registry in it.
    pub workflow: Workflow,
    /// Where runners come from.
    pub provider: Setting<ProviderName>,
    /// How the context is transferred to them.
    pub context_transfer: Setting<ContextTransfer>,
    /// Layers to build; empty means all.
    pub targets: Setting<Vec<String>>,
    /// Layers to rebuild even if unchanged.
    pub forced: Vec<String>,
    /// Substitutes of external images, by normalised reference.
    pub base_images: BTreeMap<String, Substitute>,
    /// Those of them that the workflow names.
    pub images_of_project: BTreeSet<String>,
    /// The source of the secret `ca`.
    pub ca_bundle: Setting<Option<PathBuf>>,
    /// `ARG` values for all layers that declare them.
    pub build_args: BTreeMap<String, String>,
    /// The OCI layout folder.
    pub layout: Setting<PathBuf>,
    /// How many layers are built at once.
    pub width: Setting<usize>,
    /// The lock file with the pins of external images.
    pub lock: PathBuf,
    /// Runner settings from the command line; they override any `.build-spec.ncl`.
    pub spec: BuildSpec,
    /// The workflow's file, if there is one.
    pub workflow_file: Option<PathBuf>,
    /// Who named the registry.
    pub registry_origin: Origin,
    /// Whether the command line declares the layers, and no file of the project.
    pub layers_are_the_users: bool,
    /// What the command line grants.
    pub trust: Trust,
    /// An additional tag for built images, beside `latest` and the key's.
    pub tag: Option<String>,
    /// Who may read and write what, where directives say it.
    pub scope: Option<CacheScope>,
}

/// Which catalog, and how it is read.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The catalog's folder; default: the workflow's, or `catalog`.
    pub catalog: Option<PathBuf>,
    /// The workflow's file.
    pub workflow: Option<PathBuf>,
    /// Overrides of fields, in order.
    pub set: Vec<(String, String)>,
    /// Folders outside the project that may be imported from.
    pub allow_imports: Vec<PathBuf>,
    /// The state folder, if the user chose one.
    pub state: Option<PathBuf>,
    /// What the command line grants.
    pub trust: Trust,
    /// How long checking the catalog may take.
    pub budget: Option<Duration>,
}

/// Which layers to build, and with what. Everything here overrides the workflow.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Which catalog.
    pub source: Source,
    /// Layers to build; empty means all.
    pub targets: Vec<String>,
    /// Layers to rebuild even if unchanged.
    pub forced: Vec<String>,
    /// Substitutes of external images.
    pub base_images: Vec<(String, String)>,
    /// The source of the secret `ca`.
    pub ca_bundle: Option<PathBuf>,
    /// `ARG` values for all layers that declare them.
    pub build_args: Vec<(String, String)>,
    /// Where layers are built.
    pub placement: ProviderChoice,
    /// The OCI layout folder, and whether a flag or the environment set it.
    pub layout: Option<Setting<PathBuf>>,
    /// How many layers are built at once.
    pub parallel: Option<usize>,
}

impl Selection {
    /// A catalog without overrides.
    pub fn of(source: impl Into<Source>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }
}

/// Where layers are built; overrides the workflow.
#[derive(Debug, Clone, Default)]
pub struct ProviderChoice {
    /// Where runners come from.
    pub provider: Option<ProviderName>,
    /// How the context is transferred to them.
    pub context_transfer: Option<ContextTransfer>,
}

impl ProviderChoice {
    /// The provider: the flag's, else the workflow's. `written` is whether there is a workflow.
    pub fn provider(&self, workflow: &Workflow, written: bool) -> Setting<ProviderName> {
        let own = written.then(|| workflow.compute_provider.clone());
        Setting::choose(self.provider.clone(), own, || workflow.compute_provider.clone())
    }

    /// As [`provider`](Self::provider), for how the context is transferred.
    pub fn context_transfer(&self, workflow: &Workflow, written: bool) -> Setting<ContextTransfer> {
        let own = workflow.runners.context_transfer;
        Setting::choose(self.context_transfer, written.then_some(own), || own)
    }
}

/// This binary, which evaluates Nickel in child processes. Not by path: the file there may have been replaced.
pub fn evaluator() -> Evaluator {
    Evaluator::new("/proc/self/exe".into())
}

impl Config {
    /// The descriptor of the configured provider.
    pub fn descriptor(&self) -> Result<&'static Descriptor, Error> {
        providers::registry().find(&self.provider).map_err(Error::outside)
    }

    /// The substitute of an image: one for exactly this reference, else one for its name and tag.
    pub fn substitute(&self, image: &ImageRef) -> Option<&Substitute> {
        let tagged = || {
            let (name, tag) = image.tagged();
            self.base_images.get(&format!("{name}:{tag}"))
        };
        self.base_images.get(&image.to_string()).or_else(tagged)
    }

    /// From the flags, which override the workflow.
    pub fn new(selection: &Selection) -> Result<Self, Error> {
        let source = &selection.source;
        let (workflow, named) = load_workflow(source)?;
        let catalog = Setting::choose(source.catalog.clone(), workflow.catalog.clone(), || "catalog".into());
        check_place(&catalog, named.as_deref())?;
        let project = Project::of_catalog(&catalog, source.state.as_deref())?;
        let own_set = workflow.set.iter().map(|(path, value)| (path.clone(), value.clone()));
        let (base_images, images_of_project) = all_substitutes(&workflow, &selection.base_images)?;
        let mut build_args = workflow.build_args.clone();
        build_args.extend(selection.build_args.iter().cloned());
        let said = |texts: &[String]| Some(texts.to_vec()).filter(|texts| !texts.is_empty());
        let config = Self {
            layout: selection.layout.clone().unwrap_or_else(|| Setting::default(project.layout())),
            lock: project::catalog_lock(&catalog),
            spec: BuildSpec::default(),
            tag: None,
            scope: None,
            workflow_file: named.clone(),
            registry_origin: Origin::Workflow,
            layers_are_the_users: false,
            trust: source.trust.clone(),
            set: own_set.chain(source.set.iter().cloned()).collect(),
            allow_imports: source.allow_imports.clone(),
            budget: source.budget.unwrap_or(BUDGET),
            targets: Setting::choose(said(&selection.targets), said(&workflow.targets), Vec::new),
            forced: selection.forced.clone(),
            base_images,
            images_of_project,
            ca_bundle: ca_bundle(selection.ca_bundle.as_ref(), &workflow),
            build_args,
            width: width(selection.parallel, &workflow),
            provider: selection.placement.provider(&workflow, named.is_some()),
            context_transfer: selection.placement.context_transfer(&workflow, named.is_some()),
            catalog,
            project,
            workflow,
        };
        tracing::debug!(workflow = ?named, catalog = ?config.catalog, root = %config.project.root().display(),
            layout = ?config.layout, targets = ?config.targets, width = ?config.width,
            provider = ?config.provider, context_transfer = ?config.context_transfer, "configuration");
        Ok(config)
    }

    /// As [`new`](Self::new), for a command that builds or plans: files that the user named for builds must exist.
    pub fn for_builds(selection: &Selection) -> Result<Self, Error> {
        let config = Self::new(selection)?;
        config.check_no_directives()?;
        config.check_own_bundle()?;
        Ok(config)
    }

    /// Refuses directives as a workflow of what is built: what they say of caches would be passed over.
    pub fn check_no_directives(&self) -> Result<(), Error> {
        let Workflow { workspace, actor_id, libraries, artifact, cache_policy, runner_override, .. } = &self.workflow;
        let (names, rest) = (workspace.is_some() || actor_id.is_some(), artifact.is_some() || libraries.is_some());
        if names || rest || cache_policy.is_some() || runner_override.is_some() {
            let file = self.workflow_file.as_deref().unwrap_or(Path::new("the workflow"));
            return Err(Error::from(UsageError::Directives { file: file.display().to_string() }));
        }
        Ok(())
    }

    /// Refuses a CA bundle of the user's that cannot be read. One that a project names is not opened before it is
    /// granted.
    pub fn check_own_bundle(&self) -> Result<(), Error> {
        if self.ca_bundle.origin == Origin::Workflow { Ok(()) } else { self.check_bundle() }
    }

    /// Refuses a CA bundle that cannot be read, whoever named it.
    pub fn check_bundle(&self) -> Result<(), Error> {
        self.ca_bundle.as_deref().map_or(Ok(()), readable)
    }

    /// For a command that needs a project but no catalog or workflow.
    pub fn of_project(project: Project, layout: Option<Setting<PathBuf>>) -> Self {
        let workflow = Workflow::default();
        let catalog = Setting::default(project.root().join("catalog"));
        Self {
            layout: layout.unwrap_or_else(|| Setting::default(project.layout())),
            lock: project::catalog_lock(&catalog),
            spec: BuildSpec::default(),
            tag: None,
            scope: None,
            workflow_file: None,
            registry_origin: Origin::Default,
            layers_are_the_users: false,
            trust: Trust::default(),
            set: Vec::new(),
            allow_imports: Vec::new(),
            budget: BUDGET,
            targets: Setting::default(Vec::new()),
            forced: Vec::new(),
            base_images: BTreeMap::new(),
            images_of_project: BTreeSet::new(),
            ca_bundle: Setting::default(None),
            build_args: BTreeMap::new(),
            width: width(None, &workflow),
            provider: Setting::default(workflow.compute_provider.clone()),
            context_transfer: Setting::default(workflow.runners.context_transfer),
            catalog,
            project,
            workflow,
        }
    }
}

/// The flag's CA bundle, else the workflow's.
pub fn ca_bundle(flag: Option<&PathBuf>, workflow: &Workflow) -> Setting<Option<PathBuf>> {
    Setting::choose(flag.cloned().map(Some), workflow.ca_bundle.clone().map(Some), || None)
}

/// Concurrent layers: the flag, else the workflow, else the number of processors. Zero means unset.
fn width(flag: Option<usize>, workflow: &Workflow) -> Setting<usize> {
    let said = |width: Option<usize>| width.filter(|width| *width > 0);
    let processors = || std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
    Setting::choose(said(flag), said(Some(workflow.parallel)), processors)
}

/// Refuses a CA bundle that cannot be read.
fn readable(file: &Path) -> Result<(), Error> {
    read::of_user(file, Cap::Certificates).map(drop).map_err(|error| {
        Error::from(UsageError::Unreadable {
            what: "the CA bundle".to_owned(),
            path: file.display().to_string(),
            cause: error.to_string(),
            help: "name an existing PEM file with --ca-bundle".to_owned(),
        })
    })
}

/// The workflow in a file.
pub fn workflow_in(file: &Path, allow_imports: &[PathBuf]) -> Result<Workflow, Error> {
    let loaded = evaluator().workflow(file, allow_imports)?;
    let workflow = loaded.workflow.ok_or(Error::files(loaded.diagnostics, loaded.sources))?;
    with_paths_of_providers(workflow, file)
}

/// The workflow of a file, with the paths in its providers' settings resolved.
pub fn with_paths_of_providers(mut workflow: Workflow, file: &Path) -> Result<Workflow, Error> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let resolve_path = |path: &Path| nickel::resolve_path(folder, path);
    providers::registry().resolve(&mut workflow.providers, resolve_path).map_err(Error::outside)?;
    Ok(workflow)
}

fn load_workflow(source: &Source) -> Result<(Workflow, Option<PathBuf>), Error> {
    let file = match &source.workflow {
        Some(file) => file.clone(),
        None => {
            let catalog = source.catalog.clone().unwrap_or_else(|| "catalog".into());
            // Try the parent of the catalog's path as given, then of the resolved path: for `.` and links they
            // differ.
            let named = catalog.file_name().and_then(|_| catalog.parent()).map(|parent| parent.join(DEFAULT_WORKFLOW));
            let actual = std::fs::canonicalize(&catalog).ok();
            let actual = actual.as_deref().and_then(Path::parent).map(|parent| parent.join(DEFAULT_WORKFLOW));
            match named.into_iter().chain(actual).find(|file| file.symlink_metadata().is_ok()) {
                Some(file) => file,
                None => return Ok((Workflow::default(), None)),
            }
        }
    };
    workflow_in(&file, &source.allow_imports).map(|workflow| (workflow, Some(file)))
}

/// Refuses a catalog that files of a project lead out of it, by a link or by `..`: that one is another project's, with what
/// was granted there. Whoever names it means it.
fn check_place(catalog: &Setting<PathBuf>, workflow: Option<&Path>) -> Result<(), Error> {
    let home = match (catalog.origin, workflow) {
        (Origin::Flag | Origin::Environment, _) => return Ok(()),
        (Origin::Workflow, Some(file)) => {
            catalog_root(file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        }
        (Origin::Workflow | Origin::Default, _) => {
            let here = Path::new(".");
            git_root(here).unwrap_or_else(|| resolved(here))
        }
    };
    match std::fs::canonicalize(&catalog.value) {
        Ok(target) if !target.starts_with(&home) => {
            let (path, target) = (catalog.display().to_string(), target.display().to_string());
            Err(UsageError::CatalogOutside { path, target }.into())
        }
        // One that is not there is told by who reads it.
        _ => Ok(()),
    }
}

/// The workflow's substitutes with the flags' in their place, and which of them are the workflow's.
pub fn all_substitutes(
    workflow: &Workflow,
    flags: &[(String, String)],
) -> Result<(BTreeMap<String, Substitute>, BTreeSet<String>), Error> {
    let mut all = substitutes(workflow.base_images.iter().map(|(name, to)| (name.clone(), to.clone())))?;
    let own = substitutes(flags.iter().cloned())?;
    let of_project = all.keys().filter(|name| !own.contains_key(*name)).cloned().collect();
    all.extend(own);
    Ok((all, of_project))
}

/// Substitutes by full reference, with its digest if it has one.
fn substitutes(pairs: impl Iterator<Item = (String, String)>) -> Result<BTreeMap<String, Substitute>, Error> {
    pairs
        .map(|(name, to)| {
            let reference: ImageRef = name.parse().map_err(|error| {
                Error::from(UsageError::BaseImage { given: format!("{name}={to}"), what: format!("{error}") })
            })?;
            Ok((reference.to_string(), to.parse().map_err(Error::from)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_workflow_and_that_over_the_default() {
        let mut workflow = Workflow::default();
        let processors = width(None, &workflow);
        assert_eq!((processors.origin, processors.value >= 2), (Origin::Default, true));
        workflow.parallel = 3;
        assert_eq!(width(Some(0), &workflow), Setting { value: 3, origin: Origin::Workflow });
        assert_eq!(width(Some(7), &workflow), Setting { value: 7, origin: Origin::Flag });
        assert_eq!(ca_bundle(None, &workflow), Setting::default(None));
        workflow.ca_bundle = Some("own.pem".into());
        assert_eq!(ca_bundle(None, &workflow).origin, Origin::Workflow);
        let flags = ProviderChoice { provider: Some(ProviderName::from_static("ssh")), context_transfer: None };
        assert_eq!(
            (flags.provider(&workflow, true).origin, flags.provider.as_ref()),
            (Origin::Flag, Some(&flags.provider(&workflow, true).value))
        );
        assert_eq!(flags.context_transfer(&workflow, true).origin, Origin::Workflow);
        assert_eq!(flags.context_transfer(&workflow, false).origin, Origin::Default);
        let flag = PathBuf::from("flag.pem");
        assert_eq!(ca_bundle(Some(&flag), &workflow), Setting { value: Some(flag), origin: Origin::Flag });
    }
}

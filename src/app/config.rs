//! What a command works with: the workflow, overridden by the command line. Not responsible for: reading the catalog.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adapters::nickel::{self, Evaluator};
use crate::adapters::providers::{self, Descriptor};
use crate::adapters::registry::Substitute;
use crate::app::project::{self, Project};
use crate::app::{Error, UsageError};
use crate::domain::model::{BuildSpec, ContextTransfer, ImageRef, ProviderName, Workflow};

/// The workflow that is used where none is named.
const DEFAULT_WORKFLOW: &str = "workflows/local.ncl";

/// Everything that was said about a command, by flag or workflow.
#[derive(Debug, Clone)]
pub struct Config {
    /// The catalog's folder, as displayed.
    pub catalog: PathBuf,
    /// The catalog's project.
    pub project: Project,
    /// Overrides of fields, in order.
    pub set: Vec<(String, String)>,
    /// Folders outside the project that may be imported from.
    pub allow_imports: Vec<PathBuf>,
    /// The workflow's own words.
    pub workflow: Workflow,
    /// Layers to build; all where empty.
    pub targets: Vec<String>,
    /// Layers to build though nothing changed.
    pub forced: Vec<String>,
    /// Substitutes of external images, by normalised reference.
    pub base_images: BTreeMap<String, Substitute>,
    /// The source of the secret `ca`.
    pub ca_bundle: Option<PathBuf>,
    /// `ARG` values for all layers that declare them.
    pub build_args: BTreeMap<String, String>,
    /// The OCI layout folder.
    pub layout: PathBuf,
    /// Where external images are pinned.
    pub lock: PathBuf,
    /// What was said on the command line about runners: wins over any `.build-spec.ncl`.
    pub spec: BuildSpec,
    /// A tag for what is built, beside `latest` and the key's.
    pub tag: Option<String>,
}

/// Which catalog, and how it is read.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The catalog's folder; the workflow's, or `catalog`, where unset.
    pub catalog: Option<PathBuf>,
    /// The workflow's file.
    pub workflow: Option<PathBuf>,
    /// Overrides of fields, in order.
    pub set: Vec<(String, String)>,
    /// Folders outside the project that may be imported from.
    pub allow_imports: Vec<PathBuf>,
}

/// Which layers of it, and with what. All of it wins over the workflow.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Which catalog.
    pub source: Source,
    /// Layers to build; all where empty.
    pub targets: Vec<String>,
    /// Layers to build though nothing changed.
    pub forced: Vec<String>,
    /// Substitutes of external images.
    pub base_images: Vec<(String, String)>,
    /// The source of the secret `ca`.
    pub ca_bundle: Option<PathBuf>,
    /// `ARG` values for all layers that declare them.
    pub build_args: Vec<(String, String)>,
    /// Where layers are built.
    pub placement: ProviderChoice,
    /// The OCI layout folder.
    pub layout: Option<PathBuf>,
}

/// Where layers are built. What is said wins over the workflow.
#[derive(Debug, Clone, Default)]
pub struct ProviderChoice {
    /// Where runners come from.
    pub provider: Option<ProviderName>,
    /// How the context reaches them.
    pub context_transfer: Option<ContextTransfer>,
}

impl ProviderChoice {
    /// What was said, over what the workflow says.
    pub fn over(self, workflow: &mut Workflow) {
        if let Some(provider) = self.provider {
            workflow.compute_provider = provider;
        }
        if let Some(transfer) = self.context_transfer {
            workflow.runners.context_transfer = transfer;
        }
    }
}

/// The binary itself: Nickel is evaluated in children of it. Not by its path: the file there may be another one by now.
pub fn evaluator() -> Evaluator {
    Evaluator::new("/proc/self/exe".into())
}

impl Config {
    /// What is known of the provider that the workflow or the command line names.
    pub fn descriptor(&self) -> Result<&'static Descriptor, Error> {
        providers::registry().find(&self.workflow.compute_provider).map_err(Error::outside)
    }

    /// From the flags that name a catalog.
    pub fn of_source(source: &Source) -> Result<Self, Error> {
        let (workflow, named) = load_workflow(source)?;
        let catalog = source.catalog.clone().or_else(|| workflow.catalog.clone()).unwrap_or_else(|| "catalog".into());
        let project = Project::of_catalog(&catalog);
        let mut set: Vec<(String, String)> =
            workflow.set.iter().map(|(path, value)| (path.clone(), value.clone())).collect();
        set.extend(source.set.iter().cloned());
        let base_images = substitutes(workflow.base_images.iter().map(|(name, to)| (name.clone(), to.clone())))?;
        tracing::debug!(workflow = ?named, catalog = %catalog.display(), root = %project.root().display(), "settings");
        Ok(Self {
            layout: project.layout(),
            lock: project::catalog_lock(&catalog),
            spec: BuildSpec::default(),
            tag: None,
            catalog,
            project,
            set,
            allow_imports: source.allow_imports.clone(),
            targets: workflow.targets.clone(),
            forced: Vec::new(),
            base_images,
            ca_bundle: workflow.ca_bundle.clone(),
            build_args: workflow.build_args.clone(),
            workflow,
        })
    }

    /// From the flags that select layers: they win over the workflow.
    pub fn of_selection(selection: &Selection) -> Result<Self, Error> {
        let mut settings = Self::of_source(&selection.source)?;
        selection.placement.clone().over(&mut settings.workflow);
        if !selection.targets.is_empty() {
            settings.targets.clone_from(&selection.targets);
        }
        settings.forced.clone_from(&selection.forced);
        settings.base_images.extend(substitutes(selection.base_images.iter().cloned())?);
        settings.build_args.extend(selection.build_args.iter().cloned());
        if let Some(layout) = &selection.layout {
            settings.layout.clone_from(layout);
        }
        if let Some(file) = selection.ca_bundle.as_ref().or(settings.ca_bundle.as_ref()) {
            settings.ca_bundle = Some(readable(file)?);
        }
        Ok(settings)
    }
}

pub fn readable(file: &Path) -> Result<PathBuf, Error> {
    std::fs::File::open(file).map_err(|error| {
        Error::configuration(UsageError::Unreadable {
            what: "the CA bundle".to_owned(),
            path: file.display().to_string(),
            cause: error.to_string(),
            help: "name an existing PEM file with --ca-bundle".to_owned(),
        })
    })?;
    Ok(file.to_owned())
}

/// The workflow in a file.
pub fn workflow_in(file: &Path, allow_imports: &[PathBuf]) -> Result<Workflow, Error> {
    let loaded = evaluator().workflow(file, allow_imports)?;
    let mut workflow = loaded.workflow.ok_or(Error::files(loaded.diagnostics, loaded.sources))?;
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
            // Beside the catalog as it was named, or as it is: `.` and links have other parents than names.
            let named = catalog.file_name().and_then(|_| catalog.parent()).map(|parent| parent.join(DEFAULT_WORKFLOW));
            let actual = std::fs::canonicalize(&catalog).ok();
            let actual = actual.as_deref().and_then(Path::parent).map(|parent| parent.join(DEFAULT_WORKFLOW));
            match named.into_iter().chain(actual).find(|file| file.is_file()) {
                Some(file) => file,
                None => return Ok((Workflow::default(), None)),
            }
        }
    };
    workflow_in(&file, &source.allow_imports).map(|workflow| (workflow, Some(file)))
}

/// Substitutes by normalised reference.
pub fn substitutes(pairs: impl Iterator<Item = (String, String)>) -> Result<BTreeMap<String, Substitute>, Error> {
    pairs
        .map(|(name, to)| {
            let reference: ImageRef = name.parse().map_err(|error| {
                Error::configuration(UsageError::BaseImage { given: format!("{name}={to}"), what: format!("{error}") })
            })?;
            Ok((reference.normalised(), to.parse().map_err(Error::configuration)?))
        })
        .collect()
}

//! Turns a request to build one Dockerfile without a catalog into a configuration and a catalog of one layer. Not
//! responsible for: arguments, building.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::{self, Config, ProviderChoice};
use super::directives::Directives;
use super::planning::specs::over;
use super::planning::survey::Declarations;
use super::project::Project;
use super::setting::{Origin, Setting};
use super::target_image::{self, TargetImage};
use super::trust::Trust;
use super::{Error, UsageError};
use crate::adapters::providers;
use crate::adapters::registry::Address;
use crate::domain::base::Platforms;
use crate::domain::model::{
    Base, BuildSpec, Catalog, CatalogSettings, Declared, Kind, Layer, RegistryProvider, RegistrySettings, Secret,
    Sources, Workflow,
};

/// What to build, and where. Everything here overrides the workflow.
#[derive(Debug, Clone, Default)]
pub struct DispatchRequest {
    /// The build context.
    pub context: PathBuf,
    /// The Dockerfile; default: the context's.
    pub dockerfile: Option<PathBuf>,
    /// `[registry/]namespace/name[:tag]`; default: named after the context's folder.
    pub image: Option<String>,
    /// The registry to push to, `host[:port][/prefix]`.
    pub registry: Option<String>,
    /// Whether to use plain HTTP for the registry.
    pub plain_http: bool,
    /// The stage to build; default: the last one.
    pub target: Option<String>,
    /// A workflow with the settings of providers, runners and registry.
    pub workflow: Option<PathBuf>,
    /// Directives, which are such a workflow and more.
    pub directives: Option<Directives>,
    /// Where it is built.
    pub placement: ProviderChoice,
    /// The requirements for its runner.
    pub spec: BuildSpec,
    /// Locations to request servers in, in order.
    pub locations: Vec<String>,
    /// Boot timeout of a runner, seconds; it is then released.
    pub boot_timeout_s: Option<u64>,
    /// Maximum lifetime of a runner, minutes.
    pub max_lifetime_min: Option<u64>,
    /// Maximum cost, in the provider's currency.
    pub max_cost: Option<f64>,
    /// The platform; default: the runner's.
    pub platform: Option<String>,
    /// `ARG` values.
    pub build_args: Vec<(String, String)>,
    /// Labels of the image.
    pub labels: Vec<(String, String)>,
    /// Build secrets.
    pub secrets: Vec<Secret>,
    /// Ids of ssh mounts that may use the agent's keys.
    pub ssh: Vec<String>,
    /// Substitutes of external images.
    pub base_images: Vec<(String, String)>,
    /// The source of the secret `ca`.
    pub ca_bundle: Option<PathBuf>,
    /// Build even if an image of the same inputs exists.
    pub force: bool,
    /// The OCI layout folder.
    pub layout: Option<Setting<PathBuf>>,
    /// The state folder, if the user chose one.
    pub state: Option<PathBuf>,
    /// What the command line grants.
    pub trust: Trust,
}

impl DispatchRequest {
    /// What directives ask for; what is requested beside it wins.
    #[must_use]
    pub fn following(self, directives: Directives) -> Self {
        let artifact = directives.workflow.artifact.clone().unwrap_or_default();
        let size = directives.workflow.runner_override.clone().unwrap_or_default();
        Self {
            context: directives.context.clone(),
            dockerfile: artifact.dockerfile,
            image: Some(directives.image.clone()),
            target: artifact.target,
            spec: over(&self.spec, size),
            workflow: Some(directives.file.clone()),
            directives: Some(directives),
            ..self
        }
    }

    /// The request, with the image's name parsed.
    pub fn resolve(self) -> Result<Dispatch, Error> {
        Ok(Dispatch { image: image_of(&self)?, request: self })
    }
}

/// A request with a parsed image name.
#[derive(Debug, Clone)]
pub struct Dispatch {
    request: DispatchRequest,
    image: TargetImage,
}

impl Dispatch {
    /// The configuration: the request, which overrides the workflow.
    pub fn config(&self) -> Result<Config, Error> {
        let request = &self.request;
        let workflow = workflow_of(request, &self.image)?;
        let context = std::fs::canonicalize(&request.context).map_err(|error| {
            Error::from(UsageError::Unreadable {
                what: "the context".to_owned(),
                path: request.context.display().to_string(),
                cause: error.to_string(),
                help: "name an existing folder with --context".to_owned(),
            })
        })?;
        let project = Project::of_context(&context, request.state.as_deref())?;
        let (base_images, images_of_project) = config::all_substitutes(&workflow, &request.base_images)?;
        let ca_bundle = config::ca_bundle(request.ca_bundle.as_ref(), &workflow);
        // A registry named for this image overrides a general layout setting.
        let named = self.image.registry.is_some() || request.registry.is_some();
        let layout = request.layout.clone().filter(|_| !named);
        let scope = request.directives.as_ref().map(|directives| directives.scope.clone());
        let scope = scope.map(|scope| scope.within(workflow.registry.as_ref())).transpose();
        let scope = scope.map_err(|fault| Error::files(vec![*fault], Sources::default()))?;
        if let Some(scope) = &scope {
            scope.check_build_args(request.build_args.iter().map(|(name, _)| name))?;
        }
        let build_args = if scope.is_some() { workflow.build_args.clone() } else { BTreeMap::new() };
        // Whoever named the registry did not say that a login goes there in plain text, and directives are the project's.
        let is_plain = workflow.registry.as_ref().is_some_and(|registry| registry.plain_http);
        let is_plain_by_workflow = is_plain && !request.plain_http;
        let is_the_users = request.registry.is_some() || (self.image.registry.is_some() && scope.is_none());
        let config = Config {
            catalog: Setting { value: request.context.clone(), origin: Origin::Flag },
            set: Vec::new(),
            allow_imports: Vec::new(),
            budget: config::BUDGET,
            targets: Setting::default(Vec::new()),
            forced: if request.force { vec![self.image.name.clone()] } else { Vec::new() },
            base_images,
            images_of_project,
            ca_bundle,
            build_args,
            layout: layout.unwrap_or_else(|| Setting::default(project.layout())),
            width: Setting::default(1),
            tag: self.image.tag.clone(),
            workflow_file: request.workflow.clone(),
            registry_origin: if is_the_users && !is_plain_by_workflow { Origin::Flag } else { Origin::Workflow },
            // What directives declare is the project's.
            layers_are_the_users: scope.is_none(),
            scope,
            trust: request.trust.clone(),
            lock: project.dispatch_lock(),
            spec: request.spec.clone(),
            provider: request.placement.provider(&workflow, request.workflow.is_some()),
            context_transfer: request.placement.context_transfer(&workflow, request.workflow.is_some()),
            project,
            workflow,
        };
        if config.scope.is_none() {
            config.check_no_directives()?;
        }
        config.check_own_bundle()?;
        Ok(config)
    }

    /// The declaration of the Dockerfile, which must exist: a catalog of this one layer.
    pub fn declarations(&self, config: &Config) -> Result<Declarations, Error> {
        let request = &self.request;
        let file = request.dockerfile.clone().unwrap_or_else(|| request.context.join("Dockerfile"));
        if !file.is_file() {
            return Err(Error::from(UsageError::Unreadable {
                what: "the Dockerfile".to_owned(),
                path: file.display().to_string(),
                cause: "there is no such file".to_owned(),
                help: "name it with --dockerfile, relative to where you are".to_owned(),
            }));
        }
        Ok(Declarations::of_one(catalog(request, config, &self.image)))
    }
}

/// The workflow, overridden by the request.
fn workflow_of(request: &DispatchRequest, image: &TargetImage) -> Result<Workflow, Error> {
    let mut workflow = match (&request.directives, &request.workflow) {
        (Some(directives), _) => directives.workflow.clone(),
        (None, Some(file)) => config::workflow_in(file, &[])?,
        (None, None) => Workflow::default(),
    };
    if !request.locations.is_empty() {
        providers::registry().locate(&mut workflow.providers, &request.locations);
    }
    if let Some(seconds) = request.boot_timeout_s {
        workflow.runners.boot_timeout_s = seconds;
    }
    if let Some(minutes) = request.max_lifetime_min {
        workflow.runners.max_lifetime_min = minutes;
    }
    workflow.runners.max_cost = request.max_cost.or(workflow.runners.max_cost);
    set_registry(&mut workflow, request, image)?;
    Ok(workflow)
}

/// The requested registry, else the workflow's.
fn set_registry(workflow: &mut Workflow, request: &DispatchRequest, image: &TargetImage) -> Result<(), Error> {
    // A registry in the image's name is complete; `--registry` or the workflow may add a prefix.
    let address = match (&image.registry, &request.registry) {
        (Some(host), Some(given)) if given.trim_end_matches('/') != host => {
            let (image, registry) = (host.clone(), given.clone());
            return Err(Error::from(UsageError::TwoRegistries { image, registry }));
        }
        (Some(host), _) => Some(host.clone()),
        (None, given) => given.clone(),
    };
    let known = workflow.registry_provider == RegistryProvider::Registry;
    match address {
        Some(address) => {
            let host = |address: &str| address.split('/').next().unwrap_or_default().to_owned();
            let same = workflow.registry.as_ref().filter(|known| host(&known.address) == host(&address));
            let plain_http = request.plain_http || same.is_some_and(|known| known.plain_http);
            let registry = RegistrySettings { address, plain_http };
            Address::try_from(&registry).map_err(|error| {
                let help = error.help.replace("`plain_http = true`", "`--plain-http`");
                Error::from(UsageError::Registry { given: registry.address.clone(), what: error.what, help })
            })?;
            workflow.registry_provider = RegistryProvider::Registry;
            workflow.registry = Some(registry);
        }
        None if request.plain_http && !known => return Err(Error::from(UsageError::NoRegistry)),
        None => {
            if let Some(registry) = &mut workflow.registry {
                registry.plain_http |= request.plain_http;
            }
        }
    }
    Ok(())
}

fn image_of(request: &DispatchRequest) -> Result<TargetImage, Error> {
    if let Some(image) = &request.image {
        return target_image::parse(image)
            .map_err(|what| Error::from(UsageError::ImageName { given: image.clone(), what: what.to_owned() }));
    }
    let folder = std::fs::canonicalize(&request.context).unwrap_or_else(|_| request.context.clone());
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let safe = safe.trim_matches('-');
    let name = if safe.is_empty() { "image" } else { safe }.to_owned();
    Ok(TargetImage { namespace: "dispatch".to_owned(), name, ..TargetImage::default() })
}

/// A catalog of this one layer.
fn catalog(request: &DispatchRequest, config: &Config, image: &TargetImage) -> Catalog {
    let dockerfile = request.dockerfile.as_ref().map(|file| absolute(file).display().to_string());
    let secret = |secret: &Secret| Secret {
        file: secret.file.as_ref().map(|file| absolute(Path::new(file)).display().to_string()),
        ..secret.clone()
    };
    let layer = Layer {
        name: image.name.as_str().into(),
        kind: Kind::App,
        build_base: Base::External { image: "scratch".to_owned() },
        build_inputs: Vec::new(),
        tools_provided: Vec::new(),
        tools_required: Vec::new(),
        artifact_paths: Vec::new(),
        context: ".".to_owned(),
        dockerfile,
        target: request.target.clone(),
        build_args: request.build_args.iter().cloned().collect(),
        secrets: request.secrets.iter().map(secret).collect(),
        ssh: request.ssh.clone(),
        platforms: request.platform.as_deref().map_or_else(Vec::new, |list| Platforms::from(list).into()),
        labels: request.labels.iter().cloned().collect(),
        language: None,
        frontend: None,
    };
    // The command line counts as the declaring file: relative paths start at the context.
    let declared = Declared { layer, file: request.context.join("command line"), places: BTreeMap::new() };
    Catalog {
        root: request.context.clone(),
        project_root: config.project.root().to_owned(),
        settings: CatalogSettings { namespace: image.namespace.clone(), ..CatalogSettings::default() },
        layers: vec![declared],
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_named_for_the_image_wins_over_a_layout_that_is_named_for_all() {
        let context = tempfile::tempdir().expect("a folder");
        let layout = Setting { value: PathBuf::from("elsewhere"), origin: Origin::Environment };
        let origin = |registry: Option<&str>| {
            let (context, layout) = (context.path().to_owned(), Some(layout.clone()));
            let registry = registry.map(str::to_owned);
            let request = DispatchRequest { context, layout, registry, ..DispatchRequest::default() };
            let config = request.resolve().and_then(|dispatch| dispatch.config()).expect("a configuration");
            config.layout.origin
        };
        assert_eq!(origin(None), Origin::Environment);
        assert_eq!(origin(Some("registry.example/team")), Origin::Default);
    }
}

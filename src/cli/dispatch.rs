//! `lian-build dispatch`: one Dockerfile, no catalog, through the whole life of a build. Not responsible for: several layers (see
//! `apply`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::apply;
use super::args::Global;
use super::exit::{Failure, Outcome};
use super::provider_flags::ProviderFlags;
use crate::adapters::providers;
use crate::adapters::registry::Address;
use crate::app::config::{self, Config, ProviderChoice};
use crate::app::planning::survey::Declarations;
use crate::app::project::Project;
use crate::app::runners::limits::Concurrency;
use crate::app::{Error, UsageError};
use crate::domain::model::{
    Base, BuildSpec, Catalog, CatalogSettings, Declared, Kind, Layer, RegistryProvider, RegistrySettings, Secret,
    Workflow,
};

/// What is built, and on what.
#[derive(Debug, Clone, Args)]
pub struct Dispatch {
    /// The build context
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub context: PathBuf,
    /// The Dockerfile [default: Dockerfile in the context]
    #[arg(long, value_name = "FILE")]
    pub dockerfile: Option<PathBuf>,
    /// The image, `[registry/]namespace/name[:tag]` [default: dispatch/<the context folder's name>]
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// The registry that it goes to, `host[:port][/prefix]`; wins over the workflow
    #[arg(long, value_name = "ADDRESS")]
    pub registry: Option<String>,
    /// The registry is spoken to without TLS
    #[arg(long)]
    pub plain_http: bool,
    /// The stage to build; the last one where unset
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// A workflow with the settings of providers, runners and registry
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    #[command(flatten)]
    pub place: ProviderFlags,
    /// The size, by the provider's or the tier's name; wins over .build-spec.ncl
    #[arg(long, value_name = "TYPE")]
    pub runner_type: Option<String>,
    /// Virtual CPUs, at least
    #[arg(long, value_name = "N", conflicts_with = "runner_type")]
    pub cpu: Option<u32>,
    /// Memory, at least, GB
    #[arg(long, value_name = "GB", conflicts_with = "runner_type")]
    pub memory_gb: Option<u32>,
    /// A build over it is cancelled, minutes
    #[arg(long, value_name = "MINUTES")]
    pub time_budget_min: Option<u32>,
    /// The main language, for the default size
    #[arg(long, value_name = "LANGUAGE")]
    pub language: Option<String>,
    /// Where servers are asked for; may be repeated, in order
    #[arg(long, value_name = "LOCATION")]
    pub location: Vec<String>,
    /// A runner that is not ready by then is given back, seconds
    #[arg(long, value_name = "SECONDS")]
    pub boot_timeout: Option<u64>,
    /// No runner lives longer, minutes; wins over the workflow
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_lifetime_min: Option<u64>,
    /// What it may cost, in the provider's currency; wins over the workflow
    #[arg(long, value_name = "AMOUNT", value_parser = parse_cost)]
    pub max_cost: Option<f64>,
    /// The platform, e.g. linux/arm64 [default: the runner type's, or the first runner's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// An `ARG` value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::args::parse_pair)]
    pub build_arg: Vec<(String, String)>,
    /// A label of the image; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::args::parse_pair)]
    pub label: Vec<(String, String)>,
    /// A build secret: `id=ID,env=VARIABLE` or `id=ID,src=FILE`; may be repeated
    #[arg(long, value_name = "id=ID,…", value_parser = parse_secret)]
    pub secret: Vec<Secret>,
    /// Lends ssh mounts of this id the keys of the agent here; those that the Dockerfile mounts are lent anyway
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "default")]
    pub ssh: Vec<String>,
    /// Uses another image for an external base: `REF=oci-layout:DIR`
    #[arg(long, value_name = "REF=oci-layout:DIR", value_parser = super::args::parse_pair)]
    pub base_image: Vec<(String, String)>,
    /// A CA bundle, handed to the build as the secret `ca`
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Builds though an image of the same inputs is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub layout: super::args::Layout,
}

/// Runs the command.
pub fn dispatch(global: &Global, wishes: &Dispatch) -> Outcome {
    apply::finish(global, |told| {
        let image = apply::or_remind(image_of(wishes))?;
        let settings = apply::or_remind(settings_of(wishes, &image))?;
        let declare = |settings: &Config| {
            demand_dockerfile(wishes)?;
            Ok(Declarations::of_one(catalog(wishes, settings, &image)))
        };
        apply::run(global, settings, declare, Concurrency { width: 1, keep_going: true }, told)
    })
}

/// The workflow, with what was said on the command line over it.
fn workflow_of(wishes: &Dispatch, image: &Target) -> Result<Workflow, Failure> {
    let mut workflow = match &wishes.workflow {
        Some(file) => config::workflow_in(file, &[])?,
        None => Workflow::default(),
    };
    ProviderChoice::from(wishes.place.clone()).over(&mut workflow);
    if !wishes.location.is_empty() {
        providers::registry().locate(&mut workflow.providers, &wishes.location);
    }
    if let Some(seconds) = wishes.boot_timeout {
        workflow.runners.boot_timeout_s = seconds;
    }
    if let Some(minutes) = wishes.max_lifetime_min {
        workflow.runners.max_lifetime_min = minutes;
    }
    workflow.runners.max_cost = wishes.max_cost.or(workflow.runners.max_cost);
    // The image's own registry is meant in full; what `--registry` or the workflow says may have a prefix.
    let address = match (&image.registry, &wishes.registry) {
        (Some(host), Some(given)) if given.trim_end_matches('/') != host => {
            let (image, registry) = (host.clone(), given.clone());
            return Err(Failure::usage(UsageError::TwoRegistries { image, registry }));
        }
        (Some(host), _) => Some(host.clone()),
        (None, given) => given.clone(),
    };
    let known = workflow.registry_provider == RegistryProvider::Registry;
    match address {
        Some(address) => {
            let host = |address: &str| address.split('/').next().unwrap_or_default().to_owned();
            let same = workflow.registry.as_ref().filter(|known| host(&known.address) == host(&address));
            let plain_http = wishes.plain_http || same.is_some_and(|known| known.plain_http);
            let registry = RegistrySettings { address, plain_http };
            Address::try_from(&registry).map_err(|error| {
                let help = error.help.replace("`plain_http = true`", "`--plain-http`");
                Failure::usage(UsageError::Registry { given: registry.address.clone(), what: error.what, help })
            })?;
            workflow.registry_provider = RegistryProvider::Registry;
            workflow.registry = Some(registry);
        }
        None if wishes.plain_http && !known => return Err(Failure::usage(UsageError::NoRegistry)),
        None => {
            if let Some(registry) = &mut workflow.registry {
                registry.plain_http |= wishes.plain_http;
            }
        }
    }
    Ok(workflow)
}

fn settings_of(wishes: &Dispatch, image: &Target) -> Result<Config, Failure> {
    let workflow = workflow_of(wishes, image)?;
    let context = std::fs::canonicalize(&wishes.context).map_err(|error| {
        Failure::usage(UsageError::Unreadable {
            what: "the context".to_owned(),
            path: wishes.context.display().to_string(),
            cause: error.to_string(),
            help: "name an existing folder with --context".to_owned(),
        })
    })?;
    let project = Project::of_context(&context);
    let mut base_images =
        config::substitutes(workflow.base_images.iter().map(|(name, to)| (name.clone(), to.clone())))?;
    base_images.extend(config::substitutes(wishes.base_image.iter().cloned())?);
    let ca_bundle = wishes.ca_bundle.clone().or_else(|| workflow.ca_bundle.clone());
    let named = image.registry.is_some() || wishes.registry.is_some();
    Ok(Config {
        catalog: wishes.context.clone(),
        set: Vec::new(),
        allow_imports: Vec::new(),
        targets: Vec::new(),
        forced: if wishes.force { vec![image.name.clone()] } else { Vec::new() },
        base_images,
        ca_bundle: ca_bundle.map(|file| config::readable(&file)).transpose()?,
        build_args: BTreeMap::new(),
        // A registry that was named for this image wins over a layout that is named for all.
        layout: wishes.layout.layout.clone().filter(|_| !named).unwrap_or_else(|| project.layout()),
        tag: image.tag.clone(),
        lock: project.dispatch_lock(),
        spec: BuildSpec {
            language: wishes.language.clone(),
            runner_type: wishes.runner_type.clone(),
            cpu: wishes.cpu,
            memory_gb: wishes.memory_gb,
            time_budget_min: wishes.time_budget_min,
        },
        project,
        workflow,
    })
}

fn demand_dockerfile(wishes: &Dispatch) -> Result<(), Error> {
    let file = wishes.dockerfile.clone().unwrap_or_else(|| wishes.context.join("Dockerfile"));
    if !file.is_file() {
        return Err(Error::configuration(UsageError::Unreadable {
            what: "the Dockerfile".to_owned(),
            path: file.display().to_string(),
            cause: "there is no such file".to_owned(),
            help: "name it with --dockerfile, relative to where you are".to_owned(),
        }));
    }
    Ok(())
}

/// Where the image goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Target {
    /// `host[:port]`, where the reference says which.
    registry: Option<String>,
    namespace: String,
    name: String,
    tag: Option<String>,
}

fn image_of(wishes: &Dispatch) -> Result<Target, Failure> {
    if let Some(image) = &wishes.image {
        return parse_image(image)
            .map_err(|what| Failure::usage(UsageError::ImageName { given: image.clone(), what: what.to_owned() }));
    }
    let folder = std::fs::canonicalize(&wishes.context).unwrap_or_else(|_| wishes.context.clone());
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let safe = safe.trim_matches('-');
    let name = if safe.is_empty() { "image" } else { safe }.to_owned();
    Ok(Target { namespace: "dispatch".to_owned(), name, ..Target::default() })
}

/// `[registry/]namespace/name[:tag]`. The first part is a registry where it has a dot or a port, as everywhere.
fn parse_image(text: &str) -> Result<Target, &'static str> {
    if text.contains('@') {
        return Err("it has a digest, which only the build can know");
    }
    let (registry, rest) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first.to_owned()), rest),
        _ => (None, text),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.chars().all(sound) {
            return Err("its tag is none");
        }
        // Those are moved by the build itself, and say what they say.
        if tag.starts_with("key-") {
            return Err("a tag that begins with `key-` is a layer key's");
        }
    }
    let Some((namespace, name)) = path.rsplit_once('/') else { return Err("it has no namespace") };
    let plain = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    if !plain(name) || !namespace.split('/').all(plain) {
        return Err("a part of it is not lower case letters and digits, joined by `.`, `_` or `-`");
    }
    let tag = tag.filter(|tag| *tag != "latest").map(str::to_owned);
    Ok(Target { registry, namespace: namespace.to_owned(), name: name.to_owned(), tag })
}

/// A positive amount of money.
fn parse_cost(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount > 0.0);
    amount.ok_or_else(|| format!("`{text}` is no amount: write a positive number such as 0.50"))
}

/// A catalog of this one layer.
fn catalog(wishes: &Dispatch, settings: &Config, image: &Target) -> Catalog {
    let dockerfile = wishes.dockerfile.as_ref().map(|file| absolute(file).display().to_string());
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
        target: wishes.target.clone(),
        build_args: wishes.build_arg.iter().cloned().collect(),
        secrets: wishes.secret.iter().map(secret).collect(),
        ssh: wishes.ssh.clone(),
        platforms: wishes.platform.iter().cloned().collect(),
        labels: wishes.label.iter().cloned().collect(),
        language: None,
        frontend: None,
    };
    // The declaring file is the command line: what is relative is relative to the context.
    let declared = Declared { layer, file: wishes.context.join("command line"), places: BTreeMap::new() };
    Catalog {
        root: wishes.context.clone(),
        project_root: settings.project.root().to_owned(),
        settings: CatalogSettings { namespace: image.namespace.clone(), ..CatalogSettings::default() },
        layers: vec![declared],
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `id=ID,env=VARIABLE`, `id=ID,src=FILE`.
fn parse_secret(text: &str) -> Result<Secret, String> {
    let mut secret = Secret { id: String::new(), env: None, file: None, required: true };
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", id)) => secret.id = id.to_owned(),
            Some(("env", name)) => secret.env = Some(name.to_owned()),
            Some(("src" | "source", file)) => secret.file = Some(file.to_owned()),
            Some(("type", "env" | "file")) => {}
            _ => return Err(format!("`{field}` is not id=…, env=… or src=…")),
        }
    }
    match (&secret.id[..], &secret.env, &secret.file) {
        ("", ..) => Err("a secret needs an id: write id=ID,env=VARIABLE or id=ID,src=FILE".to_owned()),
        (_, None, None) => Err("where does its value come from? write env=VARIABLE or src=FILE".to_owned()),
        (_, Some(_), Some(_)) => Err("a secret comes from env or from src, not from both".to_owned()),
        _ => Ok(secret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_whole_reference() {
        let parts = |text| {
            parse_image(text)
                .map(|target| (target.registry.unwrap_or_default(), target.namespace, target.name, target.tag))
        };
        let of = |registry: &str, namespace: &str, name: &str, tag: Option<&str>| {
            Ok((registry.to_owned(), namespace.to_owned(), name.to_owned(), tag.map(str::to_owned)))
        };
        assert_eq!(parts("acme/api"), of("", "acme", "api", None));
        assert_eq!(parts("acme/api:v1.2"), of("", "acme", "api", Some("v1.2")));
        assert_eq!(parts("registry.example:5000/team/app"), of("registry.example:5000", "team", "app", None));
        assert_eq!(parts("ghcr.io/a/b/c:x"), of("ghcr.io", "a/b", "c", Some("x")));
        assert_eq!(parts("localhost/a/b:latest"), of("localhost", "a", "b", None));
        for wrong in
            ["api", "UPPER/x", "a//b", "host:5000/app", "a/b@sha256:00", "a/b:", "a/b:-x", "a/b:key-1", "", ":v"]
        {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_names_where_its_value_is() {
        let secret = parse_secret("id=token,env=TOKEN").expect("a secret");
        assert_eq!((secret.id.as_str(), secret.env.as_deref(), secret.file), ("token", Some("TOKEN"), None));
        for text in ["", "id=a", "env=A", "id=a,env=A,src=b", "id=a,value=b"] {
            assert!(parse_secret(text).is_err(), "{text}");
        }
    }
}

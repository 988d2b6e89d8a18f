//! `lian-build dispatch`: one Dockerfile, no catalog, through the whole life of a build. Refuses: several layers (see
//! `apply`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::apply;
use super::args::Global;
use super::bounds::Pace;
use super::exit::{Failure, Outcome, UsageError};
use super::settings::{self, Settings};
use super::survey::{Survey, host_platform};
use crate::model::{
    Base, BuildSpec, Catalog, CatalogSettings, ComputeProvider, ContextTransfer, Declared, Kind, Layer, Secret,
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
    /// The image's name, `namespace/name` [default: dispatch/<the context folder's name>]
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// The stage to build; the last one where unset
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// A workflow with the settings of providers, runners and registry
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    /// Where it is built; wins over the workflow
    #[arg(long, value_enum)]
    pub provider: Option<Provider>,
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
    /// How the context reaches the runner; wins over the workflow
    #[arg(long, value_enum)]
    pub context_transfer: Option<Transfer>,
    /// The platform, e.g. linux/arm64 [default: the first runner's]
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

/// `--provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// This machine's BuildKit
    Local,
    /// A container on this machine's Docker Engine
    DockerLocal,
    /// A fixed host
    Ssh,
    /// Hetzner Cloud
    Hcloud,
    /// Proxmox VE
    Proxmox,
    /// A service that leases runners
    VmPool,
}

/// `--context-transfer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transfer {
    /// To the runner's /workspace, images to a registry
    Rsync,
    /// Over the connection, images back over it
    Session,
}

/// Runs the command.
pub fn dispatch(global: &Global, wishes: &Dispatch) -> Outcome {
    apply::finish(global, |told| {
        let settings = settings_of(wishes)?;
        let (namespace, name) = name_of(wishes)?;
        let survey = |settings: &Settings| Ok(Survey::of_one(settings, catalog(wishes, settings, &namespace, &name)));
        apply::run(global, settings, survey, Pace { width: 1, keep_going: true }, told)
    })
}

fn settings_of(wishes: &Dispatch) -> Result<Settings, Failure> {
    let mut workflow = match &wishes.workflow {
        Some(file) => settings::workflow_in(file, &[])?,
        None => Workflow::default(),
    };
    if let Some(provider) = wishes.provider {
        workflow.compute_provider = match provider {
            Provider::Local => ComputeProvider::Local,
            Provider::DockerLocal => ComputeProvider::DockerLocal,
            Provider::Ssh => ComputeProvider::Ssh,
            Provider::Hcloud => ComputeProvider::Hcloud,
            Provider::Proxmox => ComputeProvider::Proxmox,
            Provider::VmPool => ComputeProvider::VmPool,
        };
    }
    if !wishes.location.is_empty() {
        workflow.providers.hcloud.locations.clone_from(&wishes.location);
    }
    if let Some(seconds) = wishes.boot_timeout {
        workflow.runners.boot_timeout_s = seconds;
    }
    match wishes.context_transfer {
        Some(Transfer::Rsync) => workflow.runners.context_transfer = ContextTransfer::Rsync,
        Some(Transfer::Session) => workflow.runners.context_transfer = ContextTransfer::Session,
        None => {}
    }
    let context = std::fs::canonicalize(&wishes.context).map_err(|error| {
        Failure::usage(UsageError::Unreadable {
            what: "the context".to_owned(),
            path: wishes.context.display().to_string(),
            cause: error.to_string(),
            help: "name an existing folder with --context".to_owned(),
        })
    })?;
    let git = context.ancestors().find(|folder| folder.join(".git").exists());
    let project_root = git.unwrap_or(&context).to_owned();
    let mut base_images =
        settings::substitutes(workflow.base_images.iter().map(|(name, to)| (name.clone(), to.clone())))?;
    base_images.extend(settings::substitutes(wishes.base_image.iter().cloned())?);
    let ca_bundle = wishes.ca_bundle.clone().or_else(|| workflow.ca_bundle.clone());
    let lian = project_root.join(".lian");
    Ok(Settings {
        catalog: wishes.context.clone(),
        set: Vec::new(),
        allow_imports: Vec::new(),
        targets: Vec::new(),
        forced: if wishes.force { vec![name_of(wishes)?.1] } else { Vec::new() },
        base_images,
        ca_bundle: ca_bundle.map(|file| settings::readable(&file)).transpose()?,
        build_args: BTreeMap::new(),
        layout: wishes.layout.layout.clone().unwrap_or_else(|| lian.join("images")),
        platform: host_platform(),
        lock: lian.join("dispatch.lock"),
        spec: BuildSpec {
            language: wishes.language.clone(),
            runner_type: wishes.runner_type.clone(),
            cpu: wishes.cpu,
            memory_gb: wishes.memory_gb,
            time_budget_min: wishes.time_budget_min,
        },
        project_root,
        workflow,
    })
}

/// Namespace and name.
fn name_of(wishes: &Dispatch) -> Result<(String, String), Failure> {
    let given = match &wishes.image {
        Some(image) => image.clone(),
        None => {
            let folder = std::fs::canonicalize(&wishes.context).unwrap_or_else(|_| wishes.context.clone());
            let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
            let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let safe = safe.trim_matches('-');
            format!("dispatch/{}", if safe.is_empty() { "image" } else { safe })
        }
    };
    let plain = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    match given.rsplit_once('/') {
        Some((namespace, name)) if plain(name) && namespace.split('/').all(plain) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(Failure::usage(UsageError::ImageName { given })),
    }
}

/// A catalog of this one layer.
fn catalog(wishes: &Dispatch, settings: &Settings, namespace: &str, name: &str) -> Catalog {
    let dockerfile = wishes.dockerfile.as_ref().map(|file| absolute(file).display().to_string());
    let secret = |secret: &Secret| Secret {
        file: secret.file.as_ref().map(|file| absolute(Path::new(file)).display().to_string()),
        ..secret.clone()
    };
    let layer = Layer {
        name: name.into(),
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
        ssh: Vec::new(),
        platforms: wishes.platform.iter().cloned().collect(),
        labels: wishes.label.iter().cloned().collect(),
        language: None,
        frontend: None,
    };
    // The declaring file is the command line: what is relative is relative to the context.
    let declared = Declared { layer, file: wishes.context.join("command line"), places: BTreeMap::new() };
    Catalog {
        root: wishes.context.clone(),
        project_root: settings.project_root.clone(),
        settings: CatalogSettings { namespace: namespace.to_owned(), ..CatalogSettings::default() },
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
    fn a_secret_names_where_its_value_is() {
        let secret = parse_secret("id=token,env=TOKEN").expect("a secret");
        assert_eq!((secret.id.as_str(), secret.env.as_deref(), secret.file), ("token", Some("TOKEN"), None));
        for text in ["", "id=a", "env=A", "id=a,env=A,src=b", "id=a,value=b"] {
            assert!(parse_secret(text).is_err(), "{text}");
        }
    }
}

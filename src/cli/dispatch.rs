//! `lian-build dispatch`: builds one Dockerfile without a catalog. Not responsible for: several layers (see `apply`).

use std::path::PathBuf;

use clap::Args;

use super::apply;
use super::args::{Global, Layout, parse_pair};
use super::exit::Outcome;
use super::provider_flags::ProviderFlags;
use super::recovered::or_remind;
use crate::app::directives::{Directives, DirectivesSource};
use crate::app::dispatch::DispatchRequest;
use crate::app::runners::limits::Concurrency;
use crate::app::trust::Trust;
use crate::domain::model::{BuildSpec, Secret};

/// Builds one Dockerfile, without a catalog, on a runner of its own
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lian-build dispatch
  lian-build dispatch --image registry.example:5000/team/app:v1.2
  lian-build dispatch ci/directives.ncl --set sha=$(git rev-parse HEAD)
  lian-build dispatch --context services/api --image acme/api \\
      --secret id=token,env=TOKEN
  HCLOUD_TOKEN=… lian-build dispatch --workflow workflows/cloud.ncl \\
      --runner-type cax31 --context-transfer session

A provider of other machines needs its settings: the workflow says where hosts or servers and their BuildKit come from \
(docs/providers/ has one for each), and the environment holds its token.")]
pub struct Dispatch {
    #[command(flatten)]
    pub directives: Directed,
    /// The build context [default: .]
    #[arg(long, value_name = "DIR")]
    pub context: Option<PathBuf>,
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
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub build_arg: Vec<(String, String)>,
    /// A label of the image; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub label: Vec<(String, String)>,
    /// A build secret: `id=ID,env=VARIABLE` or `id=ID,src=FILE`; may be repeated
    #[arg(long, value_name = "id=ID,…", value_parser = parse_secret)]
    pub secret: Vec<Secret>,
    /// Lends ssh mounts of this id the keys of the agent here; no other mount gets them
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "default")]
    pub ssh: Vec<String>,
    /// Uses another image for an external base: `REF=oci-layout:DIR`
    #[arg(long, value_name = "REF=oci-layout:DIR", value_parser = parse_pair)]
    pub base_image: Vec<(String, String)>,
    /// A CA bundle, handed to the build as the secret `ca`
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Builds though an image of the same inputs is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub layout: Layout,
}

/// The directives to build by, if there are any.
#[derive(Debug, Clone, Default, Args)]
pub struct Directed {
    /// Directives: who asks for which image of which workspace (docs/directives.md)
    #[arg(value_name = "DIRECTIVES", conflicts_with_all = ["context", "dockerfile", "image", "target", "workflow"])]
    pub file: Option<PathBuf>,
    /// Binds a name around the directives: `sha=1234abc`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, requires = "file")]
    pub set: Vec<(String, String)>,
}

/// Runs the command.
pub fn dispatch(global: &Global, flags: Dispatch) -> Outcome {
    apply::finish(global, |told| {
        let directed = flags.directives.clone();
        let request = DispatchRequest { state: global.state.clone(), trust: global.trust(), ..flags.into() };
        let request = or_remind(global, following(request, directed))?;
        let dispatch = or_remind(global, request.resolve())?;
        let config = or_remind(global, dispatch.config())?;
        let concurrency = Concurrency { width: config.width.value, keep_going: true };
        apply::run(global, config, |config| dispatch.declarations(config), concurrency, told)
    })
}

/// The request with what directives say.
pub fn following(request: DispatchRequest, directed: Directed) -> Result<DispatchRequest, crate::app::Error> {
    let Directed { file: Some(file), set } = directed else { return Ok(request) };
    let source = DirectivesSource { file, set, state: request.state.clone() };
    Ok(request.following(Directives::read(&source)?))
}

impl From<Dispatch> for DispatchRequest {
    fn from(flags: Dispatch) -> Self {
        Self {
            context: flags.context.unwrap_or_else(|| PathBuf::from(".")),
            dockerfile: flags.dockerfile,
            image: flags.image,
            registry: flags.registry,
            plain_http: flags.plain_http,
            target: flags.target,
            workflow: flags.workflow,
            directives: None,
            placement: flags.place.into(),
            spec: BuildSpec {
                language: flags.language,
                runner_type: flags.runner_type,
                cpu: flags.cpu,
                memory_gb: flags.memory_gb,
                time_budget_min: flags.time_budget_min,
            },
            locations: flags.location,
            boot_timeout_s: flags.boot_timeout,
            max_lifetime_min: flags.max_lifetime_min,
            max_cost: flags.max_cost,
            platform: flags.platform,
            build_args: flags.build_arg,
            labels: flags.label,
            secrets: flags.secret,
            ssh: flags.ssh,
            base_images: flags.base_image,
            ca_bundle: flags.ca_bundle,
            force: flags.force,
            layout: flags.layout.chosen,
            state: None,
            trust: Trust::default(),
        }
    }
}

/// A positive amount of money.
fn parse_cost(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount > 0.0);
    amount.ok_or_else(|| format!("`{text}` is not an amount: write a positive number such as 0.50"))
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

//! `lian-build serve`: leases runners to others over HTTP. Not responsible for: lease handling (see `crate::serve`).

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::args::{Format, Global};
use super::exit::{Exit, Failure, Outcome};
use super::recovered::{self, or_remind};
use super::{show, signals};
use crate::app::UsageError;
use crate::app::config::{Config, Selection, Source};
use crate::app::runners::provider_context;
use crate::app::session::Session;
use crate::app::trust::{self, Purpose};
use crate::domain::model::{Classified, FaultClass};
use crate::domain::ports::ComputeProvider;
use crate::serve::{Bounds, Listen, Service, Tokens, hash_token, is_name, listen};

/// Default limit of concurrent leases.
const MAX_LEASES: usize = 16;
/// How often to look for expired leases.
const SWEEP: Duration = Duration::from_secs(1);
/// Where holders of tokens are listened to.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Name of the socket file in the data folder.
const SOCKET: &str = "pool.sock";
/// Maximum length of a token, bytes.
const TOKEN_MOST: u64 = 4096;

/// An invalid use of `serve`.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum ServeUsage {
    /// The workflow's runners are on this machine.
    #[error("runners of `{kind}` are on this machine: there is nothing to lease to others")]
    #[diagnostic(
        code(lian::serve::not_remote),
        help("name a workflow whose `compute_provider` has machines of its own, e.g. 'ssh, with --workflow FILE")
    )]
    NotRemote { kind: String },
    /// A name that is not allowed in a tokens file.
    #[error("`{name}` cannot be a token's or a workspace's name")]
    #[diagnostic(code(lian::serve::name), help("write 1 to 63 letters, digits, `.`, `_` or `-`"))]
    Name { name: String },
    /// A guessable token.
    #[error("standard input has no token of at least 20 characters")]
    #[diagnostic(
        code(lian::serve::weak_token),
        help("make one: openssl rand -hex 32 | tee token | lian-build serve hash-token --name ci")
    )]
    WeakToken,
}

impl Classified for ServeUsage {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// Leases this machine's provider's runners to others over HTTP
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  lian-build serve --workflow workflows/pool.ncl
  lian-build serve --listen 0.0.0.0:8080 --tokens tokens.toml --max-leases 8
  openssl rand -hex 32 | tee token \\
      | lian-build serve hash-token --name ci >> tokens.toml"
)]
pub struct Serve {
    #[command(subcommand)]
    command: Option<ServeCommand>,
    #[command(flatten)]
    flags: ServeFlags,
}

impl Serve {
    /// Whether it leases runners: only then it releases the leases of dead runs.
    pub fn leases(&self) -> bool {
        self.command.is_none()
    }
}

#[derive(Debug, Subcommand)]
enum ServeCommand {
    /// Reads a token from standard input and prints its entry of a tokens file
    HashToken {
        /// Who will show it
        #[arg(long, value_name = "NAME", default_value = "client")]
        name: String,
        /// The workspaces it is for [default: all]; may be repeated
        #[arg(long, value_name = "WORKSPACE")]
        workspace: Vec<String>,
    },
}

/// How runners are leased to others.
#[derive(Debug, Clone, Args)]
struct ServeFlags {
    /// A workflow that names the provider [default: workflows/local.ncl, where there is one]
    #[arg(long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// Where to listen: on an address only with --tokens, beyond this machine behind a proxy that speaks TLS [default:
    /// 127.0.0.1:8080 with --tokens, else unix:pool.sock in the folder of --data]
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH")]
    listen: Option<Listen>,
    /// Who may ask, and for which workspaces (`hash-token` prints an entry)
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Where the ledger of leases is kept [default: pool, in lian-build's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Leases in all [default: the workflow's `runners.max_leases`, or 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_leases: Option<u16>,
    /// Leases of one workspace [default: as many as in all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_leases_per_workspace: Option<u16>,
    /// Leases of one token, in all its workspaces; `max_leases` of its entry in the tokens file goes before it [default: as
    /// many as in all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_leases_per_token: Option<u16>,
    /// No lease lives longer, seconds [default: the workflow's `runners.max_lifetime_min`]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..=604_800))]
    max_ttl_s: Option<u64>,
}

/// Runs the command.
pub fn serve(global: &Global, serve: Serve) -> Outcome {
    match serve.command {
        Some(ServeCommand::HashToken { name, workspace }) => hash(global, &name, workspace),
        None => run(global, &serve.flags),
    }
}

fn run(global: &Global, flags: &ServeFlags) -> Outcome {
    let source = Source {
        workflow: flags.workflow.clone(),
        state: global.state.clone(),
        trust: global.trust(),
        ..Source::default()
    };
    let session = Session::new(or_remind(global, Config::new(&Selection::of(source)))?)?;
    // Like every command that leases runners, first release the leases of dead runs. Stuck ones are reported and
    // retried by the next command; they do not prevent serving.
    recovered::first(global, &session)?;
    let tokens = flags.tokens.as_deref().map(Tokens::read).transpose()?.unwrap_or_default();
    let provider = provider_of(session.config())?;
    let runners = &session.config().workflow.runners;
    let all = flags.max_leases.map_or(runners.max_leases, usize::from);
    let bounds = Bounds {
        max_leases: if all == 0 { MAX_LEASES } else { all },
        max_leases_per_workspace: flags.max_leases_per_workspace.map_or(0, usize::from),
        max_leases_per_token: flags.max_leases_per_token.map_or(0, usize::from),
        max_ttl_s: flags.max_ttl_s.unwrap_or(runners.max_lifetime_min * 60),
        sweep: SWEEP,
    };
    let data = flags.data.clone().unwrap_or_else(|| session.project().user().join("pool"));
    let place = match &flags.listen {
        Some(place) => place.clone(),
        None if tokens.is_empty() => Listen::Unix(data.join(SOCKET)),
        None => Listen::Tcp(ADDRESS),
    };
    let ended = session.wait(async {
        let mut stops = signals::stops().map_err(show::io)?;
        // First the folder and its lock: only their holder may listen on the socket file in it.
        let service = Service::open(provider, &data, tokens.clone(), bounds).await?;
        let listener = listen(&place, &tokens).await?;
        eprintln!("listening on {}", listener.place().map_err(show::io)?);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = service.run(listener, async move { drop(stopped.await) });
        let again = async move {
            stops.recv().await;
            // As a line of the log, which waits for no reader.
            tracing::info!(target: "lian_build::serve", "stopping: leases that are held stay; once more to end at once");
            let _ = stop.send(());
            stops.recv().await;
        };
        tokio::select! {
            ended = run => Ok(ended.map(|()| Exit::Done)?),
            () = again => Ok(Exit::Interrupted),
        }
    });
    // A provider that does not answer must not keep the process alive: the ledger records its leases.
    session.stop_tasks();
    ended?
}

/// The provider to lease from; its runners must be remote.
fn provider_of(config: &Config) -> Result<Arc<dyn ComputeProvider>, Failure> {
    let descriptor = config.descriptor()?;
    if !descriptor.runners.remote {
        return Err(Failure::from(ServeUsage::NotRemote { kind: format!("'{}", descriptor.name) }));
    }
    trust::demand(config, trust::wants(config, Purpose::Serve)?)?;
    Ok(provider_context::provider(config)?)
}

fn hash(global: &Global, name: &str, workspaces: Vec<String>) -> Outcome {
    let mut token = String::new();
    let read = std::io::stdin().lock().take(TOKEN_MOST).read_to_string(&mut token);
    read.map_err(|error| {
        Failure::from(UsageError::Unreadable {
            what: "the token".to_owned(),
            path: "on standard input".to_owned(),
            cause: error.to_string(),
            help: "pipe the token in".to_owned(),
        })
    })?;
    let sha256 = hash_token(token.trim()).ok_or_else(|| Failure::from(ServeUsage::WeakToken))?;
    let mut names = workspaces.iter().map(String::as_str).filter(|workspace| *workspace != "*").chain([name]);
    let unsound = names.find(|name| !is_name(name)).map(str::to_owned);
    drop(names);
    if let Some(name) = unsound {
        return Err(Failure::from(ServeUsage::Name { name }));
    }
    let workspaces = if workspaces.is_empty() { vec!["*".to_owned()] } else { workspaces };
    let (name, listed) = (serde_json::json!(name), serde_json::json!(workspaces));
    match global.format {
        Format::Json => show::json(&serde_json::json!({ "name": name, "sha256": sha256, "workspaces": listed })),
        // A JSON string and a JSON list of strings are valid TOML, too.
        _ => show::out(&format!("[[tokens]]\nname = {name}\nsha256 = \"{sha256}\"\nworkspaces = {listed}\n")),
    }
    Ok(Exit::Done)
}

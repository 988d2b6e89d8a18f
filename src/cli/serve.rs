//! `lian-build serve`: leases runners to others over HTTP. Not responsible for: what a lease is (`serve` knows).

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use super::apply::or_remind;
use super::args::{Format, Global, ServeCommand, ServeFlags, Source};
use super::exit::{Exit, Failure, Outcome};
use super::recovered;
use super::{show, signals};
use crate::adapters::buildkit::data_folder;
use crate::app::UsageError;
use crate::app::config::Config;
use crate::app::runners::provider_context::{self, Purpose};
use crate::domain::ports::ComputeProvider;
use crate::serve::{Bounds, ServeError, Service, Tokens, hash_token, is_name, listen};

/// Leases in all, where nobody says how many.
const MAX_LEASES: usize = 16;
/// How often expired leases are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// No token is longer, bytes.
const TOKEN_MOST: u64 = 4096;

/// What `serve` is asked for and cannot be.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum ServeUsage {
    /// The workflow's machines are this one.
    #[error("runners of `{kind}` are on this machine: there is nothing to lease to others")]
    #[diagnostic(
        code(lian::serve::not_remote),
        help("name a workflow whose `compute_provider` has machines of its own, e.g. 'ssh, with --workflow FILE")
    )]
    NotRemote { kind: String },
    /// A name that no tokens file may hold.
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

/// Runs the command.
pub fn serve(global: &Global, command: Option<ServeCommand>, flags: &ServeFlags) -> Outcome {
    match command {
        Some(ServeCommand::HashToken { name, workspace }) => hash(global, &name, workspace),
        None => run(global, flags),
    }
}

fn run(global: &Global, flags: &ServeFlags) -> Outcome {
    let source = Source { catalog: None, workflow: flags.workflow.clone(), set: Vec::new(), allow_import: Vec::new() };
    let settings = or_remind(Config::of_source(&(&source).into()))?;
    // What runs of this project left is given back as by every command that rents; what is stuck was told, and waits for
    // the next one: nobody's reason not to serve.
    let _ = recovered::first(global, &settings.project)?;
    let tokens = flags.tokens.as_deref().map(Tokens::read).transpose().map_err(Failure::usage)?.unwrap_or_default();
    let provider = provider_of(&settings)?;
    let runners = &settings.workflow.runners;
    let all = flags.max_leases.map_or(runners.max_leases, usize::from);
    let bounds = Bounds {
        max_leases: if all == 0 { MAX_LEASES } else { all },
        max_leases_per_workspace: flags.max_leases_per_workspace.map_or(0, usize::from),
        max_ttl_s: flags.max_ttl_s.unwrap_or(runners.max_lifetime_min * 60),
        sweep: SWEEP,
    };
    let data = flags.data.clone().unwrap_or_else(|| data_folder().join("pool"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(show::io)?;
    let ended = runtime.block_on(async {
        let mut stops = signals::stops().map_err(show::io)?;
        let listener = listen(flags.listen, &tokens).await.map_err(refused)?;
        let address = listener.local_addr().map_err(show::io)?;
        let service = Service::open(provider, &data, tokens, bounds).await.map_err(refused)?;
        eprintln!("listening on http://{address}");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = service.run(listener, async move { drop(stopped.await) });
        let again = async move {
            stops.recv().await;
            eprintln!("stopping: leases that are held stay; once more to end at once");
            let _ = stop.send(());
            stops.recv().await;
        };
        tokio::select! {
            ended = run => ended.map_err(refused).map(|()| Exit::Done),
            () = again => Ok(Exit::Interrupted),
        }
    });
    // A provider that does not answer must not keep the process: the ledger knows what is left.
    runtime.shutdown_background();
    ended
}

/// The provider whose machines are leased: one that has machines of its own.
fn provider_of(settings: &Config) -> Result<Arc<dyn ComputeProvider>, Failure> {
    let descriptor = settings.descriptor()?;
    if !descriptor.runners.remote {
        return Err(Failure::usage(ServeUsage::NotRemote { kind: format!("'{}", descriptor.name) }));
    }
    Ok(provider_context::provider(settings, Purpose::Lease)?)
}

/// Wrong usage where the flags can mend it; else this machine's fault.
fn refused(error: ServeError) -> Failure {
    match error {
        ServeError::Open { .. } => Failure::usage(error),
        _ => Failure::unavailable(error),
    }
}

fn hash(global: &Global, name: &str, workspaces: Vec<String>) -> Outcome {
    let mut token = String::new();
    let read = std::io::stdin().lock().take(TOKEN_MOST).read_to_string(&mut token);
    read.map_err(|error| {
        Failure::usage(UsageError::Unreadable {
            what: "the token".to_owned(),
            path: "on standard input".to_owned(),
            cause: error.to_string(),
            help: "pipe the token in".to_owned(),
        })
    })?;
    let sha256 = hash_token(token.trim()).ok_or_else(|| Failure::usage(ServeUsage::WeakToken))?;
    let mut names = workspaces.iter().map(String::as_str).filter(|workspace| *workspace != "*").chain([name]);
    let unsound = names.find(|name| !is_name(name)).map(str::to_owned);
    drop(names);
    if let Some(name) = unsound {
        return Err(Failure::usage(ServeUsage::Name { name }));
    }
    let workspaces = if workspaces.is_empty() { vec!["*".to_owned()] } else { workspaces };
    let (name, listed) = (serde_json::json!(name), serde_json::json!(workspaces));
    match global.format {
        Format::Json => show::json(&serde_json::json!({ "name": name, "sha256": sha256, "workspaces": listed })),
        // A JSON text and a list of them are TOML too.
        _ => show::out(&format!("[[tokens]]\nname = {name}\nsha256 = \"{sha256}\"\nworkspaces = {listed}\n")),
    }
    Ok(Exit::Done)
}

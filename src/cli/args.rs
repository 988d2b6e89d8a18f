//! The command line's words. Not responsible for: acting on them.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::provider_flags::provider_names;
use crate::app::config;
use crate::domain::model::ProviderName;

/// Builds a catalog of container-image layers with BuildKit: checks that they fit together, says what must be rebuilt
/// and why, and builds it.
#[derive(Debug, Parser)]
#[command(name = "lian-build", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Examples:
  lian-build check                      is the catalog sound?
  lian-build plan                       what would be built, and why
  lian-build apply --target app         build `app` and what it stands on
  lian-build logs latest app            what the last build of `app` wrote
  lian-build doctor                     what is missing on this machine

Exit codes: 0 done · 1 a layer failed or the catalog is invalid · 2 changes (--detailed-exitcode) · 3 stale plan · \
4 no runner or outside service · 5 a lease could not be given back · 64 wrong usage · 70 a bug · 130 interrupted")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// Over the flags that every command takes: they stand together, after a command's own.
const EVERYWHERE: &str = "Options of every command";

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// For a person (`text`) or a program (`json`); `plan` also draws its graph (`dot`, `mermaid`)
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, hide_possible_values = true)]
    #[arg(help_heading = EVERYWHERE)]
    pub format: Format,
    /// Says more; twice for the details of every step (RUST_LOG is honoured too)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,
    /// Says nothing where all is well
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub quiet: bool,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text, coloured on a terminal
    Text,
    /// JSON on standard output
    Json,
    /// The graph in Graphviz' language (`plan` only)
    Dot,
    /// The graph as a Mermaid flowchart (`plan` only)
    Mermaid,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Proves that a catalog is sound; needs neither lock, network nor daemon
    #[command(after_help = "Examples:
  lian-build check
  lian-build check images/ --strict
  lian-build check --format json | jq '.diagnostics[].code'")]
    Check {
        #[command(flatten)]
        source: Source,
        /// Warnings fail too
        #[arg(long)]
        strict: bool,
    },
    /// Says what would be built, in which order, on what, and why; writes nothing
    #[command(after_help = "Examples:
  lian-build plan
  lian-build plan --target app --detailed-exitcode
  lian-build plan --provider hcloud     what it would cost there
  lian-build plan --format mermaid > graph.mmd")]
    Plan {
        #[command(flatten)]
        selection: Selection,
        /// Exit with 2 where something would be built
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Builds what must be built, verifies it and moves the tags
    #[command(after_help = "Examples:
  lian-build apply
  lian-build apply --target app --parallel 4
  lian-build apply --force rust --fail-fast
  lian-build apply --provider local     here, whatever the workflow says
  lian-build apply \\
      --base-image docker.io/library/debian:trixie-slim=oci-layout:./debian")]
    Apply {
        #[command(flatten)]
        selection: Selection,
        /// How many layers at once
        #[arg(long, value_name = "N")]
        parallel: Option<usize>,
        /// Build what does not depend on a failed layer (the default)
        #[arg(long, conflicts_with = "fail_fast")]
        keep_going: bool,
        /// Start nothing more after a failure
        #[arg(long)]
        fail_fast: bool,
    },
    /// Builds one Dockerfile, without a catalog, on a runner of its own
    #[command(after_help = "Examples:
  lian-build dispatch
  lian-build dispatch --image registry.example:5000/team/app:v1.2
  lian-build dispatch --context services/api --image acme/api \\
      --secret id=token,env=TOKEN
  HCLOUD_TOKEN=… lian-build dispatch --workflow workflows/cloud.ncl \\
      --runner-type cax31 --context-transfer session

A provider of other machines needs its settings: the workflow says where hosts or servers and their BuildKit come from \
(docs/providers/ has one for each), and the environment holds its token.")]
    Dispatch(Box<super::dispatch::Dispatch>),
    /// Moves the pins of external images in `lian.lock` to what their tags mean now
    #[command(after_help = "Examples:
  lian-build update
  lian-build update --dry-run")]
    Update {
        #[command(flatten)]
        source: Source,
        /// Only show what would move
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists runs, newest first
    Runs {
        #[command(flatten)]
        project: ProjectFlags,
        /// At most this many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Shows what the builds of a run wrote
    #[command(after_help = "Examples:
  lian-build logs
  lian-build logs 7f3 rust-deps")]
    Logs {
        #[command(flatten)]
        project: ProjectFlags,
        /// A run's id, the beginning of one, or `latest`
        #[arg(default_value = "latest")]
        run: String,
        /// Only this layer
        layer: Option<String>,
    },
    /// Puts a layer's image into Docker or podman
    #[command(after_help = "Examples:
  lian-build load app
  lian-build load app --tag registry.example/app:dev")]
    Load {
        /// The layer
        layer: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        layout: Layout,
        /// The name it gets there; `<namespace>/<layer>:latest` where unset
        #[arg(long)]
        tag: Option<String>,
    },
    /// Removes what nothing needs any more: old images, logs, the daemon's cache
    #[command(after_help = "Examples:
  lian-build gc
  lian-build gc --keep-bytes 5GB
  lian-build gc --drop lamina/leptos")]
    Gc {
        #[command(flatten)]
        project: ProjectFlags,
        #[command(flatten)]
        layout: Layout,
        /// What images may keep on disk, e.g. 5GB
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        keep_bytes: Option<u64>,
        /// Removes every tag of an image
        #[arg(long, value_name = "IMAGE")]
        drop: Vec<String>,
    },
    /// Lists leased runners: this project's, and all that its provider knows
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  lian-build leases
  lian-build leases --provider hcloud
  lian-build leases gc
  lian-build leases gc --lease 7f3a9c21-1"
    )]
    Leases {
        #[command(subcommand)]
        command: Option<LeasesCommand>,
        #[command(flatten)]
        source: Source,
        /// Whose leases; wins over the workflow
        #[arg(long, value_parser = provider_names())]
        provider: Option<ProviderName>,
    },
    /// Leases this machine's provider's runners to others over HTTP
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  lian-build serve --workflow workflows/pool.ncl
  lian-build serve --listen 0.0.0.0:8080 --tokens tokens.toml --max-leases 8
  openssl rand -hex 32 | tee token \\
      | lian-build serve hash-token --name ci >> tokens.toml"
    )]
    Serve {
        #[command(subcommand)]
        command: Option<ServeCommand>,
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Writes the embedded schemas out, for editors and the Nickel language server
    Schemas {
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        export: PathBuf,
    },
    /// Says what is missing on this machine, and the command that mends it
    Doctor {
        #[command(flatten)]
        project: ProjectFlags,
    },
    /// Prints shell completions
    #[command(after_help = "Example:
  lian-build completions bash > /etc/bash_completion.d/lian-build")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum LeasesCommand {
    /// Gives back what dead runs left and whatever is expired, from any machine
    Gc {
        #[command(flatten)]
        source: Source,
        /// Whose leases; wins over the workflow
        #[arg(long, value_parser = provider_names())]
        provider: Option<ProviderName>,
        /// Also this lease, though it is not expired; may be repeated
        #[arg(long, value_name = "LEASE")]
        lease: Vec<String>,
        /// Strikes a dead run's lease off the books without giving it back, e.g. where its account is gone; may be repeated
        #[arg(long, value_name = "LEASE", conflicts_with = "lease")]
        forget: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ServeCommand {
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
pub struct ServeFlags {
    /// A workflow that names the provider [default: workflows/local.ncl, where there is one]
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    /// Where to listen; beyond this machine only with --tokens, and behind a proxy that speaks TLS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    /// Who may ask, and for which workspaces (`hash-token` prints an entry)
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Where the ledger of leases is kept [default: pool, in lian-build's data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Leases in all [default: the workflow's `runners.max_leases`, or 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_leases: Option<u16>,
    /// Leases of one workspace [default: as many as in all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_leases_per_workspace: Option<u16>,
    /// No lease lives longer, seconds [default: the workflow's `runners.max_lifetime_min`]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..=604_800))]
    pub max_ttl_s: Option<u64>,
}

/// Which catalog.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// The catalog's folder [default: catalog]
    pub catalog: Option<PathBuf>,
    /// A workflow that says how the catalog is run [default: workflows/local.ncl, where there is one]
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    /// Overrides a field: `rust.build_args.VERSION=1.85`, `catalog.namespace=acme`
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Lets Nickel files import from a folder outside the project
    #[arg(long, value_name = "DIR")]
    pub allow_import: Vec<PathBuf>,
}

/// What of it, and with what.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    #[command(flatten)]
    pub source: Source,
    /// Only this layer and what it stands on; may be repeated
    #[arg(long, value_name = "LAYER")]
    pub target: Vec<String>,
    /// Builds a layer, and what stands on it, though nothing changed; may be repeated
    #[arg(long, value_name = "LAYER")]
    pub force: Vec<String>,
    /// Uses another image for an external base: `REF=oci-layout:DIR`
    #[arg(long, value_name = "REF=oci-layout:DIR", value_parser = parse_pair)]
    pub base_image: Vec<(String, String)>,
    /// A CA bundle, handed to every build as the secret `ca`; never part of a layer
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// An `ARG` value for every layer whose Dockerfile declares it
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub build_arg: Vec<(String, String)>,
    #[command(flatten)]
    pub place: super::provider_flags::ProviderFlags,
    #[command(flatten)]
    pub layout: Layout,
}

/// Where images live.
#[derive(Debug, Clone, Args)]
pub struct Layout {
    /// The OCI layout folder that holds the images [default: .lian/images in the project]
    #[arg(long, value_name = "DIR", env = "LIAN_LAYOUT")]
    pub layout: Option<PathBuf>,
}

/// Which project.
#[derive(Debug, Clone, Args)]
pub struct ProjectFlags {
    /// A folder of the project
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
}

impl From<&Source> for config::Source {
    fn from(source: &Source) -> Self {
        Self {
            catalog: source.catalog.clone(),
            workflow: source.workflow.clone(),
            set: source.set.clone(),
            allow_imports: source.allow_import.clone(),
        }
    }
}

impl From<&Selection> for config::Selection {
    fn from(selection: &Selection) -> Self {
        Self {
            source: (&selection.source).into(),
            targets: selection.target.clone(),
            forced: selection.force.clone(),
            base_images: selection.base_image.clone(),
            ca_bundle: selection.ca_bundle.clone(),
            build_args: selection.build_arg.clone(),
            placement: selection.place.clone().into(),
            layout: selection.layout.layout.clone(),
        }
    }
}

pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` has no `=`: write NAME=VALUE")),
    }
}

/// Bytes, with an optional decimal (kB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB) unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" | "k" | "K" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "TB" | "T" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        other => return Err(format!("`{other}` is not a unit: use kB, MB, GB, TB, KiB, MiB, GiB or TiB")),
    };
    let number: u64 = text[..digits].parse().map_err(|_| format!("`{text}` is not a size such as 5GB"))?;
    number.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// The help of each command, and what stands below it as it was written.
    fn helps(command: &mut clap::Command, found: &mut Vec<(String, String, String)>) {
        let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.push((command.get_name().to_owned(), command.render_long_help().to_string(), below));
        command.get_subcommands_mut().for_each(|inner| helps(inner, found));
    }

    #[test]
    fn help_tells_a_commands_own_flags_first_and_breaks_no_example() {
        let mut cli = Cli::command();
        cli.build();
        let mut found = Vec::new();
        helps(&mut cli, &mut found);
        assert!(found.len() > 15, "{}", found.len());
        for (name, help, below) in &found {
            let (own, everywhere) = help.split_once("Options of every command:\n").expect("a heading");
            for flag in ["--format", "--verbose", "--quiet"] {
                assert!(!own.split_whitespace().any(|word| word.trim_end_matches('.') == flag), "{name}: {own}");
                assert!(everywhere.contains(flag), "{name}: {everywhere}");
            }
            assert!(!help.contains("possible values: text") && !help.contains("- dot"), "{name}: {help}");
            // Prose is wrapped where the terminal ends; a command that is wrapped cannot be copied.
            for line in below.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() < 80, "{name}: `{line}` is wrapped on a small terminal");
            }
        }
    }

    #[test]
    fn reads_sizes() {
        assert_eq!(parse_size("5GB"), Ok(5_000_000_000));
        assert_eq!(parse_size("512 MiB"), Ok(512 << 20));
        assert_eq!(parse_size("42"), Ok(42));
        for text in ["", "GB", "5 bananas", "99999999999999TB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}

//! Flags that several commands share. Not responsible for: acting on them.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, FromArgMatches, ValueEnum};

use super::consent;
use super::provider_flags::ProviderFlags;
use crate::app::project::Project;
use crate::app::setting::{Origin, Setting};
use crate::app::trust::{Given, Trust};
use crate::app::{Error, config};

/// Help heading for the global flags: clap lists them together, after a command's own.
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
    /// The folder of the project's state: history, logs, images [default: one in your data folder; see `where`]
    #[arg(long, global = true, value_name = "DIR", env = "LIAN_STATE", hide_env = true, help_heading = EVERYWHERE)]
    pub state: Option<PathBuf>,
    /// Grants what the project wants of you: what a file of `trust --export` holds, or `all`
    #[arg(long, global = true, value_name = "FILE|all", env = "LIAN_TRUST", hide_env = true, help_heading = EVERYWHERE)]
    pub trust: Option<Given>,
    /// Says nothing where all is well
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub quiet: bool,
}

impl Global {
    /// How far the command may go.
    pub fn trust(&self) -> Trust {
        let ask = if self.format == Format::Text { consent::asker() } else { None };
        Trust { given: self.trust.clone().unwrap_or_default(), ask }
    }
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
    /// How long checking the catalog may take, seconds [default: 30]
    #[arg(long, value_name = "SECONDS", env = "LIAN_CHECK_BUDGET_S", hide_env = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub check_budget: Option<u64>,
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
    pub place: ProviderFlags,
    #[command(flatten)]
    pub layout: Layout,
}

/// Where images live.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The OCI layout folder, if set, with its origin.
    pub chosen: Option<Setting<PathBuf>>,
}

/// `--layout` as clap knows it.
#[derive(Debug, Args)]
struct LayoutFlag {
    /// The OCI layout folder that holds the images [default: images in the state folder]
    #[arg(long, value_name = "DIR", env = "LIAN_LAYOUT")]
    layout: Option<PathBuf>,
}

/// Manual implementation: only here clap tells whether a value came from the command line or the environment.
impl FromArgMatches for Layout {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layout = Self::default();
        layout.update_from_arg_matches(matches)?;
        Ok(layout)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let origin = match matches.value_source("layout") {
            Some(ValueSource::EnvVariable) => Origin::Environment,
            _ => Origin::Flag,
        };
        self.chosen = LayoutFlag::from_arg_matches(matches)?.layout.map(|value| Setting { value, origin });
        Ok(())
    }
}

impl Args for Layout {
    fn augment_args(command: clap::Command) -> clap::Command {
        LayoutFlag::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        LayoutFlag::augment_args_for_update(command)
    }
}

/// Which project.
#[derive(Debug, Clone, Args)]
pub struct ProjectFlags {
    /// A folder of the project
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
}

impl Source {
    /// As the use cases take it.
    pub fn with(&self, global: &Global) -> config::Source {
        config::Source {
            catalog: self.catalog.clone(),
            workflow: self.workflow.clone(),
            set: self.set.clone(),
            allow_imports: self.allow_import.clone(),
            state: global.state.clone(),
            trust: global.trust(),
            budget: self.check_budget.map(Duration::from_secs),
        }
    }
}

impl Selection {
    /// As the use cases take it.
    pub fn with(&self, global: &Global) -> config::Selection {
        config::Selection {
            source: self.source.with(global),
            targets: self.target.clone(),
            forced: self.force.clone(),
            base_images: self.base_image.clone(),
            ca_bundle: self.ca_bundle.clone(),
            build_args: self.build_arg.clone(),
            placement: self.place.clone().into(),
            layout: self.layout.chosen.clone(),
            parallel: None,
        }
    }
}

impl ProjectFlags {
    /// The project.
    pub fn with(&self, global: &Global) -> Result<Project, Error> {
        Project::of_folder(&self.project, global.state.as_deref())
    }
}

/// `NAME=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` has no `=`: write NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_layout_knows_who_named_it() {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            layout: Layout,
        }
        let flags = |arguments: &[&str]| Flags::try_parse_from(arguments).expect("sound").layout.chosen;
        let named = flags(&["lian-build", "--layout", "elsewhere"]);
        assert_eq!(named, Some(Setting { value: PathBuf::from("elsewhere"), origin: Origin::Flag }));
    }
}

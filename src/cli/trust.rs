//! `lian-build trust`: shows what a project wants of the user, records and takes back grants. Not responsible for: what
//! is wanted (see `app::trust`).

use clap::Args;

use super::args::{Format, Global, Source};
use super::consent;
use super::exit::{Exit, Outcome};
use super::provider_flags::ProviderFlags;
use super::show;
use crate::app::ErrorKind;
use crate::app::config::{Config, Selection};
use crate::app::planning::survey::Declarations;
use crate::app::trust::{self, Grant, Purpose, Want};
use crate::domain::base::shown as shown_text;
use crate::domain::model::{Catalog, CatalogSettings};
use crate::report::{self, Style};

/// Grants what this project wants of you: secrets, keys, addresses for your tokens
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build trust
  lian-build trust --yes
  lian-build trust --list
  lian-build trust --revoke all
  lian-build trust --export > ~/ci/grants.json
  lian-build apply --trust ~/ci/grants.json")]
pub struct TrustFlags {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    place: ProviderFlags,
    /// Grants all of it without asking: needed where there is no terminal
    #[arg(short, long, conflicts_with_all = ["list", "revoke", "export"])]
    yes: bool,
    /// Lists what is granted
    #[arg(long, conflicts_with_all = ["revoke", "export"])]
    list: bool,
    /// Takes a grant back, by its name in the list, or `all`; may be repeated
    #[arg(long, value_name = "GRANT", conflicts_with = "export")]
    revoke: Vec<String>,
    /// Writes what is granted as a file for `--trust`
    #[arg(long)]
    export: bool,
}

/// Runs the command.
pub fn trust(global: &Global, flags: &TrustFlags) -> Outcome {
    let placement = flags.place.clone().into();
    let source = flags.source.with(global);
    let config = Config::new(&Selection { source, placement, ..Selection::default() })?;
    config.project.settle()?;
    if flags.list {
        shown(global, &trust::read_grants(&config.project)?, "granted");
    } else if !flags.revoke.is_empty() {
        shown(global, &trust::revoke(&config.project, &flags.revoke)?, "revoked");
    } else if flags.export {
        show::out(&trust::exported(trust::read_grants(&config.project)?));
    } else {
        return grant(global, &config, flags.yes);
    }
    Ok(Exit::Done)
}

/// Grants everything that can be granted, once a person said yes: on a terminal when asked, else by `--yes`.
fn grant(global: &Global, config: &Config, yes: bool) -> Outcome {
    let wants = trust::wants(config, Purpose::Build(&catalog_of(config)?))?;
    let recorded: Vec<_> = trust::read_grants(&config.project)?.into_iter().map(|grant| grant.digest).collect();
    let (never, wants): (Vec<Want>, Vec<Want>) = wants.into_iter().partition(|want| want.never.is_some());
    let new: Vec<Want> = wants.into_iter().filter(|want| !recorded.contains(&want.digest())).collect();
    if let ErrorKind::Files(faults, sources) = trust::refused(&never).what
        && !never.is_empty()
        && global.format != Format::Json
    {
        eprint!("{}", report::draw_diagnostics(&faults, &sources, Style::stderr()));
    }
    let exit = if never.is_empty() { Exit::Done } else { Exit::Failed };
    let granted = match global.trust().ask {
        _ if new.is_empty() => false,
        _ if yes => true,
        Some(ask) => ask(&new),
        None => return Err(trust::unasked(&new).into()),
    };
    if granted {
        trust::record_all(config, &new)?;
    }
    let grants: Vec<Grant> = if granted { new.iter().map(Grant::of).collect() } else { Vec::new() };
    match global.format {
        Format::Json => {
            let never: Vec<_> = never.iter().map(|want| row(&Grant::of(want))).collect();
            let granted: Vec<_> = grants.iter().map(row).collect();
            show::json(&serde_json::json!({ "schema": 1, "granted": granted, "refused": never }));
        }
        _ if global.quiet => {}
        _ if granted => {
            let lines = new.iter().map(|want| format!("granted  {}\n", consent::line(want)));
            show::out(&lines.collect::<String>());
        }
        _ if new.is_empty() && never.is_empty() => show::out("nothing to grant\n"),
        _ => show::out("nothing was granted\n"),
    }
    Ok(exit)
}

/// The declared layers; none where there is no catalog, as beside a workflow for `dispatch`.
fn catalog_of(config: &Config) -> Result<Catalog, crate::app::Error> {
    if config.catalog.is_dir() {
        return Ok(Declarations::evaluate(config)?.catalog().clone());
    }
    let (root, project_root) = (config.catalog.value.clone(), config.project.root().to_owned());
    Ok(Catalog { root, project_root, settings: CatalogSettings::default(), layers: Vec::new() })
}

fn row(grant: &Grant) -> serde_json::Value {
    let mut row = serde_json::to_value(grant).expect("invariant: grants are plain data");
    row["name"] = grant.name().into();
    row
}

fn shown(global: &Global, grants: &[Grant], word: &str) {
    if global.format == Format::Json {
        let rows: Vec<_> = grants.iter().map(row).collect();
        return show::json(&serde_json::json!({ "schema": 1, word: rows }));
    }
    if grants.is_empty() && !global.quiet {
        return show::out(&format!("nothing is {word}\n"));
    }
    for grant in grants {
        let layer = grant.layer.as_ref().map_or_else(|| "all layers".to_owned(), |layer| format!("layer {layer}"));
        let kind = serde_json::to_value(grant.kind).expect("invariant: a kind is plain data");
        let kind = kind.as_str().unwrap_or_default().replace('_', " ");
        let line = format!("{}  {word}  {kind} {}, for {layer}, by {}", grant.name(), grant.what, grant.file);
        show::out(&format!("{}\n", shown_text(&line)));
    }
}

//! `runs`, `load`, `gc` and `schemas`: looking back and tidying up. Not responsible for: building.

use std::path::{Path, PathBuf};

use super::args::{Format, Global, ProjectFlags, Source};
use super::exit::{Exit, Failure, Outcome};
use super::show;
use crate::adapters::buildkit::{self, Daemon, DaemonConfig};
use crate::adapters::registry::{Collected, KeepPolicy, OciLayout, Registry};
use crate::app::UsageError;
use crate::app::config::Config;
use crate::app::images::{Images, http_registries};
use crate::app::project::Project;
use crate::domain::base::human_bytes;
use crate::domain::graph::UnknownTarget;
use crate::domain::ports::ImageSource;
use crate::report::{self, Style};
use crate::system::host_platform;

/// So many layers are named where one that was asked for is none of them.
const NAMED: usize = 20;

/// Lists runs.
pub fn runs(global: &Global, project: &ProjectFlags, limit: usize) -> Outcome {
    let store = Project::of_folder(&project.project).read_store()?;
    let runs = store.map(|store| store.runs(limit)).transpose()?.unwrap_or_default();
    match global.format {
        Format::Json => show::json(&report::runs_json(&runs)),
        _ => show::out(&report::runs_table(&runs, Style::stdout())),
    }
    Ok(Exit::Done)
}

/// Puts an image into Docker or podman.
pub fn load(global: &Global, source: &Source, layout: Option<PathBuf>, layer: &str, tag: Option<&str>) -> Outcome {
    let mut settings = Config::of_source(&source.into())?;
    if let Some(layout) = layout {
        settings.layout = layout;
    }
    let evaluated = crate::app::planning::survey::Survey::of_catalog(&settings)?;
    let namespace = &evaluated.catalog.settings.namespace;
    let name = format!("{namespace}/{layer}");
    let images = Images::open(&settings)?;
    let _in_use = images.in_use()?;
    let Some(found) = images.store().find(&name, "latest")? else {
        let names: Vec<&str> = evaluated.catalog.layers.iter().map(|one| one.layer.name.as_str()).collect();
        if !names.contains(&layer) {
            return Err(Failure::usage(unknown(layer, &names)));
        }
        let built = images.built()?;
        let help = match crate::domain::base::nearest(&name, built.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{}`?", near.rsplit('/').next().unwrap_or(near)),
            None => format!("build it first: lian-build apply --target {layer}"),
        };
        let (what, path) = ("the image".to_owned(), name);
        return Err(Failure::usage(UsageError::Unreadable { what, path, cause: "it is not built".to_owned(), help }));
    };
    let reference = tag.map_or_else(|| format!("{name}:latest"), str::to_owned);
    let platform = found.platform.clone().unwrap_or_else(host_platform);
    let runtime = crate::app::runtime()?;
    let from = images.store().source(&name, &found.digest);
    let engine = runtime.block_on(async {
        let mut config = DaemonConfig::from_env()?;
        config.http_registries = http_registries(&settings);
        let daemon = Daemon::ensure(&config).await?;
        buildkit::load(&daemon, &from, &platform, &reference).await
    });
    let engine = engine.map_err(Failure::unavailable)?;
    let pulled = match &from {
        ImageSource::Registry { name, digest } => format!(", pulled from {name}@{digest}"),
        ImageSource::Layout { .. } => String::new(),
    };
    match global.format {
        Format::Json => show::json(&serde_json::json!({ "schema": 1, "image": reference, "engine": engine })),
        _ => show::out(&format!("{reference} is in {engine}{pulled}\n")),
    }
    Ok(Exit::Done)
}

/// A layer that the catalog does not have, and those that it has.
fn unknown(layer: &str, names: &[&str]) -> UnknownTarget {
    let near = crate::domain::base::nearest(layer, names.iter().copied());
    let meant = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more (`lian-build plan` lists them)"),
    };
    UnknownTarget { name: layer.into(), help: format!("{meant}it has: {}{more}", shown.join(", ")) }
}

/// Removes what nothing needs any more.
pub fn gc(
    global: &Global,
    project: &ProjectFlags,
    layout: Option<&Path>,
    keep_bytes: Option<u64>,
    drop: &[String],
) -> Outcome {
    let project = Project::of_folder(&project.project);
    let mut total = Collected::default();
    let registry = Registry::tidy(&project.state())?;
    let layout = layout.map_or_else(|| project.layout(), Path::to_owned);
    if registry && !layout.join("index.json").is_file() {
        drop.first().map_or(Ok(()), |name| Err(kept_elsewhere(name)))?;
    }
    if !layout.join("index.json").is_file() {
        drop.first().map_or(Ok(()), |name| Err(no_image(name, &[])))?;
    } else {
        let images = OciLayout::open(&layout)?;
        let names: Vec<String> = images.list()?.into_iter().map(|image| image.name).collect();
        // All of them, or none.
        drop.iter().find(|name| !names.contains(name)).map_or(Ok(()), |name| Err(no_image(name, &names)))?;
        for name in drop {
            add(&mut total, images.drop_image(name)?);
        }
        let policy = keep_bytes.map_or_else(KeepPolicy::default, |bytes| KeepPolicy { bytes });
        add(&mut total, images.collect(policy)?);
    }
    let logs = project.existing_store()?.map_or(Ok(0), |store| store.prune())?;
    let cache = prune_daemon(keep_bytes)?;
    if global.format == Format::Json {
        show::json(&serde_json::json!({
            "schema": 1, "busy": total.busy, "images": total.images, "blobs": total.blobs,
            "freed_bytes": total.freed, "kept_bytes": total.kept, "logs_freed_bytes": logs, "cache_freed_bytes": cache,
        }));
        return Ok(Exit::Done);
    }
    if total.busy {
        show::out("images: a run uses them; nothing was removed\n");
    } else {
        let went = report::count(total.images, "image");
        show::out(&format!(
            "images: {went} went, {} freed, {} kept\n",
            human_bytes(total.freed),
            human_bytes(total.kept)
        ));
    }
    if registry {
        show::out("registry: its images are its own business; nothing was removed there\n");
    }
    show::out(&format!("logs:   {} freed\n", human_bytes(logs)));
    match cache {
        Some(freed) => show::out(&format!("cache:  {} freed in the BuildKit daemon\n", human_bytes(freed))),
        None if DaemonConfig::from_env().is_ok_and(|config| config.address.is_some()) => {
            show::out("cache:  the daemon of BUILDKIT_HOST is left alone\n");
        }
        None => show::out("cache:  no BuildKit daemon runs; it keeps itself below its bound\n"),
    }
    Ok(Exit::Done)
}

fn no_image(name: &str, names: &[String]) -> Failure {
    let near = crate::domain::base::nearest(name, names.iter().map(String::as_str));
    let help = near
        .map_or_else(|| "images are named <namespace>/<layer>".to_owned(), |near| format!("did you mean `{near}`?"));
    let (what, path, cause) = ("the image".to_owned(), name.to_owned(), "there is none".to_owned());
    Failure::usage(UsageError::Unreadable { what, path, cause, help })
}

fn kept_elsewhere(name: &str) -> Failure {
    let (what, path) = ("the image".to_owned(), name.to_owned());
    let cause = "the project's images are in a registry".to_owned();
    let help = "delete it there: a registry's images are the registry's business".to_owned();
    Failure::usage(UsageError::Unreadable { what, path, cause, help })
}

fn add(total: &mut Collected, more: Collected) {
    total.busy |= more.busy;
    total.images += more.images;
    total.blobs += more.blobs;
    total.freed += more.freed;
    total.kept = more.kept;
    total.leftovers += more.leftovers;
}

/// Shrinks the cache of our daemon, where one runs and a bound was named.
fn prune_daemon(keep_bytes: Option<u64>) -> Result<Option<u64>, Failure> {
    let Ok(config) = DaemonConfig::from_env() else { return Ok(None) };
    crate::app::runtime()?.block_on(async {
        match Daemon::status(&config).await {
            // A daemon that is not our own serves others: what it keeps is theirs to decide.
            Ok(status) if status.running && status.own => {
                let daemon = Daemon::ensure(&config).await?;
                Ok(Some(daemon.prune(keep_bytes.unwrap_or(DaemonConfig::KEEP_BYTES)).await?))
            }
            _ => Ok(None),
        }
    })
}

/// A folder that was named takes no file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the file {path} cannot be written: {cause}")]
#[diagnostic(code(lian::cli::unwritable), help("name a folder that can be written to"))]
struct Unwritable {
    path: String,
    cause: String,
}

/// Writes the embedded schemas out.
pub fn schemas(global: &Global, folder: &Path) -> Outcome {
    let mut written = Vec::new();
    for (name, text) in crate::app::schemas().files() {
        let path = folder.join(name);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, text)
        };
        write().map_err(|error| {
            Failure::usage(Unwritable { path: path.display().to_string(), cause: error.to_string() })
        })?;
        written.push(path.display().to_string());
    }
    match global.format {
        Format::Json => show::json(&serde_json::json!({ "schema": 1, "files": written })),
        _ if global.quiet => {}
        _ => {
            show::out(&format!("{} files below {}\n", written.len(), folder.display()));
            show::out(&format!("for the Nickel language server: export NICKEL_IMPORT_PATH={}\n", folder.display()));
        }
    }
    Ok(Exit::Done)
}

//! `lian-build gc`: removes unused data. Not responsible for: deciding what is unused (see `app::tidy`).

use clap::Args;

use super::args::{Format, Global, Layout, ProjectFlags};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::Config;
use crate::app::session::Session;
use crate::app::state::{self, Other};
use crate::app::tidy::{self, Cache, Tidied};
use crate::domain::base::human_bytes;
use crate::report;

/// Removes what nothing needs any more: old images, logs, the daemon's cache
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build gc
  lian-build gc --keep-bytes 5GB
  lian-build gc --drop lamina/leptos
  lian-build gc --gone                  and the state of projects that are gone")]
pub struct Gc {
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
    /// Also removes the state of projects that are gone: moved, or deleted (`where` lists them)
    #[arg(long)]
    gone: bool,
}

/// Runs the command.
pub fn gc(global: &Global, flags: &Gc) -> Outcome {
    let project = flags.project.with(global)?;
    let gone = if flags.gone { state::remove_gone(project.user())? } else { Vec::new() };
    let session = Session::new(Config::of_project(project, flags.layout.chosen.clone()))?;
    let tidied = tidy::tidy(&session, flags.keep_bytes, &flags.drop)?;
    if global.format == Format::Json {
        json(&tidied, flags.keep_bytes, &gone);
    } else {
        text(&tidied, flags.keep_bytes);
        gone.iter().for_each(|other| show::out(&removed(other)));
    }
    Ok(Exit::Done)
}

/// Why more is kept than was asked for: what nothing removes but its name.
const KEPT: &str = "the image under each `latest` is kept, whatever its size; `gc --drop IMAGE` removes one";

fn json(Tidied { images, logs, cache, .. }: &Tidied, keep: Option<u64>, gone: &[Other]) {
    let cache = match cache {
        Cache::Freed(bytes) => Some(bytes),
        Cache::Foreign | Cache::NotRunning => None,
    };
    show::json(&serde_json::json!({
        "schema": 1, "busy": images.busy, "images": images.images, "blobs": images.blobs,
        "freed_bytes": images.freed, "kept_bytes": images.kept, "logs_freed_bytes": logs, "cache_freed_bytes": cache,
        "gone": gone.iter().map(|other| serde_json::json!({
            "state": other.path, "root": other.root, "removed": other.may_go(), "waiting": other.waiting,
        })).collect::<Vec<_>>(),
        "kept_why": keep.filter(|keep| images.kept > *keep).map(|_| KEPT),
    }));
}

fn text(Tidied { images, registry, logs, cache }: &Tidied, keep: Option<u64>) {
    if images.busy {
        show::out("images: a run uses them; nothing was removed\n");
    } else {
        let went = match images.images {
            0 => "none removed".to_owned(),
            images => format!("{} removed", report::count(images, "image")),
        };
        let (freed, kept) = (human_bytes(images.freed), human_bytes(images.kept));
        show::out(&format!("images: {went}, {freed} freed, {kept} kept\n"));
        if let Some(keep) = keep.filter(|keep| images.kept > *keep) {
            show::out(&format!("        more than {}: {KEPT}\n", human_bytes(keep)));
        }
    }
    if *registry {
        show::out("registry: lian-build deletes no images there\n");
    }
    show::out(&format!("logs:   {} freed\n", human_bytes(*logs)));
    match cache {
        Cache::Freed(bytes) => {
            show::out(&format!("cache:  {} freed in the BuildKit daemon\n", human_bytes(*bytes)));
        }
        Cache::Foreign => show::out("cache:  the daemon of BUILDKIT_HOST is left alone\n"),
        Cache::NotRunning => show::out("cache:  no BuildKit daemon runs; it keeps itself below its bound\n"),
    }
}

fn removed(other: &Other) -> String {
    let (path, root) = (other.path.display(), other.root.display());
    match other.waiting {
        Some(0) => format!("gone:   {path} removed, the state of {root}\n"),
        Some(waiting) => format!(
            "gone:   {path} kept: {} of {root} to be given back first: lian-build leases gc --state {path}\n",
            report::count(waiting, "runner")
        ),
        None => format!("gone:   {path} kept: its history cannot be read, and may name runners to be given back\n"),
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
    use super::*;

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

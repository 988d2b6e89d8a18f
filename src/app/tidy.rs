//! Removes unused data: old images, logs, the daemon's cache. Not responsible for: images in a registry.

use super::session::Session;
use super::{Error, UsageError};
use crate::adapters::buildkit::{Daemon, DaemonConfig};
use crate::adapters::registry::{Collected, KeepPolicy, OciLayout, Registry};
use crate::domain::base::nearest;

/// What was removed.
pub struct Tidied {
    /// Images removed from the layout.
    pub images: Collected,
    /// Whether the project uses a registry, where nothing is removed.
    pub registry: bool,
    /// Logs removed, bytes.
    pub logs: u64,
    /// The result for the daemon's cache.
    pub cache: Cache,
}

/// The result for the daemon's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Removed, bytes.
    Freed(u64),
    /// The daemon is not ours: its owner decides about its cache.
    Foreign,
    /// No daemon runs.
    NotRunning,
}

/// Cleans up a project. `keep_bytes` limits the images' size. Images in `dropped` lose all their tags: all of them,
/// or none.
pub fn tidy(session: &Session, keep_bytes: Option<u64>, dropped: &[String]) -> Result<Tidied, Error> {
    let registry = Registry::tidy(session.project().state())?;
    let images = collect(session, registry, keep_bytes, dropped)?;
    let logs = session.existing_store()?.map_or(Ok(0), |store| store.prune())?;
    let cache = prune_daemon(session, keep_bytes)?;
    Ok(Tidied { images, registry, logs, cache })
}

fn collect(session: &Session, registry: bool, keep_bytes: Option<u64>, dropped: &[String]) -> Result<Collected, Error> {
    let mut total = Collected::default();
    let layout = &session.config().layout.value;
    if !OciLayout::is_at(layout)? {
        return match dropped.first() {
            Some(name) if registry => Err(kept_elsewhere(name)),
            Some(name) => Err(no_image(name, &[])),
            None => Ok(total),
        };
    }
    let images = OciLayout::open(layout, session.project().user())?;
    let names: Vec<String> = images.list()?.into_iter().map(|image| image.name).collect();
    dropped.iter().find(|name| !names.contains(name)).map_or(Ok(()), |name| Err(no_image(name, &names)))?;
    for name in dropped {
        add(&mut total, images.drop_image(name)?);
    }
    let policy = keep_bytes.map_or_else(KeepPolicy::default, |bytes| KeepPolicy { bytes });
    add(&mut total, images.collect(policy)?);
    Ok(total)
}

fn no_image(name: &str, names: &[String]) -> Error {
    let near = nearest(name, names.iter().map(String::as_str));
    let help = near
        .map_or_else(|| "images are named <namespace>/<layer>".to_owned(), |near| format!("did you mean `{near}`?"));
    let (what, path, cause) = ("the image".to_owned(), name.to_owned(), "there is none".to_owned());
    Error::from(UsageError::Unreadable { what, path, cause, help })
}

fn kept_elsewhere(name: &str) -> Error {
    let (what, path) = ("the image".to_owned(), name.to_owned());
    let cause = "the project's images are in a registry".to_owned();
    let help = "delete it there: lian-build deletes no images of a registry".to_owned();
    Error::from(UsageError::Unreadable { what, path, cause, help })
}

fn add(total: &mut Collected, more: Collected) {
    total.busy |= more.busy;
    total.images += more.images;
    total.blobs += more.blobs;
    total.freed += more.freed;
    total.kept = more.kept;
    total.leftovers += more.leftovers;
}

/// Shrinks the cache of our own daemon, if it runs.
fn prune_daemon(session: &Session, keep_bytes: Option<u64>) -> Result<Cache, Error> {
    let Ok(config) = DaemonConfig::from_env() else { return Ok(Cache::NotRunning) };
    session.wait(async {
        match Daemon::status(&config).await {
            Ok(status) if status.running && status.own => {
                let daemon = Daemon::ensure(&config).await?;
                Ok(Cache::Freed(daemon.prune(keep_bytes.unwrap_or(DaemonConfig::KEEP_BYTES)).await?))
            }
            _ if config.address.is_some() => Ok(Cache::Foreign),
            _ => Ok(Cache::NotRunning),
        }
    })?
}

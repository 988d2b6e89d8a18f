//! Puts a layer's image into an engine on this machine. Not responsible for: building it.

use super::planning::survey::Survey;
use super::session::Session;
use super::{Error, UsageError};
use crate::adapters::engine::Engine;
use crate::adapters::registry::{Archive, ArchiveStop};
use crate::domain::base::nearest;
use crate::domain::graph::UnknownTarget;
use crate::domain::model::{ImageRef, ImageRefError, LATEST};
use crate::domain::ports::ImageSource;
use crate::system::host_platform;

/// How many layer names to list when the requested one is unknown.
const NAMED: usize = 20;

/// A loaded image.
pub struct LoadedImage {
    /// Its name in the engine.
    pub reference: String,
    /// The engine.
    pub engine: String,
    /// Where it was pulled from, if it was not local.
    pub pulled: Option<String>,
}

/// Loads a layer's image under `tag`, or as `<namespace>/<layer>:latest`. Needs no BuildKit: the archive that the engine
/// takes is made of the image's own blobs.
pub fn load(session: &Session, layer: &str, tag: Option<&str>) -> Result<LoadedImage, Error> {
    let config = session.config();
    let survey = Survey::of_catalog(config)?;
    let name = format!("{}/{layer}", survey.catalog.settings.namespace);
    let images = session.images()?;
    let _in_use = session.wait(images.in_use())??;
    let Some(found) = session.wait(images.find(&name, LATEST))?? else {
        let names: Vec<&str> = survey.catalog.layers.iter().map(|one| one.layer.name.as_str()).collect();
        return Err(match names.contains(&layer) {
            true => not_built(layer, name, &session.wait(images.built())??),
            false => Error::from(unknown(layer, &names)),
        });
    };
    let reference = tag.map_or_else(|| format!("{name}:{LATEST}"), str::to_owned);
    let named: ImageRef = reference.parse().map_err(|error| misnamed(&reference, error))?;
    let engine = Engine::find()?;
    session.wait(engine.version())??;
    let platform = found.platform.clone().unwrap_or_else(host_platform);
    let scratch = session.wait(async {
        let scratch = images.staging().await?;
        let layout = images.layout_of(&name, &found.digest, &platform, scratch.path()).await?;
        Ok::<_, Error>((scratch, layout))
    })?;
    let (folder, layout) = scratch?;
    let scratch = folder.path().to_owned();
    let archive = Archive { layout, image: found.digest.clone(), platform, name: named, scratch };
    match engine.load(|out| archive.write(out))? {
        Ok(()) => {}
        Err(ArchiveStop::Image(error)) => return Err(error.into()),
        Err(ArchiveStop::Scratch(error) | ArchiveStop::Reader(error)) => return Err(Error::machine(error)),
    }
    let pulled = match images.source(&name, &found.digest) {
        ImageSource::Registry { name, digest } => Some(format!("{name}@{digest}")),
        ImageSource::Layout { .. } => None,
    };
    Ok(LoadedImage { reference, engine: engine.name.to_owned(), pulled })
}

/// The error for a name that no engine takes.
fn misnamed(reference: &str, error: ImageRefError) -> Error {
    let (what, path, cause) = ("the name".to_owned(), reference.to_owned(), error.to_string());
    let help = "write [REGISTRY/]NAME[:TAG] in lower case, e.g. registry.example/app:dev".to_owned();
    Error::from(UsageError::Unreadable { what, path, cause, help })
}

/// The error for a layer of the catalog without an image.
fn not_built(layer: &str, name: String, built: &[String]) -> Error {
    let help = match nearest(&name, built.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{}`?", near.rsplit('/').next().unwrap_or(near)),
        None => format!("build it first: lian-build apply --target {layer}"),
    };
    let (what, cause) = ("the image".to_owned(), "it is not built".to_owned());
    Error::from(UsageError::Unreadable { what, path: name, cause, help })
}

/// The error for an unknown layer, with the known ones.
fn unknown(layer: &str, names: &[&str]) -> UnknownTarget {
    let near = nearest(layer, names.iter().copied());
    let meant = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more (`lian-build plan` lists them)"),
    };
    UnknownTarget { name: layer.into(), help: format!("{meant}it has: {}{more}", shown.join(", ")) }
}

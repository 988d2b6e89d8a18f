//! Resolves each external image: a substitute, a pin of `lian.lock`, or the tag's current digest. Not responsible
//! for: moving a pin (only `update` does).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use crate::adapters::registry::Resolver;
use crate::adapters::store;
use crate::app::config::Config;
use crate::app::{Error, UsageError};
use crate::domain::base::{Digest, Platform};
use crate::domain::model::{Declared, ImageRef, Pin};
use crate::domain::ports::ImageSource;

/// Tags resolved concurrently.
const AT_ONCE: usize = 16;

/// External images at their exact digests.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    /// By full reference, with its digest if it has one.
    pub sources: BTreeMap<String, ImageSource>,
    /// Pins missing from the lock: `apply` adds them, `plan` does not.
    pub missing: BTreeMap<String, Pin>,
}

impl Pins {
    /// The digest of an image.
    pub fn digest(&self, image: &ImageRef) -> Option<&Digest> {
        self.sources.get(&image.to_string()).map(|source| match source {
            ImageSource::Layout { digest, .. } | ImageSource::Registry { digest, .. } => digest,
        })
    }
}

/// Finds every image's digest; queries a registry only for images that have neither a substitute nor a pin.
pub async fn find(config: &Config, platform: &Platform, images: &BTreeSet<ImageRef>) -> Result<Pins, Error> {
    let lock = store::read_lock(&config.lock)?.unwrap_or_default();
    let mut pins = Pins::default();
    let mut unknown = Vec::new();
    for image in images {
        let name = image.normalised();
        let full = image.to_string();
        if let Some(substitute) = config.base_images.get(&name) {
            let source = substitute.source(platform)?;
            pins.sources.insert(full, source);
        } else if let Some(digest) = &image.digest {
            let digest = digest.parse().map_err(|error| {
                Error::from(UsageError::BaseImage { given: image.to_string(), what: format!("{error}") })
            })?;
            pins.sources.insert(full, ImageSource::Registry { name: image.name(), digest });
        } else if let Some(pin) = lock.images.get(&name) {
            let source = ImageSource::Registry { name: image.name(), digest: pin.digest.clone() };
            pins.sources.insert(full, source);
        } else {
            unknown.push(image);
        }
    }
    for (image, digest) in resolve_all(&unknown).await? {
        let source = ImageSource::Registry { name: image.name(), digest: digest.clone() };
        pins.sources.insert(image.to_string(), source);
        pins.missing.insert(image.normalised(), Pin { digest });
    }
    Ok(pins)
}

/// The frontend image that a layer declares for its Dockerfile.
pub fn frontend(declared: &Declared) -> Result<Option<ImageRef>, Error> {
    let Some(text) = &declared.layer.frontend else { return Ok(None) };
    let image = text
        .parse()
        .map_err(|error| Error::from(UsageError::BaseImage { given: text.clone(), what: format!("{error}") }))?;
    Ok(Some(image))
}

/// Adds the missing pins to the lock.
pub fn add_missing(config: &Config, pins: &Pins) -> Result<(), Error> {
    if pins.missing.is_empty() {
        return Ok(());
    }
    store::change_lock(&config.lock, |lock| {
        for (name, pin) in &pins.missing {
            lock.images.entry(name.clone()).or_insert_with(|| pin.clone());
        }
    })?;
    Ok(())
}

/// The current digest of an image's tag.
pub async fn resolve(image: &ImageRef) -> Result<Digest, Error> {
    let mut found = resolve_all(&[image]).await?;
    Ok(found.pop().expect("invariant: one image was asked for").1)
}

/// The current digests of several tags. The error names every image that cannot be resolved.
async fn resolve_all(images: &[&ImageRef]) -> Result<Vec<(ImageRef, Digest)>, Error> {
    let resolver = Resolver::default();
    let asked: Vec<_> =
        images.iter().map(|image| async { ((*image).clone(), resolver.resolve(image).await) }).collect();
    let answers = stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>().await;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (image, answer) in answers {
        match answer {
            Ok(digest) => found.push((image, digest)),
            Err(error) => failed.push(error),
        }
    }
    match failed.len() {
        0 => Ok(found),
        1 => Err(Error::from(failed.remove(0))),
        _ => {
            let what = failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Err(Error::from(UsageError::Unresolved { what }))
        }
    }
}

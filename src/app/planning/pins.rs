//! Resolves each external image: a substitute, a pin of `lian.lock`, or the tag's current digest. Not responsible
//! for: moving a pin (only `update` does).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use crate::adapters::registry::{ResolveError, Resolver};
use crate::adapters::store;
use crate::app::config::Config;
use crate::app::trust::{self, Purpose};
use crate::app::{Error, UsageError};
use crate::domain::base::{Digest, Platform};
use crate::domain::model::{Declared, ImageRef, Pin};
use crate::domain::ports::ImageSource;

/// Tags resolved concurrently.
const AT_ONCE: usize = 16;

/// The external images that a plan needs, with the platforms for which it needs them.
pub type Wanted = BTreeMap<ImageRef, BTreeSet<Platform>>;

/// External images at their exact digests.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    /// By full reference, with its digest if it has one, and by platform: a substitute may hold an image for each.
    sources: BTreeMap<String, BTreeMap<Platform, ImageSource>>,
    /// Pins missing from the lock: `apply` adds them, `plan` does not.
    pub missing: BTreeMap<String, Pin>,
}

impl Pins {
    /// Where the image for a platform is; `None` if it was not asked for.
    pub fn source(&self, image: &ImageRef, platform: &Platform) -> Option<&ImageSource> {
        self.sources.get(&image.to_string())?.get(platform)
    }

    /// The digest of an image for whatever platform it was asked for.
    pub fn digest(&self, image: &ImageRef) -> Option<&Digest> {
        self.sources.get(&image.to_string())?.values().next().map(ImageSource::digest)
    }

    fn add(&mut self, image: &ImageRef, platforms: &BTreeSet<Platform>, source: &ImageSource) {
        let sources = platforms.iter().map(|platform| (platform.clone(), source.clone()));
        self.sources.entry(image.to_string()).or_default().extend(sources);
    }
}

/// Finds every image's digest; queries a registry only for images that have neither a substitute, a digest of their own
/// nor a pin.
pub async fn find(config: &Config, images: &Wanted) -> Result<Pins, Error> {
    trust::demand(config, trust::wants(config, Purpose::BaseImages)?)?;
    let lock = store::read_lock(&config.lock)?.unwrap_or_default();
    let mut pins = Pins::default();
    let mut unknown = Vec::new();
    for (image, platforms) in images {
        let registry = |digest: Digest| ImageSource::Registry { name: image.name(), digest };
        if let Some(substitute) = config.substitute(image) {
            for platform in platforms {
                let source = substitute.pinned(image.digest.as_deref(), platform)?;
                substitute.check(source.digest(), platform, config.project.user())?;
                pins.sources.entry(image.to_string()).or_default().insert(platform.clone(), source);
            }
        } else if let Some(digest) = &image.digest {
            let digest = digest.parse().map_err(|error| {
                Error::from(UsageError::BaseImage { given: image.to_string(), what: format!("{error}") })
            })?;
            pins.add(image, platforms, &registry(digest));
        } else if let Some(pin) = lock.images.get(&image.normalised()) {
            pins.add(image, platforms, &registry(pin.digest.clone()));
        } else {
            unknown.push(image);
        }
    }
    for (image, pin) in resolve_all(images, &unknown).await? {
        let source = ImageSource::Registry { name: image.name(), digest: pin.digest.clone() };
        pins.add(&image, &images[&image], &source);
        pins.missing.insert(image.normalised(), pin);
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

/// The current digest of an image's tag, and its triggers on the first of the platforms for which it is wanted.
pub async fn resolve(image: &ImageRef, platforms: &BTreeSet<Platform>) -> Result<Pin, Error> {
    let wanted = Wanted::from([(image.clone(), platforms.clone())]);
    let mut found = resolve_all(&wanted, &[image]).await?;
    Ok(found.pop().expect("invariant: one image was asked for").1)
}

/// The current digests and the triggers of several tags. The error names every image that cannot be resolved.
async fn resolve_all(wanted: &Wanted, images: &[&ImageRef]) -> Result<Vec<(ImageRef, Pin)>, Error> {
    let resolver = Resolver::default();
    let pin = async |image: &ImageRef| {
        let digest = resolver.resolve(image).await?;
        let on_build = match wanted.get(image).and_then(BTreeSet::first) {
            Some(platform) => resolver.on_build(image, &digest, platform).await,
            None => Vec::new(),
        };
        Ok::<Pin, ResolveError>(Pin { digest, on_build })
    };
    let asked: Vec<_> = images.iter().map(|image| async { ((*image).clone(), pin(image).await) }).collect();
    let answers = stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>().await;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (image, answer) in answers {
        match answer {
            Ok(pin) => found.push((image, pin)),
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

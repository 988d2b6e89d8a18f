//! Queries the image store for the planned layers. All queries run concurrently, because keys do not depend on any
//! answer. Not responsible for: deciding what is built (see `domain::plan`).

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::app::Error;
use crate::app::execute::{StoredImage, stored_image};
use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{ImageName, KeyParts, LATEST, LayerKey, Unusable};
use crate::domain::ports::ImageStore;

/// Layers queried concurrently.
const AT_ONCE: usize = 16;

/// A layer to look up.
pub(super) struct Wanted<'a> {
    pub(super) layer: &'a LayerName,
    /// `<namespace>/<layer>`.
    pub(super) image: &'a ImageName,
    pub(super) key: &'a LayerKey,
    /// Whether it has an artifacts image.
    pub(super) promotes: bool,
}

/// What the store has for one layer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// The verified image of its key, if it was built on its parents' current images.
    pub(super) existing: Option<Digest>,
    /// Otherwise the parent that was rebuilt since: a forced build creates another image with the same key.
    pub(super) rebased: Option<LayerName>,
    /// Otherwise why the image of its key cannot be used, if one is there.
    pub(super) unusable: Option<Unusable>,
    /// The key parts of the `latest` image, if requested.
    pub(super) latest: Option<KeyParts>,
}

/// Looks up these layers, parents first. Reads `latest` for layers without a reusable image, or for all. Returns the
/// error of the first layer that has one.
pub(super) async fn find(
    images: &dyn ImageStore,
    layers: &[Wanted<'_>],
    latest_of_all: bool,
) -> Result<BTreeMap<LayerName, Stored>, Error> {
    let asked: Vec<_> =
        layers.iter().map(|wanted| stored_image(images, wanted.image, wanted.key, wanted.promotes)).collect();
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let mut stored = reusable(layers.iter().map(|wanted| wanted.layer).zip(found));
    let without = |wanted: &&Wanted<'_>| latest_of_all || stored[wanted.layer].existing.is_none();
    let without: Vec<&Wanted<'_>> = layers.iter().filter(without).collect();
    let asked: Vec<_> = without.iter().map(|wanted| images.record(wanted.image.as_str(), LATEST)).collect();
    let records: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    for (wanted, record) in without.into_iter().zip(records) {
        if let Some(stored) = stored.get_mut(wanted.layer) {
            stored.latest = record.map(|record| record.parts);
        }
    }
    tell_unusable(images, layers, &mut stored).await?;
    Ok(stored)
}

/// Asks why images that are there were not found.
async fn tell_unusable(
    images: &dyn ImageStore,
    layers: &[Wanted<'_>],
    stored: &mut BTreeMap<LayerName, Stored>,
) -> Result<(), Error> {
    let missing =
        |wanted: &&Wanted<'_>| stored[wanted.layer].existing.is_none() && stored[wanted.layer].rebased.is_none();
    let missing: Vec<&Wanted<'_>> = layers.iter().filter(missing).collect();
    let asked: Vec<_> = missing.iter().map(|wanted| images.unusable(wanted.image.as_str(), wanted.key)).collect();
    let told: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    for (wanted, unusable) in missing.into_iter().zip(told) {
        if let Some(stored) = stored.get_mut(wanted.layer) {
            stored.unusable = unusable;
        }
    }
    Ok(())
}

/// The found images that can be reused. Layers must come parents first.
fn reusable<'a>(found: impl Iterator<Item = (&'a LayerName, Option<StoredImage>)>) -> BTreeMap<LayerName, Stored> {
    let mut reusable: BTreeMap<LayerName, Stored> = BTreeMap::new();
    for (layer, image) in found {
        let stored = image.map_or_else(Stored::default, |image| {
            let rebuilt = |(parent, was): &(&LayerName, &Digest)| {
                let now = reusable.get(*parent).and_then(|parent| parent.existing.as_ref());
                now.is_some_and(|now| now != *was)
            };
            match image.built_on.iter().find(rebuilt) {
                Some((parent, _)) => Stored { rebased: Some(parent.clone()), ..Stored::default() },
                None => Stored { existing: Some(image.digest), ..Stored::default() },
            }
        });
        reusable.insert(layer.clone(), stored);
    }
    reusable
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::domain::model::ImageRecord;
    use crate::domain::ports::{Claim, Found, ImageSource, ImageStoreError, Staged, StagingFolder};

    /// A slow store without images. It counts how many queries wait concurrently.
    #[derive(Default)]
    struct Slow {
        open: AtomicUsize,
        most: AtomicUsize,
        finds: AtomicUsize,
        /// Queries for this image fail.
        fails: Option<String>,
    }

    impl Slow {
        async fn answer(&self, name: &str) -> Result<(), ImageStoreError> {
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(open, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            self.open.fetch_sub(1, Ordering::SeqCst);
            match self.fails.as_deref().is_some_and(|fails| name >= fails) {
                false => Ok(()),
                true => {
                    Err(ImageStoreError::Remote { registry: name.into(), what: "fails".into(), help: "none".into() })
                }
            }
        }
    }

    #[async_trait]
    impl ImageStore for Slow {
        async fn find(&self, name: &str, _: &str) -> Result<Option<Found>, ImageStoreError> {
            self.finds.fetch_add(1, Ordering::SeqCst);
            self.answer(name).await.map(|()| None)
        }

        async fn record(&self, name: &str, _: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
            self.answer(name).await.map(|()| None)
        }

        async fn point(&self, _: &str, _: &str, _: &LayerKey) -> Result<bool, ImageStoreError> {
            unreachable!("a plan moves no tag")
        }

        async fn claim(&self, _: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
            unreachable!("a plan claims nothing")
        }

        async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
            unreachable!("a plan writes nothing")
        }

        fn source(&self, _: &str, _: &Digest) -> ImageSource {
            unreachable!("a plan builds nothing")
        }

        async fn promote(&self, _: &Staged) -> Result<(), ImageStoreError> {
            unreachable!("a plan promotes nothing")
        }
    }

    async fn ask(images: &Slow, layers: usize) -> Result<usize, Error> {
        let names: Vec<LayerName> = (0..layers).map(|number| LayerName::new(format!("{number:03}"))).collect();
        let key = LayerKey(Digest::of("key"));
        let named: Vec<ImageName> = names.iter().map(|layer| ImageName::from(layer.as_str())).collect();
        let wanted = names.iter().zip(&named).map(|(layer, image)| Wanted { layer, image, key: &key, promotes: false });
        let wanted: Vec<_> = wanted.collect();
        find(images, &wanted, false).await.map(|stored| stored.len())
    }

    #[tokio::test(start_paused = true)]
    async fn layers_are_asked_for_together_but_not_all_at_once() {
        let (slow, began) = (Slow::default(), tokio::time::Instant::now());
        assert_eq!(ask(&slow, 40).await.expect("answers"), 40);
        assert_eq!(slow.most.load(Ordering::SeqCst), AT_ONCE);
        assert!(began.elapsed().as_secs() <= 2 * 3, "40 layers in two rounds of three: {:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_layers_fault_is_told_and_ends_it() {
        let slow = Slow { fails: Some("002".into()), ..Slow::default() };
        let error = ask(&slow, 400).await.expect_err("it fails");
        assert!(format!("{error:?}").contains("002"), "{error:?}");
        assert!(slow.finds.load(Ordering::SeqCst) < 3 * AT_ONCE);
    }

    #[test]
    fn an_image_is_reused_on_the_parents_that_it_was_built_on() {
        let names: Vec<LayerName> = ["base", "kept", "stale", "absent", "above"].map(Into::into).into();
        let image = |name: &str, built_on: &[(&str, &str)]| {
            let built_on = built_on.iter().map(|(parent, image)| ((*parent).into(), Digest::of(image))).collect();
            Some(StoredImage { digest: Digest::of(name), built_on })
        };
        let found = [
            image("base", &[]),
            image("kept", &[("base", "base")]),
            image("stale", &[("base", "older base")]),
            None,
            // A parent without an image is built, and the plan then builds what stands on it too.
            image("above", &[("absent", "whatever"), ("stale", "stale")]),
        ];
        let stored = reusable(names.iter().zip(found));
        let existing = |name: &str| Stored { existing: Some(Digest::of(name)), ..Stored::default() };
        assert_eq!((&stored[&names[0]], &stored[&names[1]]), (&existing("base"), &existing("kept")));
        assert_eq!(stored[&names[2]], Stored { rebased: Some("base".into()), ..Stored::default() });
        assert_eq!((&stored[&names[3]], &stored[&names[4]]), (&Stored::default(), &existing("above")));
    }
}

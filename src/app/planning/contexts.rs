//! Reads the contexts of the planned layers, each once, with one thread per processor. Not responsible for: what a
//! listing contains (see the adapter `context`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::survey::Survey;
use crate::adapters::context::Reader;
use crate::app::Error;
use crate::app::config::Config;
use crate::domain::base::LayerName;
use crate::domain::model::{Declared, DockerfileFacts, Listing};
use crate::domain::ports::{ContextError, Definition, Modes};

/// The inputs of one layer that are read before planning.
pub(super) struct LayerInputs<'a> {
    pub(super) declared: &'a Declared,
    pub(super) facts: &'a DockerfileFacts,
    pub(super) listing: Listing,
    pub(super) definition: Definition,
}

/// A context to read.
struct Place {
    context: PathBuf,
    dockerfile: PathBuf,
}

/// Reads the contexts of these layers, with these modes, and keeps their order. Returns the error of the first layer
/// that has one.
pub(super) async fn read<'a>(
    config: &Config,
    survey: &'a Survey,
    layers: &[LayerName],
    modes: Modes,
) -> Result<Vec<LayerInputs<'a>>, Error> {
    let by_name: BTreeMap<&LayerName, &Declared> =
        survey.catalog.layers.iter().map(|declared| (&declared.layer.name, declared)).collect();
    let place = |declared: &Declared| Place { context: declared.context_dir(), dockerfile: declared.dockerfile_path() };
    let places: Vec<Place> = layers.iter().map(|layer| place(by_name[layer])).collect();
    let root = config.project.root().to_owned();
    let listings = tokio::task::spawn_blocking(move || read_all(Reader::of(modes), &root, &places)).await;
    let listings = listings.expect("invariant: reading contexts does not panic");
    let mut inputs = Vec::with_capacity(layers.len());
    for (layer, listing) in layers.iter().zip(listings) {
        let facts = &survey.dockerfiles[layer].facts;
        let facts = facts.as_ref().expect("invariant: a sound graph has read every Dockerfile");
        let (listing, definition) = listing?;
        inputs.push(LayerInputs { declared: by_name[layer], facts, listing, definition });
    }
    Ok(inputs)
}

/// Each context, in the same order.
fn read_all(reader: Reader, root: &Path, places: &[Place]) -> Vec<Result<(Listing, Definition), ContextError>> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(places.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = places.get(index) else { return done };
            done.push((index, reader.read(root, &place.context, &place.dockerfile)));
        }
    };
    let mut listings: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("invariant: readers do not panic")).collect()
    });
    listings.sort_by_key(|(index, _)| *index);
    listings.into_iter().map(|(_, listing)| listing).collect()
}

//! Moves the pins of a catalog's external images to their tags' current digests. Not responsible for: substituted
//! images.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::planning::pins;
use super::planning::survey::Survey;
use super::session::Session;
use crate::adapters::store;
use crate::domain::base::{Digest, Platform};
use crate::domain::graph::LayerGraph;
use crate::domain::model::{ImageRef, Lock};

/// One pin that moves.
pub struct PinMove {
    /// The image's normalised reference.
    pub image: String,
    /// `None` if the pin is new.
    pub from: Option<Digest>,
    /// `None` if the image is no longer used.
    pub to: Option<Digest>,
}

/// The result of an update.
pub struct Update {
    /// In name order, unused images last.
    pub moves: Vec<PinMove>,
    /// Whether the lock was written.
    pub written: bool,
}

/// Resolves every tag; writes the lock unless it is a dry run.
pub fn update(session: &Session, survey: &Survey, graph: &LayerGraph, dry_run: bool) -> Result<Update, Error> {
    let config = session.config();
    let old = store::read_lock(&config.lock)?.unwrap_or_default();
    let mut new = Lock::default();
    let mut moves = Vec::new();
    for (name, (image, platforms)) in used(survey, graph)? {
        let before = old.images.get(&name);
        if config.substitute(&image).is_some() {
            // A substituted image keeps its pin.
            new.images.extend(before.map(|pin| (name, pin.clone())));
            continue;
        }
        let mut pin = session.wait(pins::resolve(&image, &platforms))??;
        match before {
            // The same image has the same triggers, even where they could not be read this time.
            Some(before) if before.digest == pin.digest && pin.on_build.is_empty() => pin = before.clone(),
            Some(before) if before.digest == pin.digest => {}
            before => {
                let from = before.map(|pin| pin.digest.clone());
                moves.push(PinMove { image: name.clone(), from, to: Some(pin.digest.clone()) });
            }
        }
        new.images.insert(name, pin);
    }
    for (name, pin) in old.images.iter().filter(|(name, _)| !new.images.contains_key(*name)) {
        moves.push(PinMove { image: name.clone(), from: Some(pin.digest.clone()), to: None });
    }
    let written = !dry_run && new != old;
    if written {
        store::change_lock(&config.lock, |lock| apply(&old, &new, lock))?;
    }
    Ok(Update { moves, written })
}

/// Makes the changes from `old` to `new` in the lock as it is now: what others added meanwhile stays.
fn apply(old: &Lock, new: &Lock, now: &mut Lock) {
    now.images.retain(|name, pin| new.images.contains_key(name) || old.images.get(name) != Some(pin));
    let moved = new.images.iter().filter(|(name, pin)| old.images.get(*name) != Some(*pin));
    now.images.extend(moved.map(|(name, pin)| (name.clone(), pin.clone())));
}

/// An image, with the platforms for which it is used; none for a frontend.
type Used = (ImageRef, BTreeSet<Platform>);

/// A catalog's external images that need a pin, by normalised reference: those without a digest of their own.
fn used(survey: &Survey, graph: &LayerGraph) -> Result<BTreeMap<String, Used>, Error> {
    let mut images: Vec<Used> = Vec::new();
    for layer in graph.layers() {
        let externals = graph.externals(layer).into_iter();
        images.extend(externals.map(|(image, platforms)| (image.clone(), platforms.clone())));
    }
    for declared in &survey.catalog.layers {
        images.extend(pins::frontend(declared)?.map(|image| (image, BTreeSet::new())));
    }
    let mut used: BTreeMap<String, Used> = BTreeMap::new();
    for (image, platforms) in images.into_iter().filter(|(image, _)| image.digest.is_none()) {
        let entry = used.entry(image.normalised()).or_insert_with(|| (image, BTreeSet::new()));
        entry.1.extend(platforms);
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::Pin;

    fn lock(pins: &[(&str, &str)]) -> Lock {
        let images = pins.iter().map(|(name, of)| ((*name).to_owned(), Pin::new(Digest::of(of)))).collect();
        Lock { images, ..Lock::default() }
    }

    #[test]
    fn an_update_changes_what_it_saw_and_leaves_what_came_meanwhile() {
        let old = lock(&[("kept", "1"), ("moved", "1"), ("unused", "1"), ("unused, then pinned again", "1")]);
        let new = lock(&[("kept", "1"), ("moved", "2"), ("added", "2")]);
        let mut now = lock(&[
            ("kept", "moved by another"),
            ("moved", "1"),
            ("unused", "1"),
            ("unused, then pinned again", "3"),
            ("added meanwhile", "3"),
        ]);
        apply(&old, &new, &mut now);
        let expected = lock(&[
            ("kept", "moved by another"),
            ("moved", "2"),
            ("unused, then pinned again", "3"),
            ("added", "2"),
            ("added meanwhile", "3"),
        ]);
        assert_eq!(now, expected);
    }
}

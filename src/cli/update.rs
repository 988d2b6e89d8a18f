//! `lian-build update`: moves the pins of `lian.lock` to what tags mean now. Not responsible for: touching substituted images.

use std::collections::BTreeMap;

use super::args::{Format, Global, Source};
use super::exit::{Exit, Outcome};
use super::show;
use crate::adapters::store;
use crate::app::config::Config;
use crate::app::planning::pins;
use crate::app::planning::survey::Survey;
use crate::domain::model::{Lock, Pin};

/// Runs the command.
pub fn update(global: &Global, source: &Source, dry_run: bool) -> Outcome {
    let started = std::time::Instant::now();
    let settings = Config::of_source(&source.into())?;
    let survey = Survey::of_catalog(&settings)?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    let path = settings.lock.clone();
    let old = store::read_lock(&path)?.unwrap_or_default();
    let mut images = BTreeMap::new();
    for layer in graph.layers() {
        for image in graph.externals(layer) {
            images.insert(image.normalised(), image);
        }
    }
    for declared in &survey.catalog.layers {
        if let Some(image) = crate::app::planning::pins::frontend(declared)? {
            images.insert(image.normalised(), image);
        }
    }
    let mut new = Lock::default();
    let mut lines = Vec::new();
    let mut moves = Vec::new();
    for (name, image) in images.iter().filter(|(_, image)| image.digest.is_none()) {
        if settings.base_images.contains_key(name) {
            // What a substitute stands in for keeps the pin it has.
            if let Some(pin) = old.images.get(name) {
                new.images.insert(name.clone(), pin.clone());
            }
            continue;
        }
        let digest = crate::app::runtime()?.block_on(pins::resolve(image))?;
        let before = old.images.get(name).map(|pin| pin.digest.clone());
        if before.as_ref() != Some(&digest) {
            let was = before.as_ref().map_or("new", |digest| digest.short());
            lines.push(format!("{name}  {was} → {}", digest.short()));
            moves.push(serde_json::json!({ "image": name, "from": before, "to": digest }));
        }
        new.images.insert(name.clone(), Pin { digest });
    }
    for name in old.images.keys().filter(|name| !new.images.contains_key(*name)) {
        lines.push(format!("{name}  no longer used"));
        moves.push(serde_json::json!({ "image": name, "from": old.images[name].digest, "to": null }));
    }
    if !dry_run && new != old {
        store::write_lock(&path, &new)?;
    }
    if global.format == Format::Json {
        show::json(&serde_json::json!({ "schema": 1, "moves": moves, "written": !dry_run && new != old }));
    } else if lines.is_empty() {
        if !global.quiet {
            show::out(&format!("{}: every pin is what its tag means now\n", path.display()));
        }
    } else {
        show::out(&format!("{}\n", lines.join("\n")));
    }
    Ok(Exit::Done)
}

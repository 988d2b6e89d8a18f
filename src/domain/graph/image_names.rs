//! Checks the names of images: that no two images of the catalog have one name, and that no base from outside has a
//! name in the catalog's namespace. Not responsible for: what Dockerfiles name.

use std::collections::BTreeMap;

use super::layer_index::LayerIndex;
use crate::domain::base::SourceLocation;
use crate::domain::model::{Base, Declared, Diagnostic, ImageName, ImageRef};

pub(super) fn check(indexed: &LayerIndex<'_>) -> Vec<Diagnostic> {
    let mut faults = collisions(indexed);
    faults.extend(indexed.layers.iter().filter_map(|declared| outside_is_inside(indexed, declared)));
    faults
}

/// An image that a layer is built into.
struct Named<'a> {
    declared: &'a Declared,
    place: SourceLocation,
    text: &'static str,
}

/// Two images with one name would take their tags from each other with every build.
fn collisions(indexed: &LayerIndex<'_>) -> Vec<Diagnostic> {
    let mut names: BTreeMap<ImageName, Named<'_>> = BTreeMap::new();
    let mut faults = Vec::new();
    for declared in &indexed.layers {
        let image = ImageName::new(&indexed.catalog.settings.namespace, &declared.layer.name);
        let artifacts = (!declared.layer.artifact_paths.is_empty())
            .then(|| (image.artifacts(), "artifact_paths", "its artifacts get this name"));
        for (name, field, text) in [(image, "name", "its image gets this name")].into_iter().chain(artifacts) {
            let named = Named { declared, place: declared.place(field), text };
            match names.get(&name) {
                Some(first) => faults.push(collision(&name, first, &named)),
                None => {
                    names.insert(name, named);
                }
            }
        }
    }
    faults
}

fn collision(name: &ImageName, first: &Named<'_>, second: &Named<'_>) -> Diagnostic {
    let (one, other) = (&first.declared.layer.name, &second.declared.layer.name);
    // The longer name is that of the layer that is called like the other one's artifacts.
    let renamed = if one.as_str().len() > other.as_str().len() { one } else { other };
    Diagnostic::error(
        "lian::graph::image_name",
        format!("layers `{one}` and `{other}` would both be the image `{name}`"),
    )
    .layer(renamed)
    .label(second.place.clone(), second.text)
    .label(first.place.clone(), first.text)
    .help(format!("rename layer `{renamed}`: `…-artifacts` is the image of another layer's `artifact_paths`"))
}

/// An image in the catalog's namespace is a layer of the catalog, or a name that a layer may get.
fn outside_is_inside(indexed: &LayerIndex<'_>, declared: &Declared) -> Option<Diagnostic> {
    let Base::External { image } = &declared.layer.build_base else { return None };
    let name = indexed.in_namespace(&image.parse::<ImageRef>().ok()?)?;
    let namespace = &indexed.catalog.settings.namespace;
    let layer = &declared.layer.name;
    let message = format!("the base `{image}` of `{layer}` lies in the catalog's own namespace `{namespace}/`");
    let fault = Diagnostic::error("lian::graph::own_namespace", message).layer(layer);
    let place = declared.place("build_base.image");
    let outside = "name an image outside of it, or give the catalog another `namespace` in `catalog.ncl`";
    Some(match indexed.find(&name) {
        Some(found) if found.layer.name == *layer => {
            fault.label(place, "this is the layer itself").help(format!("a layer cannot stand on itself: {outside}"))
        }
        Some(_) => fault.label(place, "a layer of this catalog").help(format!("write `build_base = \"{name}\"`")),
        None => match indexed.meant(&name, layer) {
            Some(meant) => {
                fault.label(place, "no such layer").help(format!("did you mean `build_base = \"{meant}\"`?"))
            }
            None => fault.label(place, "no such layer").help(outside),
        },
    })
}

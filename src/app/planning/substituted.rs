//! Digests beside substitutes: warns of those that a build does not keep, since the substitute of the image's name holds
//! another image; refuses those that a substitute holds for another platform than a stage asks for. Not responsible for:
//! choosing the image (see `pins`).

use std::collections::{BTreeMap, BTreeSet};

use super::target_platforms::TargetPlatforms;
use crate::app::config::Config;
use crate::app::trust;
use crate::domain::base::{Digest, LayerName, Platform, SourceLocation};
use crate::domain::model::{Base, Catalog, Declared, Diagnostic, DockerfileRead, ImageRef, UseKind};

/// How many places of one digest are marked.
const MARKED: usize = 3;

/// A digest that is written somewhere.
struct Written<'a> {
    layer: &'a LayerName,
    image: ImageRef,
    place: SourceLocation,
    platforms: Vec<Platform>,
}

/// What becomes of one image: for each digest that is not kept, where it is written first.
#[derive(Default)]
struct Replaced<'a> {
    digests: BTreeMap<String, Vec<(&'a LayerName, SourceLocation)>>,
    becomes: BTreeSet<Digest>,
}

/// All that is to be said of digests beside substitutes.
pub(super) fn check(
    config: &Config,
    catalog: &Catalog,
    dockerfiles: &BTreeMap<LayerName, DockerfileRead>,
    platforms: &TargetPlatforms,
) -> Vec<Diagnostic> {
    let config = &*trust::with_granted_images(config);
    if config.base_images.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Diagnostic> =
        dockerfiles.iter().flat_map(|(layer, read)| for_another_platform(config, layer, read)).collect();
    found.extend(warnings(config, catalog, dockerfiles, platforms));
    found
}

/// A pinned image may be taken for whatever platform, unless `FROM --platform=` itself asks for another one.
fn for_another_platform(config: &Config, layer: &LayerName, read: &DockerfileRead) -> Vec<Diagnostic> {
    let uses = read.facts.iter().flat_map(|facts| &facts.uses);
    let fixed = uses.filter(|used| used.kind == UseKind::From && !used.for_target && !used.for_builder);
    let mut found = Vec::new();
    for used in fixed {
        let Ok(image) = used.image.parse::<ImageRef>() else { continue };
        let (Some(digest), Some(substitute)) = (&image.digest, config.substitute(&image)) else { continue };
        for platform in &used.platforms {
            let Err(error) = substitute.insists(digest, platform) else { continue };
            let place = SourceLocation { file: read.file.clone(), span: used.span };
            found.push(
                Diagnostic::error("lian::registries::other_platform", error.to_string())
                    .layer(layer)
                    .label(place, format!("`--platform` asks for {platform}"))
                    .help("pin the digest of an image for that platform, or change `--platform`"),
            );
        }
    }
    found
}

/// One warning for each image. Whoever substitutes an image by its digest means just that, so nothing is said.
fn warnings(
    config: &Config,
    catalog: &Catalog,
    dockerfiles: &BTreeMap<LayerName, DockerfileRead>,
    platforms: &TargetPlatforms,
) -> Vec<Diagnostic> {
    let mut images: BTreeMap<String, Replaced<'_>> = BTreeMap::new();
    for declared in &catalog.layers {
        for Written { layer, image, place, platforms } in written(declared, dockerfiles, platforms) {
            let Some(digest) = &image.digest else { continue };
            let becomes = becomes(config, &image, digest, &platforms);
            if becomes.is_empty() {
                continue;
            }
            let (name, tag) = image.tagged();
            let replaced = images.entry(format!("{name}:{tag}")).or_default();
            replaced.becomes.extend(becomes);
            let places = replaced.digests.entry(digest.clone()).or_default();
            if places.len() < MARKED && places.iter().all(|(_, known)| *known != place) {
                places.push((layer, place));
            }
        }
    }
    images.iter().map(|(name, replaced)| warning(name, replaced)).collect()
}

/// The images that a layer names: its base, its frontend, and what its Dockerfile and the triggers there use.
fn written<'a>(
    declared: &'a Declared,
    dockerfiles: &BTreeMap<LayerName, DockerfileRead>,
    platforms: &TargetPlatforms,
) -> Vec<Written<'a>> {
    let layer = &declared.layer.name;
    let targets: Vec<Platform> = platforms.of(declared).iter().cloned().collect();
    let mut found = Vec::new();
    let mut add = |text: &str, place: SourceLocation, platforms: Vec<Platform>| {
        if let Ok(image) = text.parse() {
            found.push(Written { layer, image, place, platforms });
        }
    };
    // A base that is inferred from a Dockerfile is written there alone.
    let is_written = declared.places.keys().any(|field| field.starts_with("build_base"));
    if let (Base::External { image }, true) = (&declared.layer.build_base, is_written) {
        add(image, declared.place("build_base.image"), targets);
    }
    if let Some(frontend) = &declared.layer.frontend {
        add(frontend, declared.place("frontend"), vec![platforms.builder(declared).clone()]);
    }
    if let Some(DockerfileRead { file, facts: Ok(facts) }) = dockerfiles.get(layer) {
        for used in &facts.uses {
            let place = SourceLocation { file: file.clone(), span: used.span };
            add(&used.image, place, used.platforms.clone());
        }
    }
    found
}

/// The images that take the place of a digest; none if it is kept, or if the substitute cannot be used, which is
/// reported when it is needed.
fn becomes(config: &Config, image: &ImageRef, digest: &str, platforms: &[Platform]) -> Vec<Digest> {
    if config.base_images.contains_key(&image.to_string()) {
        return Vec::new();
    }
    let Some(substitute) = config.substitute(image) else { return Vec::new() };
    let sources = platforms.iter().filter_map(|platform| substitute.pinned(Some(digest), platform).ok());
    sources.map(|source| source.digest().clone()).filter(|found| found.as_str() != digest).collect()
}

fn warning(name: &str, Replaced { digests, becomes }: &Replaced<'_>) -> Diagnostic {
    let image = name.parse().map_or_else(|_| name.to_owned(), |image: ImageRef| image.familiar());
    let and = |words: Vec<&str>| words.join(" and ");
    let (pinned, becomes) = (
        and(digests.keys().map(String::as_str).collect::<Vec<_>>()),
        and(becomes.iter().map(Digest::as_str).collect::<Vec<_>>()),
    );
    let message = match digests.len() {
        1 => format!("`{image}` is pinned to {pinned}, and its substitute holds another image: {becomes}"),
        _ => format!("`{image}` is pinned to {pinned}, and its substitute makes them one image: {becomes}"),
    };
    let mut warning = Diagnostic::warning("lian::registries::substituted_digest", message);
    for (digest, places) in digests {
        for (layer, place) in places {
            warning = if warning.layer.is_none() { warning.layer(layer) } else { warning };
            warning = warning.label(place.clone(), format!("not built on {}", short(digest)));
        }
    }
    let first = digests.keys().next().map(String::as_str).unwrap_or_default();
    let way = "name a substitute for each digest";
    let way = if digests.len() > 1 { way } else { "if that is meant, name the substitute with the digest" };
    warning.help(format!("{way}: `--base-image {image}@{first}=oci-layout:DIR`"))
}

fn short(digest: &str) -> String {
    digest.parse::<Digest>().map_or_else(|_| digest.to_owned(), |digest| format!("sha256:{}", digest.short()))
}

//! Checks that parents are built for the platforms for which their children need them. BuildKit does not: it takes a
//! parent's only image for any platform. Not responsible for: deciding platforms.

use std::collections::{BTreeMap, BTreeSet};

use super::layer_index::LayerIndex;
use crate::domain::base::{LayerName, Platform, Platforms, SourceLocation};
use crate::domain::model::{Base, Declared, Diagnostic, ImageUse};

/// The platforms that one layer needs of its parents and does not find there.
#[derive(Default)]
pub(super) struct Lacking<'a> {
    /// With the place of the first use.
    parents: BTreeMap<LayerName, (&'a Declared, BTreeSet<Platform>, SourceLocation)>,
}

impl<'a> Lacking<'a> {
    /// Adds one use of a layer's image.
    pub fn add(
        &mut self,
        indexed: &LayerIndex<'_>,
        user: &LayerName,
        parent: &'a Declared,
        used: &ImageUse,
        place: SourceLocation,
    ) {
        let known = &indexed.evidence.platforms;
        if !known.layers.contains_key(user) || (used.for_builder && !known.builders) {
            return;
        }
        let missing: BTreeSet<Platform> = match known.layers.get(&parent.layer.name) {
            Some(built) => used.platforms.iter().filter(|needed| !serves(built, needed)).cloned().collect(),
            // One platform cannot be several.
            None if used.platforms.len() > 1 => used.platforms.iter().cloned().collect(),
            None => return,
        };
        if !missing.is_empty() {
            let entry = self.parents.entry(parent.layer.name.clone());
            entry.or_insert_with(|| (parent, BTreeSet::new(), place)).1.extend(missing);
        }
    }

    /// One fault for each parent.
    pub fn faults(self, indexed: &LayerIndex<'_>, declared: &Declared) -> Vec<Diagnostic> {
        let parents = self.parents.into_values();
        parents.map(|(parent, missing, place)| fault(indexed, (declared, parent), &missing, place)).collect()
    }
}

fn fault(
    indexed: &LayerIndex<'_>,
    (declared, parent): (&Declared, &Declared),
    missing: &BTreeSet<Platform>,
    place: SourceLocation,
) -> Diagnostic {
    let (user, name) = (&declared.layer.name, &parent.layer.name);
    let role = if declared.layer.build_base == Base::Layer(name.clone()) { "base" } else { "input" };
    let list = |platforms: Vec<&str>, joint: &str| platforms.join(joint);
    let wanted = list(missing.iter().map(Platform::as_str).collect(), " and ");
    let quoted = missing.iter().map(|platform| format!("\"{platform}\"")).collect::<Vec<_>>().join(", ");
    let (built, text) = match indexed.evidence.platforms.layers.get(name) {
        Some(built) => {
            let built = list(built.iter().map(Platform::as_str).collect(), " and ");
            (format!("only for {built}"), format!("built for {built}"))
        }
        None => ("for one platform, its runner's".to_owned(), "built for one platform".to_owned()),
    };
    let written = |layer: &Declared| if layer.layer.platforms.is_empty() { "name" } else { "platforms" };
    let own = match declared.layer.platforms.is_empty() {
        true => place,
        false => declared.place("platforms"),
    };
    let help = match parent.layer.platforms.is_empty() {
        true => format!("declare them for `{name}`, too: `platforms = [{quoted}]`"),
        false => format!("add {quoted} to the `platforms` of `{name}`, or remove it from those of `{user}`"),
    };
    let message = format!("layer `{user}` needs its {role} `{name}` for {wanted}, and that is built {built}");
    Diagnostic::error("lian::graph::missing_platform", message)
        .layer(user)
        .label(own, format!("needed for {wanted}"))
        .label(parent.place(written(parent)), text)
        .help(help)
}

/// Whether an image that is built for these platforms has one for `needed`: the same architecture, and a variant that
/// needs no more than that.
fn serves(built: &Platforms, needed: &Platform) -> bool {
    let needed = needed.normalised();
    built.iter().map(Platform::normalised).any(|built| {
        let same = (built.os(), built.architecture()) == (needed.os(), needed.architecture());
        same && (built.variant() == needed.variant() || level(&built).zip(level(&needed)).is_some_and(|(a, b)| a <= b))
    })
}

/// The number of a variant such as `v7`. Platforms without one have the lowest of their architecture.
fn level(platform: &Platform) -> Option<u32> {
    match (platform.architecture(), platform.variant()) {
        ("amd64", "") => Some(1),
        ("arm64", "") => Some(8),
        (_, variant) => variant.strip_prefix('v')?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_serves_its_own_platform_and_greater_variants() {
        for (built, needed, wanted) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64,linux/arm64/v8", "linux/arm64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v3", "linux/amd64/v2", false),
            ("linux/arm/v6", "linux/arm", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/amd64", "linux/386", false),
            ("linux/riscv64", "linux/riscv64", true),
        ] {
            assert_eq!(serves(&built.into(), &needed.into()), wanted, "{built} for {needed}");
        }
    }
}

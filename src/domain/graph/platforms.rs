//! Checks that parents are built for the platforms for which their children need them, and that an image is made of what
//! it is built for. BuildKit does neither: it takes a parent's only image for any platform, and calls an image what was
//! asked for, whatever its last stage is of. Not responsible for: deciding platforms.

use std::collections::{BTreeMap, BTreeSet};

use super::layer_index::LayerIndex;
use super::places::Places;
use crate::domain::base::{LayerName, Platform, Platforms, SourceLocation};
use crate::domain::model::{Base, Declared, Diagnostic, DockerfileFacts, ImageUse, StagePlatform};

/// The platforms that one layer needs of its parents and does not find there.
#[derive(Default)]
pub(super) struct Lacking<'a> {
    /// What the layer's own platforms ask for, and what its Dockerfile asks for whatever these are (true).
    parents: BTreeMap<(LayerName, bool), Lack<'a>>,
}

/// What one parent lacks.
struct Lack<'a> {
    parent: &'a Declared,
    missing: BTreeSet<Platform>,
    /// The place of the first use.
    place: SourceLocation,
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
        if (used.for_target && !known.layers.contains_key(user)) || (used.for_builder && !known.builders) {
            return;
        }
        let missing: BTreeSet<Platform> = match known.layers.get(&parent.layer.name) {
            Some(built) => used.platforms.iter().filter(|needed| !serves(built, needed)).cloned().collect(),
            // One platform cannot be several.
            None if used.platforms.len() > 1 => used.platforms.iter().cloned().collect(),
            None => return,
        };
        if !missing.is_empty() {
            let entry = self.parents.entry((parent.layer.name.clone(), !used.for_target));
            let lack = entry.or_insert_with(|| Lack { parent, missing: BTreeSet::new(), place });
            lack.missing.extend(missing);
        }
    }

    /// One fault for each parent, and one more where the Dockerfile asks for platforms of its own.
    pub fn faults(self, indexed: &LayerIndex<'_>, declared: &Declared) -> Vec<Diagnostic> {
        let parents = self.parents.into_iter();
        parents.map(|((_, own), lack)| fault(indexed, declared, lack, own)).collect()
    }
}

/// The fault of a parent that lacks platforms; `own` if the Dockerfile asks for them, and not the layer's `platforms`.
fn fault(indexed: &LayerIndex<'_>, declared: &Declared, lack: Lack<'_>, own: bool) -> Diagnostic {
    let Lack { parent, missing, place } = lack;
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
    let (at, text_at) = match (own, declared.layer.platforms.is_empty()) {
        (true, _) => (place, format!("`--platform` asks for {wanted}")),
        (false, true) => (place, format!("needed for {wanted}")),
        (false, false) => (declared.place("platforms"), format!("needed for {wanted}")),
    };
    let help = match (own, parent.layer.platforms.is_empty()) {
        (true, true) => {
            format!("declare them for `{name}`: `platforms = [{quoted}]`, or change `--platform` in the Dockerfile")
        }
        (true, false) => {
            format!("add {quoted} to the `platforms` of `{name}`, or change `--platform` in the Dockerfile")
        }
        (false, true) => format!("declare them for `{name}`, too: `platforms = [{quoted}]`"),
        (false, false) => {
            format!("add {quoted} to the `platforms` of `{name}`, or remove it from those of `{user}`")
        }
    };
    let message = format!("layer `{user}` needs its {role} `{name}` for {wanted}, and that is built {built}");
    Diagnostic::error("lian::graph::missing_platform", message)
        .layer(user)
        .label(at, text_at)
        .label(parent.place(written(parent)), text)
        .help(help)
}

/// The fault of an image that begins with one for another platform than the layer is built for, as far as both are known.
pub(super) fn of_others(places: &Places<'_>, declared: &Declared, facts: &DockerfileFacts) -> Option<Diagnostic> {
    let layer = &declared.layer;
    let known = &places.indexed.evidence.platforms;
    let built = known.layers.get(&layer.name)?;
    let several = built.iter().map(Platform::normalised).collect::<BTreeSet<_>>().len() > 1;
    let of_other = |begun: &&StagePlatform| {
        // Whatever the machine that builds is, it is not several platforms at once.
        let sure = !begun.for_builder || known.builders || (several && !begun.for_target);
        sure && !serves(&begun.found.clone().into(), &begun.wanted)
    };
    let others: Vec<&StagePlatform> = facts.begins.iter().filter(of_other).collect();
    let first = others.first()?;
    let list = |platforms: BTreeSet<Platform>| platforms.iter().map(Platform::as_str).collect::<Vec<_>>().join(" and ");
    let (wanted, found) = match first.for_builder && !known.builders {
        true => (
            list(facts.begins.iter().map(|begun| begun.wanted.clone()).collect()),
            "the machine that builds".to_owned(),
        ),
        false => (
            list(others.iter().map(|begun| begun.wanted.clone()).collect()),
            list(others.iter().map(|begun| begun.found.clone()).collect()),
        ),
    };
    let name = &layer.name;
    let message =
        format!("layer `{name}` is built for {wanted}, and its image would be one of {found} under that name");
    let fault = Diagnostic::error("lian::graph::other_platform", message)
        .layer(name)
        .label(places.own(first.span), format!("`--platform` asks for {found}"));
    let fault = match declared.places.contains_key("platforms") {
        true => fault.label(declared.place("platforms"), format!("built for {wanted}")),
        false => fault,
    };
    let out = "take `--platform` out of this FROM: a stage that is only copied from may keep its own";
    Some(fault.help(match (first.for_builder || first.for_target || several, places.indexed.evidence.alone) {
        (true, _) => out.to_owned(),
        (false, true) => format!("build for that platform: `--platform {found}`, or {out}"),
        (false, false) => format!("declare it for `{name}`: `platforms = [\"{found}\"]`, or {out}"),
    }))
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

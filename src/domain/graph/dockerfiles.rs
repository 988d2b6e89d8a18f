//! Compares Dockerfiles with declarations: the images that are used with the parents that are declared. Not responsible
//! for: reading Dockerfiles.

use std::collections::{BTreeMap, BTreeSet};

use super::layer_graph::{ImageOrigin, Images, UsedImage};
use super::layer_index::LayerIndex;
use super::mounts;
use super::places::Places;
use super::platforms::{self, Lacking};
use crate::domain::base::{LayerName, Platform, SourceLocation, Span, nearest};
use crate::domain::model::{
    Base, Declared, Diagnostic, DockerfileFault, DockerfileRead, ImageName, ImageRef, ImageUse, Severity, UseKind,
};

/// The code of faults about a declaration that disagrees with its Dockerfile.
pub const MISMATCH: &str = "lian::dockerfile::base_mismatch";

/// Checks one layer against its Dockerfile and returns the images that its build needs.
pub(super) fn check<'a>(
    indexed: &'a LayerIndex<'a>,
    declared: &'a Declared,
    read: Option<&'a DockerfileRead>,
    faults: &mut Vec<Diagnostic>,
) -> Images {
    let Some(read) = read else { return Images::default() };
    match &read.facts {
        Err(found) => {
            faults.extend(found.iter().map(|fault| unreadable(declared, read, fault)));
            Images::default()
        }
        Ok(facts) => {
            let mut check = Check::new(indexed, declared, read);
            let begun = platforms::of_others(&check.places, declared, facts);
            for image in &facts.uses {
                check.image(image);
            }
            let warning = |doubt| Diagnostic { severity: Severity::Warning, ..unreadable(declared, read, doubt) };
            let doubts = facts.doubts.iter().map(warning);
            check.faults.extend(doubts);
            check.base();
            check.faults.append(&mut check.undeclared);
            check.inputs();
            check.faults.extend(mounts::check(&check.places, declared, facts, indexed.evidence.alone));
            check.faults.extend(std::mem::take(&mut check.lacking).faults(indexed, declared));
            check.faults.extend(begun);
            faults.append(&mut check.faults);
            let looked_up = facts.looked_up.iter().filter(|name| !check.seen.contains_key(*name)).cloned().collect();
            Images { used: check.seen.into_values().collect(), looked_up }
        }
    }
}

fn unreadable(declared: &Declared, read: &DockerfileRead, fault: &DockerfileFault) -> Diagnostic {
    let (place, text) = match fault.span {
        Some(span) => (SourceLocation { file: read.file.clone(), span }, "here"),
        None => (declared.place("target"), "no such stage"),
    };
    let mut diagnostic =
        Diagnostic::error(fault.kind.code(), fault.message.clone()).layer(&declared.layer.name).label(place, text);
    diagnostic.help.clone_from(&fault.help);
    diagnostic
}

/// The check of one layer.
pub(super) struct Check<'a> {
    pub indexed: &'a LayerIndex<'a>,
    pub declared: &'a Declared,
    pub read: &'a DockerfileRead,
    pub places: Places<'a>,
    pub faults: Vec<Diagnostic>,
    /// The declared base, if it is an image from outside.
    pub outside: Option<ImageRef>,
    /// By the name of the named context.
    seen: BTreeMap<String, UsedImage>,
    /// Layers and external images, with the instruction that uses them.
    pub used: Vec<(ImageOrigin, UseKind, Span)>,
    /// Faults about layers that FROM names and the declaration does not. They are dropped if a wrong `build_base`
    /// explains them.
    pub undeclared: Vec<Diagnostic>,
    lacking: Lacking<'a>,
}

impl<'a> Check<'a> {
    fn new(indexed: &'a LayerIndex<'a>, declared: &'a Declared, read: &'a DockerfileRead) -> Self {
        let outside = match &declared.layer.build_base {
            Base::External { image } => image.parse().ok(),
            Base::Layer(_) => None,
        };
        Self {
            indexed,
            declared,
            read,
            places: Places { indexed, read },
            faults: Vec::new(),
            outside,
            seen: BTreeMap::new(),
            used: Vec::new(),
            undeclared: Vec::new(),
            lacking: Lacking::default(),
        }
    }

    pub(super) fn name(&self) -> &'a LayerName {
        &self.declared.layer.name
    }

    pub(super) fn place(&self, image: &ImageUse) -> SourceLocation {
        self.places.own(image.span)
    }

    fn image(&mut self, image: &ImageUse) {
        // The Dockerfile's reader has already rejected texts that are not references.
        let Ok(reference) = image.image.parse::<ImageRef>() else { return };
        let origin = match self.indexed.in_namespace(&reference) {
            None => {
                self.bare(image, &reference);
                ImageOrigin::External(self.pinned(&reference))
            }
            Some(name) => match self.layer(image, &reference, &name) {
                Some(origin) => origin,
                None => return,
            },
        };
        self.used.push((origin.clone(), image.kind, image.span));
        let context = reference.context_name();
        let platforms = BTreeSet::new();
        let entry = self.seen.entry(context.clone()).or_insert(UsedImage { context, origin, platforms });
        entry.platforms.extend(image.platforms.iter().map(Platform::normalised));
    }

    /// Warns of a bare name that looks like a stage or a layer and means an image of a public registry. Whoever wants
    /// that image writes its tag.
    fn bare(&mut self, image: &ImageUse, reference: &ImageRef) {
        let name = image.image.as_str();
        if image.kind == UseKind::From || name.contains(['/', ':', '@']) || self.is_base(reference) {
            return;
        }
        let stages = self.read.facts.iter().flat_map(|facts| &facts.stages);
        let stage = nearest(&name.to_lowercase(), stages.filter_map(|stage| stage.name.as_deref()));
        let layer = || self.indexed.meant(name, self.name()).map(|layer| format!("`{}/{layer}`", self.namespace()));
        let exact = self.indexed.find(name).map(|layer| format!("`{}/{}`", self.namespace(), layer.layer.name));
        let Some(meant) = exact.or_else(|| stage.map(|stage| format!("the stage `{stage}`"))).or_else(layer) else {
            return;
        };
        let message = format!("`{name}` is neither a stage nor a layer: it is an image of {}", reference.registry);
        let fault = Diagnostic::warning("lian::dockerfile::bare_name", message).layer(self.name());
        let help = format!("did you mean {meant}? If not, write its tag: `{name}:{}`", reference.tagged().1);
        let fault = self.places.marked(fault, image.span, image.trigger.as_ref(), "used here").help(help);
        self.faults.push(fault);
    }

    /// The image, at the digest that the declaration of the base names for it.
    fn pinned(&self, image: &ImageRef) -> ImageRef {
        match &self.outside {
            Some(ImageRef { digest: Some(digest), .. }) if image.digest.is_none() && self.is_base(image) => {
                ImageRef { digest: Some(digest.clone()), ..image.clone() }
            }
            _ => image.clone(),
        }
    }

    /// Whether this may be the declared base, which is an image from outside.
    fn is_base(&self, image: &ImageRef) -> bool {
        self.outside.as_ref().is_some_and(|base| base.agrees_with(image))
    }

    /// The layer that a reference in the catalog's namespace means, if the declaration allows it.
    fn layer(&mut self, image: &ImageUse, reference: &ImageRef, name: &str) -> Option<ImageOrigin> {
        let exact = self.indexed.find(name);
        let promoted = ImageName::layer_of_artifacts(name).and_then(|layer| self.indexed.find(layer));
        let (found, origin) = match (exact, promoted) {
            (Some(found), _) => (found, ImageOrigin::Layer(found.layer.name.clone())),
            (None, Some(found)) => (found, ImageOrigin::Artifacts(found.layer.name.clone())),
            (None, None) => {
                self.unknown(image, name);
                return None;
            }
        };
        let parent = &found.layer.name;
        // A base that is declared as an image from outside, and is none, was reported before.
        if self.is_own_outside(reference) {
            return Some(origin);
        }
        if parent == self.name() {
            // A base or an input of the layer's own name was reported before.
            if self.declared.layer.parents().contains(&parent) {
                return None;
            }
            let user = self.places.user(parent, image.trigger.as_ref());
            let message = format!("{user} uses the image that it builds");
            self.mismatch(image, message, "this is the layer itself", "name what it stands on".to_owned());
            return None;
        }
        self.lacking.add(self.indexed, self.name(), found, image, self.places.own(image.span));
        if reference.digest.is_some() || reference.tagged().1 != "latest" {
            let message = format!("`{}` names a layer with a tag or a digest of its own", image.image);
            let plain = format!("write `{}/{name}`: lian-build hands over the exact image", self.namespace());
            self.mismatch(image, message, "a layer of this catalog", plain);
        } else if matches!(origin, ImageOrigin::Artifacts(_)) && found.layer.artifact_paths.is_empty() {
            let message = format!("layer `{parent}` promotes no artifacts");
            self.mismatch(image, message, "there is no such image", format!("give `{parent}` `artifact_paths`"));
        }
        if !self.declared.layer.parents().contains(&parent) {
            let user = self.places.user(self.name(), image.trigger.as_ref());
            let message = format!("{user} uses layer `{parent}`, which is not declared");
            let help = match (image.kind, &self.declared.layer.build_base) {
                (UseKind::From, Base::External { .. }) => {
                    format!("set `build_base = \"{parent}\"`, or add it to `build_inputs`")
                }
                _ => format!("add `\"{parent}\"` to `build_inputs`"),
            };
            let fault = self.fault(image, message, "used here", help);
            match image.kind {
                UseKind::From => self.undeclared.push(fault),
                UseKind::Copy | UseKind::Mount => self.faults.push(fault),
            }
        }
        Some(origin)
    }

    fn namespace(&self) -> &str {
        &self.indexed.catalog.settings.namespace
    }

    /// The name of a layer's image.
    pub(super) fn image_name(&self, layer: &LayerName) -> ImageName {
        ImageName::new(self.namespace(), layer)
    }

    fn mismatch(&mut self, image: &ImageUse, message: String, label: &str, help: String) {
        let fault = self.fault(image, message, label, help);
        self.faults.push(fault);
    }

    fn fault(&self, image: &ImageUse, message: String, label: &str, help: String) -> Diagnostic {
        let fault = Diagnostic::error(MISMATCH, message).layer(self.name());
        self.places.marked(fault, image.span, image.trigger.as_ref(), label).help(help)
    }

    /// Whether this image lies in the catalog's namespace and is the base that is declared as one from outside.
    fn is_own_outside(&self, image: &ImageRef) -> bool {
        self.outside.as_ref().is_some_and(|base| base.name() == image.name())
    }

    fn unknown(&mut self, image: &ImageUse, name: &str) {
        if image.image.parse().is_ok_and(|image| self.is_own_outside(&image)) {
            return;
        }
        let told = |name: &str| {
            let declared = self.declared.layer.parents().into_iter().any(|parent| parent.as_str() == name);
            declared || self.indexed.evidence.broken.contains(name)
        };
        if told(name) || ImageName::layer_of_artifacts(name).is_some_and(told) {
            return;
        }
        let help = match self.indexed.meant(name, self.name()) {
            Some(meant) => format!("did you mean `{}/{meant}`?", self.namespace()),
            None => format!(
                "declare it in `{}`, or name an image outside of `{}/`",
                self.indexed.catalog.root.join(name).join("workflow.ncl").display(),
                self.namespace()
            ),
        };
        let user = self.places.user(self.name(), image.trigger.as_ref());
        let message = format!("{user} uses `{}`, which is not a layer of this catalog", image.image);
        let fault = Diagnostic::error("lian::dockerfile::unknown_layer", message).layer(self.name());
        self.faults.push(self.places.marked(fault, image.span, image.trigger.as_ref(), "no such layer").help(help));
    }

    /// The place where the Dockerfile uses an image; FROM comes before all other instructions.
    pub(super) fn place_of(&self, wanted: impl Fn(&ImageOrigin) -> bool) -> Option<(UseKind, SourceLocation)> {
        let found = self.used.iter().filter(|(origin, ..)| wanted(origin)).min_by_key(|(_, kind, _)| *kind);
        found.map(|(_, kind, span)| (*kind, SourceLocation { file: self.read.file.clone(), span: *span }))
    }

    fn uses_layer(&self, name: &LayerName) -> bool {
        let is_it = |origin: &ImageOrigin| match origin {
            ImageOrigin::Layer(layer) | ImageOrigin::Artifacts(layer) => layer == name,
            ImageOrigin::External(_) => false,
        };
        self.place_of(is_it).is_some()
    }

    /// Whether a stage that needs another build argument or target uses this layer. The layer is then declared for that
    /// stage.
    fn may_use(&self, name: &LayerName) -> bool {
        let layer = self.image_name(name);
        let artifacts = layer.artifacts();
        let Ok(facts) = &self.read.facts else { return false };
        facts.unreached.iter().any(|used| {
            let familiar = used.image.parse::<ImageRef>().map(|image| image.familiar()).unwrap_or_default();
            [&layer, &artifacts].iter().any(|name| name.as_str() == familiar)
        })
    }

    fn inputs(&mut self) {
        let layer = &self.declared.layer;
        for (at, input) in layer.build_inputs.iter().enumerate() {
            let told = input == &layer.name || self.indexed.find(input.as_str()).is_none();
            let repeated = layer.build_inputs[..at].contains(input) || layer.build_base == Base::Layer(input.clone());
            if told || repeated || self.uses_layer(input) || self.may_use(input) {
                continue;
            }
            let message = format!("the Dockerfile of `{}` never uses its input `{input}`", layer.name);
            let fault = Diagnostic::error(MISMATCH, message)
                .layer(&layer.name)
                .label(self.declared.place(&format!("build_inputs.{at}")), "declared here")
                .note(format!("read from {}", self.read.file.display()))
                .help(format!(
                    "write `COPY --from={}/{input} …` there, or remove it from `build_inputs`",
                    self.namespace()
                ));
            self.faults.push(fault);
        }
    }
}

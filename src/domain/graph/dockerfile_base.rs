//! The base that a layer declares, compared with what its Dockerfile stands on. Not responsible for: other images (see
//! `dockerfiles`).

use super::dockerfiles::{Check, MISMATCH};
use super::layer_graph::ImageOrigin;
use crate::domain::base::SourceLocation;
use crate::domain::model::{Base, Diagnostic, ImageRef, ImageUse, UseKind};

impl Check<'_> {
    /// Checks the declared base.
    pub(super) fn base(&mut self) {
        let layer = &self.declared.layer;
        let (shown, field, use_of_base) = match &layer.build_base {
            Base::Layer(base) => {
                // An unknown base, or the layer itself as base, was reported before.
                if base == &layer.name || self.indexed.find(base.as_str()).is_none() {
                    return;
                }
                let is_base = |origin: &ImageOrigin| match origin {
                    ImageOrigin::Layer(layer) => layer == base,
                    ImageOrigin::Artifacts(_) | ImageOrigin::External(_) => false,
                };
                (self.image_name(base).to_string(), "build_base", self.place_of(is_base))
            }
            Base::External { image } if image == "scratch" && self.stands_on_nothing() => return,
            Base::External { image } => {
                let Ok(wanted) = image.parse::<ImageRef>() else {
                    self.faults.push(
                        Diagnostic::error("lian::graph::bad_image", format!("`{image}` is not an image reference"))
                            .layer(&layer.name)
                            .label(self.declared.place("build_base.image"), "the base")
                            .help("write `[registry/]name[:tag][@digest]`, in lower case"),
                    );
                    return;
                };
                if self.indexed.in_namespace(&wanted).is_some() {
                    return;
                }
                let is_base = |origin: &ImageOrigin| match origin {
                    ImageOrigin::External(used) => wanted.agrees_with(used),
                    ImageOrigin::Layer(_) | ImageOrigin::Artifacts(_) => false,
                };
                let found = self.place_of(is_base);
                if found.is_none() && self.other_digest(&wanted) {
                    return;
                }
                (wanted.context_name(), "build_base.image", found)
            }
        };
        match use_of_base {
            Some((UseKind::From, _)) => {}
            used => self.other_base(&shown, field, used.map(|(_, place)| place)),
        }
    }

    /// Reports a base that the Dockerfile pins to another digest than the declaration.
    fn other_digest(&mut self, wanted: &ImageRef) -> bool {
        let other = self.used.iter().find_map(|(origin, kind, span)| match origin {
            ImageOrigin::External(used) if *kind == UseKind::From && used.tagged() == wanted.tagged() => Some(*span),
            _ => None,
        });
        let Some(span) = other else { return false };
        let layer = self.name();
        let message =
            format!("the declaration of `{layer}` pins its base to one digest, and the Dockerfile to another");
        self.faults.push(
            Diagnostic::error(MISMATCH, message)
                .layer(layer)
                .label(self.declared.place("build_base.image"), "declared here")
                .label(self.places.own(span), "another digest")
                .help("write the same digest in both places, or leave it out in one"),
        );
        true
    }

    /// Reports that the Dockerfile is not based on the declared base. It may still copy from it at `copied`.
    fn other_base(&mut self, shown: &str, field: &str, copied: Option<SourceLocation>) {
        let layer = &self.declared.layer;
        let stands = format!("the Dockerfile of `{}`", layer.name);
        let froms = self.froms();
        let names = froms.iter().map(|(name, ..)| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        let unreached = self.unreached(shown);
        let message = match (&copied, &unreached) {
            (Some(_), _) => format!("{stands} copies from its base `{shown}` and never stands on it"),
            (None, _) if !names.is_empty() => format!("{stands} stands on {names}, not on its base `{shown}`"),
            (None, Some(_)) => format!("{stands} uses its base `{shown}` only in stages that are not built"),
            (None, None) => format!("{stands} never uses its base `{shown}`"),
        };
        let help = match froms.as_slice() {
            [(_, _, Some(written))] => format!("write `FROM {shown}` there, or set `build_base = {written}` here"),
            _ => format!("write `FROM {shown}` there, or correct `build_base`"),
        };
        let mut fault = Diagnostic::error(MISMATCH, message)
            .layer(&layer.name)
            .label(self.declared.place(field), "declared here")
            .help(help);
        for (name, place, _) in &froms {
            fault = fault.label(place.clone(), format!("stands on `{name}`"));
        }
        if let Some(place) = copied {
            fault = fault.label(place, "only copied from");
        } else if let Some(place) = unreached.filter(|_| froms.is_empty()) {
            fault = fault.label(place, "the target does not need this stage");
        } else if froms.is_empty() {
            fault = fault.note(format!("read from {}", self.read.file.display()));
        }
        // If it is based on just one other image, a wrong base and an undeclared layer are the same fault.
        if froms.len() == 1 {
            self.undeclared.clear();
        }
        self.faults.push(fault);
    }

    /// The place of a stage that the target does not need and that is based on this image.
    fn unreached(&self, shown: &str) -> Option<SourceLocation> {
        let facts = self.read.facts.as_ref().ok()?;
        let is_it = |used: &&ImageUse| {
            used.kind == UseKind::From
                && used.image.parse::<ImageRef>().is_ok_and(|image| image.context_name() == shown)
        };
        facts.unreached.iter().find(is_it).map(|used| self.place(used))
    }

    fn stands_on_nothing(&self) -> bool {
        self.read.facts.as_ref().is_ok_and(|facts| facts.from_scratch)
    }

    /// What the Dockerfile is based on: the name, the first place, and how `build_base` would write it.
    fn froms(&self) -> Vec<(String, SourceLocation, Option<String>)> {
        let mut found: Vec<(String, SourceLocation, Option<String>)> = Vec::new();
        for (origin, _, span) in self.used.iter().filter(|(_, kind, _)| *kind == UseKind::From) {
            let (name, written) = match origin {
                ImageOrigin::Layer(layer) => (self.image_name(layer).to_string(), Some(format!("\"{layer}\""))),
                ImageOrigin::Artifacts(layer) => (self.image_name(layer).artifacts().to_string(), None),
                ImageOrigin::External(image) => {
                    (image.context_name(), Some(format!("{{ image = \"{}\" }}", image.context_name())))
                }
            };
            if found.iter().all(|(known, ..)| *known != name) {
                found.push((name, SourceLocation { file: self.read.file.clone(), span: *span }, written));
            }
        }
        found
    }
}

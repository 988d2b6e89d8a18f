//! Compares Dockerfiles with declarations: the images that are used with the parents that are declared. Not responsible
//! for: reading Dockerfiles.

use std::collections::BTreeMap;

use super::layer_graph::{ImageOrigin, UsedImage};
use super::layer_index::LayerIndex;
use crate::domain::base::{LayerName, SourceLocation, Span, nearest};
use crate::domain::model::{
    Base, Declared, Diagnostic, DockerfileFacts, DockerfileFault, DockerfileRead, ImageName, ImageRef, ImageUse,
    UseKind,
};

/// The id of the secret that a workflow's `ca_bundle` gives to every build.
const CA_SECRET: &str = "ca";
/// The code of faults about a declaration that disagrees with its Dockerfile.
pub const MISMATCH: &str = "lian::dockerfile::base_mismatch";

/// Checks one layer against its Dockerfile and returns the images that it uses, by familiar name.
pub(super) fn check(
    indexed: &LayerIndex<'_>,
    declared: &Declared,
    read: Option<&DockerfileRead>,
    faults: &mut Vec<Diagnostic>,
) -> Vec<UsedImage> {
    let Some(read) = read else { return declared_base(declared) };
    match &read.facts {
        Err(found) => {
            faults.extend(found.iter().map(|fault| unreadable(declared, read, fault)));
            declared_base(declared)
        }
        Ok(facts) => {
            let mut check = Check {
                indexed,
                declared,
                read,
                faults,
                seen: BTreeMap::new(),
                used: Vec::new(),
                undeclared: Vec::new(),
            };
            for image in &facts.uses {
                check.image(image);
            }
            check.base();
            check.faults.append(&mut check.undeclared);
            check.inputs();
            check.names(facts);
            let images = check.seen.into_iter();
            images.map(|(familiar, origin)| UsedImage { familiar, origin }).collect()
        }
    }
}

fn declared_base(declared: &Declared) -> Vec<UsedImage> {
    let image = match &declared.layer.build_base {
        Base::External { image } => image.parse::<ImageRef>().ok(),
        Base::Layer(_) => None,
    };
    image
        .map(|image| UsedImage { familiar: image.familiar(), origin: ImageOrigin::External(image) })
        .into_iter()
        .collect()
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

/// The reference without its digest. A missing tag becomes `latest`, even beside a digest.
fn tagged(image: &ImageRef) -> (String, &str) {
    (image.name(), image.tag.as_deref().unwrap_or("latest"))
}

struct Check<'a, 'b> {
    indexed: &'a LayerIndex<'a>,
    declared: &'a Declared,
    read: &'a DockerfileRead,
    faults: &'b mut Vec<Diagnostic>,
    /// By familiar name.
    seen: BTreeMap<String, ImageOrigin>,
    /// Layers and external images, with the instruction that uses them.
    used: Vec<(ImageOrigin, UseKind, Span)>,
    /// Faults about layers that FROM names and the declaration does not. They are dropped if a wrong `build_base`
    /// explains them.
    undeclared: Vec<Diagnostic>,
}

impl Check<'_, '_> {
    fn name(&self) -> &LayerName {
        &self.declared.layer.name
    }

    fn place(&self, image: &ImageUse) -> SourceLocation {
        SourceLocation { file: self.read.file.clone(), span: image.span }
    }

    /// The part of the reference after the catalog's namespace; `None` if it is outside.
    fn in_namespace(&self, image: &ImageRef) -> Option<String> {
        let probe: ImageRef = format!("{}/x", self.indexed.catalog.settings.namespace).parse().ok()?;
        let prefix = probe.name();
        image.name().strip_prefix(&prefix[..prefix.len() - 1]).filter(|rest| !rest.contains('/')).map(str::to_owned)
    }

    fn image(&mut self, image: &ImageUse) {
        // The Dockerfile's reader has already rejected texts that are not references.
        let Ok(reference) = image.image.parse::<ImageRef>() else { return };
        let origin = match self.in_namespace(&reference) {
            None => ImageOrigin::External(reference.clone()),
            Some(name) => match self.layer(image, &reference, &name) {
                Some(origin) => origin,
                None => return,
            },
        };
        self.used.push((origin.clone(), image.kind, image.span));
        self.seen.entry(reference.familiar()).or_insert(origin);
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
        if parent == self.name() {
            // A base or an input of the layer's own name was reported before.
            if self.declared.layer.parents().contains(&parent) {
                return None;
            }
            let message = format!("the Dockerfile of `{parent}` uses the image that it builds");
            self.mismatch(image, message, "this is the layer itself", "name what it stands on".to_owned());
            return None;
        }
        if reference.digest.is_some() || tagged(reference).1 != "latest" {
            let message = format!("`{}` names a layer with a tag or a digest of its own", image.image);
            let plain = format!("write `{}/{name}`: lian-build hands over the exact image", self.namespace());
            self.mismatch(image, message, "a layer of this catalog", plain);
        } else if matches!(origin, ImageOrigin::Artifacts(_)) && found.layer.artifact_paths.is_empty() {
            let message = format!("layer `{parent}` promotes no artifacts");
            self.mismatch(image, message, "there is no such image", format!("give `{parent}` `artifact_paths`"));
        }
        if !self.declared.layer.parents().contains(&parent) {
            let message = format!("the Dockerfile of `{}` uses layer `{parent}`, which is not declared", self.name());
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
    fn image_name(&self, layer: &LayerName) -> ImageName {
        ImageName::new(self.namespace(), layer)
    }

    fn mismatch(&mut self, image: &ImageUse, message: String, label: &str, help: String) {
        let fault = self.fault(image, message, label, help);
        self.faults.push(fault);
    }

    fn fault(&self, image: &ImageUse, message: String, label: &str, help: String) -> Diagnostic {
        Diagnostic::error(MISMATCH, message).layer(self.name()).label(self.place(image), label).help(help)
    }

    fn unknown(&mut self, image: &ImageUse, name: &str) {
        let told = |name: &str| {
            let declared = self.declared.layer.parents().into_iter().any(|parent| parent.as_str() == name);
            declared || self.indexed.broken.contains(name)
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
        let message =
            format!("the Dockerfile of `{}` uses `{}`, which is not a layer of this catalog", self.name(), image.image);
        self.faults.push(
            Diagnostic::error("lian::dockerfile::unknown_layer", message)
                .layer(self.name())
                .label(self.place(image), "no such layer")
                .help(help),
        );
    }

    fn base(&mut self) {
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
                let is_base = |origin: &ImageOrigin| match origin {
                    ImageOrigin::External(used) => tagged(used) == tagged(&wanted),
                    ImageOrigin::Layer(_) | ImageOrigin::Artifacts(_) => false,
                };
                (wanted.familiar(), "build_base.image", self.place_of(is_base))
            }
        };
        match use_of_base {
            Some((UseKind::From, _)) => {}
            used => self.other_base(&shown, field, used.map(|(_, place)| place)),
        }
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

    /// The place where the Dockerfile uses an image; FROM comes before all other instructions.
    fn place_of(&self, wanted: impl Fn(&ImageOrigin) -> bool) -> Option<(UseKind, SourceLocation)> {
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

    /// The place of a stage that the target does not need and that is based on this image.
    fn unreached(&self, familiar: &str) -> Option<SourceLocation> {
        let facts = self.read.facts.as_ref().ok()?;
        let is_it = |used: &&ImageUse| {
            used.kind == UseKind::From && used.image.parse::<ImageRef>().is_ok_and(|image| image.familiar() == familiar)
        };
        facts.unreached.iter().find(is_it).map(|used| self.place(used))
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
                    (image.familiar(), Some(format!("{{ image = \"{}\" }}", image.familiar())))
                }
            };
            if found.iter().all(|(known, ..)| *known != name) {
                found.push((name, SourceLocation { file: self.read.file.clone(), span: *span }, written));
            }
        }
        found
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

    /// Reports secrets, sockets and arguments that only the declaration or only the Dockerfile names.
    fn names(&mut self, facts: &DockerfileFacts) {
        let layer = &self.declared.layer;
        let secrets = facts
            .secret_ids
            .iter()
            .filter(|(id, _)| *id != CA_SECRET && !layer.secrets.iter().any(|secret| secret.id == **id));
        let sockets = facts.ssh_ids.iter().filter(|(id, _)| !layer.ssh.contains(id));
        let undeclared = secrets
            .map(|(id, span)| {
                (
                    "lian::dockerfile::undeclared_secret",
                    "secret",
                    id,
                    *span,
                    format!("add `{{ id = \"{id}\", env = \"…\" }}` to `secrets`"),
                )
            })
            .chain(sockets.map(|(id, span)| {
                ("lian::dockerfile::undeclared_ssh", "ssh socket", id, *span, format!("add `\"{id}\"` to `ssh`"))
            }));
        let mut found: Vec<Diagnostic> = undeclared
            .map(|(code, what, id, span, help)| {
                Diagnostic::warning(
                    code,
                    format!("the Dockerfile of `{}` mounts the {what} `{id}`, which is not declared", layer.name),
                )
                .layer(&layer.name)
                .label(SourceLocation { file: self.read.file.clone(), span }, "mounted here")
                .help(help)
            })
            .collect();
        for name in layer.build_args.keys().filter(|name| !facts.declared_args.contains(*name) && !predefined(name)) {
            let help = match nearest(name, facts.declared_args.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("add `ARG {name}` to the Dockerfile, or remove it"),
            };
            found.push(
                Diagnostic::warning(
                    "lian::dockerfile::unused_build_arg",
                    format!("the Dockerfile of `{}` has no `ARG {name}`", layer.name),
                )
                .layer(&layer.name)
                .label(self.declared.place(&format!("build_args.{name}")), "has no effect")
                .help(help),
            );
        }
        self.faults.append(&mut found);
    }
}

/// Arguments that BuildKit knows without `ARG`.
fn predefined(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH"].contains(&upper.as_str())
        || upper.starts_with("BUILDKIT_")
}

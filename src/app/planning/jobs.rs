//! Creates each layer's job: its parents, the parts of its key, its build request. Not responsible for: which layers
//! are built.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::contexts::LayerInputs;
use super::pins::{self, Pins};
use super::survey::Survey;
use crate::app::Error;
use crate::app::config::Config;
use crate::app::execute::{Job, ParentImage};
use crate::domain::base::{LayerName, Platform, SourceLocation};
use crate::domain::graph::{self, ImageOrigin, LayerGraph, UsedImage};
use crate::domain::model::{Diagnostic, ImageName, ImageRef, KeyParts, LayerKey, ParentKey};
use crate::domain::ports::{BuildRequest, ImageSource, NamedContext, SharedCaches};

/// What keeps the mounts `type=cache` of a daemon's builds apart.
const MOUNTS: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Makes the jobs of one plan.
pub(super) struct JobMaker<'a> {
    pub(super) config: &'a Config,
    pub(super) survey: &'a Survey,
    pub(super) graph: &'a LayerGraph,
    pub(super) pins: &'a Pins,
}

/// The images that a layer's Dockerfile uses.
#[derive(Default)]
struct Parents {
    /// By the names that the Dockerfile uses.
    keys: BTreeMap<String, ParentKey>,
    /// Images of the catalog.
    images: Vec<ParentImage>,
    /// External images.
    contexts: Vec<NamedContext>,
}

impl JobMaker<'_> {
    /// The jobs of these layers, parents first: a key needs the keys of the parents.
    pub(super) fn jobs(&self, inputs: &[LayerInputs<'_>]) -> Result<Vec<(LayerName, Job)>, Error> {
        let mut keys = BTreeMap::new();
        let mut jobs = Vec::with_capacity(inputs.len());
        for input in inputs {
            let name = input.declared.layer.name.clone();
            let job = self.job(input, &keys)?;
            keys.insert(name.clone(), job.key.clone());
            jobs.push((name, job));
        }
        Ok(jobs)
    }

    fn job(&self, input: &LayerInputs<'_>, keys: &BTreeMap<LayerName, LayerKey>) -> Result<Job, Error> {
        let (declared, layer) = (input.declared, &input.declared.layer);
        let catalog = &self.survey.catalog.settings;
        let parents = self.parents(&layer.name, keys);
        self.check_shadows(input, &parents.contexts)?;
        let frontend = pins::frontend(declared)?.and_then(|image| Some((self.pins.digest(&image)?.clone(), image)));
        let build_args =
            graph::effective_build_args(catalog, &self.config.build_args, layer, &input.facts.declared_args);
        let platforms = self.survey.platforms.of(declared);
        let inputs = graph::KeyInputs {
            dockerfile: &input.listing.dockerfile,
            listing: &input.listing,
            build_args: &build_args,
            platforms: &platforms,
            frontend: frontend.as_ref().map(|(digest, _)| digest),
            parents: &parents.keys,
            labels: &catalog.labels,
        };
        let parts: KeyParts = graph::key_parts(declared, &inputs);
        let mut build_args = build_args;
        if let Some(scope) = &self.config.scope {
            // Which caches are mounted decides nothing of the layer: it is not part of the key.
            build_args.insert(MOUNTS.to_owned(), scope.mounts());
        }
        let request = BuildRequest {
            context: declared.context_dir(),
            folder_modes: Some(input.listing.folder_modes()),
            dockerfile: declared.dockerfile_path(),
            definition: input.definition.clone(),
            target: layer.target.clone(),
            build_args,
            platforms,
            labels: parts.labels.clone(),
            secrets: Vec::new(),
            ssh: layer.ssh.clone(),
            named_contexts: parents.contexts,
            stand_ins: self.graph.looked_up(&layer.name).to_vec(),
            frontend: frontend.map(|(digest, image)| format!("{}@{digest}", image.name())),
            staging: PathBuf::new(),
            push: None,
            caches: SharedCaches::default(),
        };
        Ok(Job {
            image: self.image(&layer.name),
            request,
            parents: parents.images,
            key: parts.key(),
            parts,
            forced: false,
            listing: input.listing.clone(),
            tools: layer.tools_provided.clone(),
            artifact_paths: layer.artifact_paths.clone(),
        })
    }

    fn parents(&self, layer: &LayerName, keys: &BTreeMap<LayerName, LayerKey>) -> Parents {
        let mut parents = Parents::default();
        for used in self.graph.images(layer) {
            let context = used.context.clone();
            let (layer, image, artifacts) = match &used.origin {
                ImageOrigin::External(image) => {
                    for (name, source) in self.sources(used, image) {
                        parents.keys.insert(name.clone(), ParentKey::External(source.digest().clone()));
                        parents.contexts.push(NamedContext { name, source: source.clone() });
                    }
                    continue;
                }
                ImageOrigin::Layer(parent) => (parent, self.image(parent), None),
                ImageOrigin::Artifacts(parent) => (parent, self.image(parent).artifacts(), Some(keys[parent].tag())),
            };
            parents.keys.insert(context.clone(), ParentKey::Layer(keys[layer].clone()));
            parents.images.push(ParentImage { context, image, layer: layer.clone(), artifacts });
        }
        parents
    }

    /// The images to hand over for an external one: one, or one for each platform where a substitute holds several.
    fn sources(&self, used: &UsedImage, image: &ImageRef) -> Vec<(String, &ImageSource)> {
        let sources = used.platforms.iter().filter_map(|platform| Some((platform, self.pins.source(image, platform)?)));
        let sources: Vec<(&Platform, &ImageSource)> = sources.collect();
        match sources.first() {
            Some((_, first)) if sources.iter().all(|(_, source)| source == first) => {
                vec![(used.context.clone(), first)]
            }
            _ => {
                let named = |(platform, source)| (format!("{}::{platform}", used.context), source);
                sources.into_iter().map(named).collect()
            }
        }
    }

    /// Refuses a stage with the name of an image that lies in a layout: the image can only be handed over as a named
    /// context, which would replace the stage. One in a registry is handed over by the build's source policy.
    fn check_shadows(&self, input: &LayerInputs<'_>, contexts: &[NamedContext]) -> Result<(), Error> {
        let layer = &input.declared.layer.name;
        let in_layout = |context: &&NamedContext| matches!(context.source, ImageSource::Layout { .. });
        let mut faults = Vec::new();
        for NamedContext { name, .. } in contexts.iter().filter(in_layout) {
            let Some(span) = input.facts.shadows.get(name) else { continue };
            let place = SourceLocation { file: self.survey.dockerfiles[layer].file.clone(), span: *span };
            let message = format!("stage `{name}` has the name of the image `{name}`, which a local copy replaces");
            let fault = Diagnostic::error("lian::dockerfile::image", message)
                .layer(layer)
                .label(place, "BuildKit would take the copy for this stage")
                .help(format!(
                    "call the stage something else, such as `{name}-stage`, or build without `--base-image` for it"
                ));
            faults.push(fault);
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::files(faults, self.survey.sources.clone())) }
    }

    /// `<namespace>/<layer>`.
    fn image(&self, layer: &LayerName) -> ImageName {
        ImageName::new(&self.survey.catalog.settings.namespace, layer)
    }
}

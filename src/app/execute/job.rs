//! All data needed to build one layer. Not responsible for: where the values come from.

use std::collections::BTreeMap;

use super::faults::{context_moved, store_fault};
use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{Fault, FaultKind, FileEntry, ImageName, KEY_LABEL, KeyParts, LayerKey, Listing, Tool};
use crate::domain::ports::{BuildRequest, Found, ImageStore, ImageStoreError, NamedContext};

/// An image of the same catalog that a Dockerfile uses.
#[derive(Debug, Clone)]
pub struct ParentImage {
    /// The name in the Dockerfile, in familiar form.
    pub context: String,
    /// `<namespace>/<layer>`, or `<namespace>/<layer>-artifacts`.
    pub image: ImageName,
    /// The layer that provides it.
    pub layer: LayerName,
    /// The tag of the artifacts image, if that is used.
    pub artifacts: Option<String>,
}

/// One layer's work, ready once its parents exist.
#[derive(Debug, Clone)]
pub struct Job {
    /// `<namespace>/<layer>`.
    pub image: ImageName,
    /// The build request, without parents' images and staging folder.
    pub request: BuildRequest,
    /// Parents within the catalog, by their names in the Dockerfile.
    pub parents: Vec<ParentImage>,
    /// The key's parts, stored beside the image.
    pub parts: KeyParts,
    /// Whether to build even if an image of its key exists.
    pub forced: bool,
    /// The key.
    pub key: LayerKey,
    /// The context at planning time.
    pub listing: Listing,
    /// What the image must provide.
    pub tools: Vec<Tool>,
    /// What is promoted from it.
    pub artifact_paths: Vec<String>,
}

impl Job {
    /// The build request with its parents at exact digests.
    pub async fn request_with(
        &self,
        images: &dyn ImageStore,
        digests: &BTreeMap<LayerName, Digest>,
        staging: &std::path::Path,
    ) -> Result<BuildRequest, Fault> {
        let mut request = self.request.clone();
        staging.clone_into(&mut request.staging);
        request.labels.insert(KEY_LABEL.to_owned(), self.key.to_string());
        for parent in &self.parents {
            let digest = match &parent.artifacts {
                None => digests.get(&parent.layer).cloned(),
                Some(tag) => {
                    let found =
                        images.find(parent.image.as_str(), tag).await.map_err(|error| store_fault("find", &error))?;
                    found.map(|found| found.digest)
                }
            };
            let Some(digest) = digest else {
                let message = format!("the image {} of its parent {} is not there", parent.image, parent.layer);
                return Err(Fault::new(FaultKind::Missing, "lian::drive::no_parent", message)
                    .help(format!("build it again: lian-build apply --force {}", parent.layer)));
            };
            images.check(parent.image.as_str(), &digest).await.map_err(|error| damaged(parent, &error))?;
            let source = images.source(parent.image.as_str(), &digest);
            request.named_contexts.push(NamedContext { name: parent.context.clone(), source });
        }
        Ok(request)
    }
}

/// The fault of a parent's image that may not be built upon: it is not the child's.
fn damaged(parent: &ParentImage, error: &ImageStoreError) -> Fault {
    let ImageStoreError::Corrupt { path, what, .. } = error else { return store_fault("find", error) };
    let (image, layer) = (&parent.image, &parent.layer);
    let message = format!("the image {image} of its parent {layer} is damaged: of {}, {what}", path.display());
    Fault::new(FaultKind::Missing, "lian::drive::damaged_parent", message)
        .help(format!("run it again: {layer} is built again, mostly from BuildKit's cache"))
}

/// An image with a layer's key that can be used again.
#[derive(Debug)]
pub struct StoredImage {
    pub digest: Digest,
    /// The parents' images it was built on.
    pub built_on: BTreeMap<LayerName, Digest>,
}

/// The image of a key, if nothing of it is missing: its record, and its artifacts image if it `promotes` one, from which
/// others copy.
pub async fn stored_image(
    images: &dyn ImageStore,
    image: &ImageName,
    key: &LayerKey,
    promotes: bool,
) -> Result<Option<StoredImage>, ImageStoreError> {
    // Tags are short: two keys may share one.
    let is_own = |found: &Found| found.key.as_ref() == Some(key);
    let Some(found) = images.find(image.as_str(), &key.tag()).await?.filter(is_own) else { return Ok(None) };
    if promotes && !images.find(image.artifacts().as_str(), &key.tag()).await?.is_some_and(|found| is_own(&found)) {
        return Ok(None);
    }
    let built_on = images.built_on(image.as_str(), key, &found.digest).await?;
    Ok(built_on.map(|built_on| StoredImage { digest: found.digest, built_on }))
}

/// The fault if inputs changed during the build, with the first files; `None` if they did not.
pub fn moved(before: &Listing, after: &Listing) -> Option<Fault> {
    if before == after {
        return None;
    }
    let mut changed = changed_files(&before.files, &after.files);
    if before.dockerfile != after.dockerfile {
        changed.insert(0, "its Dockerfile".to_owned());
    }
    let first = changed.first().map_or("its ignore file", String::as_str).to_owned();
    let more = changed.len().saturating_sub(1);
    let rest = if more > 0 { format!(", +{more} more") } else { String::new() };
    let fault = context_moved(format!("{first}{rest} changed during the build"));
    Some(fault.help("nothing was promoted; run it again when the files no longer change"))
}

/// Paths that differ between two contexts, sorted.
fn changed_files(before: &BTreeMap<String, FileEntry>, after: &BTreeMap<String, FileEntry>) -> Vec<String> {
    let mut changed: Vec<String> = before
        .iter()
        .filter(|(path, entry)| after.get(*path) != Some(entry))
        .map(|(path, _)| path.clone())
        .chain(after.keys().filter(|path| !before.contains_key(*path)).cloned())
        .collect();
    changed.sort();
    changed
}

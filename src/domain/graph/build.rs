//! Builds the graph of a catalog and runs every check in one pass. It does not stop at the first fault.

use super::evidence::Evidence;
use super::layer_graph::{LayerGraph, Node};
use super::layer_index::LayerIndex;
use super::{cycles, dockerfiles, image_names, tools};
use crate::domain::model::{Catalog, Diagnostic};

/// Checks that the layers fit together and with their Dockerfiles.
///
/// There is a graph only if no fault is an error and all parents are known. All faults are returned, sorted by place.
pub fn build(catalog: &Catalog, evidence: Evidence<'_>) -> (Option<LayerGraph>, Vec<Diagnostic>) {
    let (indexed, mut faults) = LayerIndex::of(catalog, evidence);
    faults.extend(cycles::check(&indexed));
    faults.extend(image_names::check(&indexed));
    let order = indexed.order();
    faults.extend(tools::check(&indexed, &order));
    let mut images = Vec::with_capacity(indexed.layers.len());
    for declared in &indexed.layers {
        let read = evidence.dockerfiles.get(&declared.layer.name);
        images.push(dockerfiles::check(&indexed, declared, read, &mut faults));
    }
    faults.sort_by(|a, b| a.labels.first().map(|l| &l.place).cmp(&b.labels.first().map(|l| &l.place)));
    let sound = faults.iter().all(|fault| !fault.is_error()) && !indexed.incomplete();
    let nodes = indexed.layers.iter().zip(images).enumerate().map(|(index, (declared, images))| Node {
        name: declared.layer.name.clone(),
        parents: indexed.parents[index].iter().map(|edge| edge.parent).collect(),
        images,
    });
    (sound.then(|| LayerGraph::new(nodes.collect(), &order)), faults)
}

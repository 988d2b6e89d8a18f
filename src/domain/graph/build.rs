//! From a catalog to its graph: every check in one pass. Not responsible for: stopping at the first fault.

use std::collections::{BTreeMap, BTreeSet};

use super::layer_graph::{LayerGraph, Node};
use super::survey::Declarations;
use super::{cycles, dockerfiles, tools};
use crate::domain::base::LayerName;
use crate::domain::model::{Catalog, Diagnostic, DockerfileRead};

/// Checks that the layers fit together and with their Dockerfiles. `dockerfiles` holds what was read for each layer;
/// a layer whose file could not be found has no entry (`context::check_files` tells) and its Dockerfile is not judged.
/// `broken` names layers whose declaration did not evaluate: nothing is said of what refers to them.
///
/// The graph is there only where no fault of severity error was found and all parents are known. All faults come
/// sorted by place.
pub fn build(
    catalog: &Catalog,
    dockerfiles: &BTreeMap<LayerName, DockerfileRead>,
    broken: &BTreeSet<LayerName>,
) -> (Option<LayerGraph>, Vec<Diagnostic>) {
    let (survey, mut faults) = Declarations::of(catalog, broken);
    faults.extend(cycles::check(&survey));
    let order = survey.order();
    faults.extend(tools::check(&survey, &order));
    let mut images = Vec::with_capacity(survey.layers.len());
    for declared in &survey.layers {
        let read = dockerfiles.get(&declared.layer.name);
        images.push(dockerfiles::check(&survey, declared, read, &mut faults));
    }
    faults.sort_by(|a, b| a.labels.first().map(|l| &l.place).cmp(&b.labels.first().map(|l| &l.place)));
    let sound = faults.iter().all(|fault| !fault.is_error()) && !survey.incomplete();
    let nodes = survey.layers.iter().zip(images).enumerate().map(|(index, (declared, images))| Node {
        name: declared.layer.name.clone(),
        parents: survey.parents[index].iter().map(|edge| edge.parent).collect(),
        images,
    });
    (sound.then(|| LayerGraph::new(nodes.collect(), &order)), faults)
}

//! Finds layers that wait for each other. Layers that name themselves are reported elsewhere (see `layer_index`).

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{HashSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::layer_index::LayerIndex;
use crate::domain::model::Diagnostic;

/// The most names of one cycle that are shown; the others are counted.
const SHOWN: usize = 12;

/// One fault for each cycle. If cycles share layers, each layer is shown on its shortest cycle, and each cycle once.
pub(super) fn check(indexed: &LayerIndex<'_>) -> Vec<Diagnostic> {
    let mut graph = DiGraph::<(), ()>::with_capacity(indexed.layers.len(), indexed.layers.len());
    for _ in &indexed.layers {
        graph.add_node(());
    }
    for (child, edges) in indexed.parents.iter().enumerate() {
        for edge in edges {
            graph.add_edge(NodeIndex::new(child), NodeIndex::new(edge.parent), ());
        }
    }
    let mut faults = Vec::new();
    // Kosaraju's algorithm is iterative: a chain of ten thousand layers must not overflow the stack.
    for knot in kosaraju_scc(&graph).into_iter().filter(|knot| knot.len() > 1) {
        let knot: HashSet<usize> = knot.into_iter().map(NodeIndex::index).collect();
        let mut names: Vec<usize> = knot.iter().copied().collect();
        names.sort_by_key(|index| &indexed.layers[*index].layer.name);
        let mut shown = HashSet::new();
        for start in names {
            if !shown.contains(&start) {
                let cycle = shortest(indexed, &knot, start);
                shown.extend(cycle.iter().copied());
                faults.push(fault(indexed, &cycle));
            }
        }
    }
    faults
}

/// The shortest cycle from `start` over its parents, with `start` mentioned once.
fn shortest(indexed: &LayerIndex<'_>, knot: &HashSet<usize>, start: usize) -> Vec<usize> {
    let mut came_from = HashMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(at) = waiting.pop_front() {
        let parents = indexed.parents[at].iter().map(|edge| edge.parent).filter(|parent| knot.contains(parent));
        for parent in parents {
            if parent == start {
                let mut cycle = vec![at];
                while let Some(before) = cycle.last().and_then(|last| came_from.get(last)) {
                    cycle.push(*before);
                }
                cycle.reverse();
                return cycle;
            }
            if let Entry::Vacant(first) = came_from.entry(parent) {
                first.insert(at);
                waiting.push_back(parent);
            }
        }
    }
    vec![start]
}

fn fault(indexed: &LayerIndex<'_>, cycle: &[usize]) -> Diagnostic {
    let name = |index: usize| &indexed.layers[index].layer.name;
    let mut words: Vec<&str> = cycle.iter().take(SHOWN).map(|index| name(*index).as_str()).collect();
    let more = format!("… {} more …", cycle.len().saturating_sub(SHOWN));
    if cycle.len() > SHOWN {
        words.push(&more);
    }
    words.push(name(cycle[0]).as_str());
    let mut fault = Diagnostic::error("lian::graph::cycle", format!("{}: each waits for the next", words.join(" → ")))
        .layer(name(cycle[0]))
        .help("remove one of these edges: a layer can stand only on what is built before it");
    for (at, child) in cycle.iter().enumerate().take(SHOWN) {
        let parent = cycle[(at + 1) % cycle.len()];
        if let Some(edge) = indexed.parents[*child].iter().find(|edge| edge.parent == parent) {
            let place = indexed.layers[*child].place(&edge.field);
            fault = fault.label(place, format!("`{}` waits for `{}`", name(*child), name(parent)));
        }
    }
    fault
}

//! Indexes the layers by name, finds the edges between them, and reports names that are not layers.

use std::collections::HashMap;

use super::evidence::Evidence;
use crate::domain::base::{LayerName, SourceLocation, nearest, shown};
use crate::domain::model::{Base, Catalog, Declared, Diagnostic, ImageRef};

/// One layer waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// Index of the parent.
    pub parent: usize,
    /// The field that declares it.
    pub field: String,
}

/// What follows from the declarations alone.
pub(super) struct LayerIndex<'a> {
    pub catalog: &'a Catalog,
    /// The first layer of each name, in the catalog's order.
    pub layers: Vec<&'a Declared>,
    pub index: HashMap<&'a str, usize>,
    /// For each layer its edges: the base first, no repeats.
    pub parents: Vec<Vec<Edge>>,
    /// For each layer whether one of its parents is unknown.
    pub lost: Vec<bool>,
    pub evidence: Evidence<'a>,
}

impl<'a> LayerIndex<'a> {
    pub fn of(catalog: &'a Catalog, evidence: Evidence<'a>) -> (Self, Vec<Diagnostic>) {
        let mut faults = Vec::new();
        let mut indexed =
            Self { catalog, layers: vec![], index: HashMap::new(), parents: vec![], lost: vec![], evidence };
        for declared in &catalog.layers {
            let name = declared.layer.name.as_str();
            match indexed.index.get(name) {
                Some(first) => faults.push(duplicate(indexed.layers[*first], declared)),
                None => {
                    indexed.index.insert(name, indexed.layers.len());
                    indexed.layers.push(declared);
                }
            }
        }
        for declared in indexed.layers.clone() {
            let edges = indexed.edges(declared, &mut faults);
            indexed.parents.push(edges);
        }
        (indexed, faults)
    }

    /// Whether a parent of some layer is unknown.
    pub fn incomplete(&self) -> bool {
        self.lost.contains(&true)
    }

    /// The layer of this name.
    pub fn find(&self, name: &str) -> Option<&'a Declared> {
        self.index.get(name).map(|index| self.layers[*index])
    }

    /// The part of the reference after the catalog's namespace; `None` if it is outside.
    pub fn in_namespace(&self, image: &ImageRef) -> Option<String> {
        if self.evidence.alone {
            return None;
        }
        let probe: ImageRef = format!("{}/x", self.catalog.settings.namespace).parse().ok()?;
        let prefix = probe.name();
        image.name().strip_prefix(&prefix[..prefix.len() - 1]).filter(|rest| !rest.contains('/')).map(str::to_owned)
    }

    /// The name that was probably meant, among all layers except `except`.
    pub fn meant(&self, wanted: &str, except: &LayerName) -> Option<&'a str> {
        let names = self.layers.iter().map(|declared| declared.layer.name.as_str());
        nearest(wanted, names.filter(|name| *name != except.as_str()))
    }

    /// Parents before children. Layers on a cycle, and their children, are left out.
    pub fn order(&self) -> Vec<usize> {
        let mut children = vec![Vec::new(); self.layers.len()];
        let mut missing: Vec<usize> = self.parents.iter().map(Vec::len).collect();
        for (child, edges) in self.parents.iter().enumerate() {
            for edge in edges {
                children[edge.parent].push(child);
            }
        }
        let mut order: Vec<usize> = (0..missing.len()).filter(|index| missing[*index] == 0).collect();
        let mut next = 0;
        while let Some(parent) = order.get(next).copied() {
            next += 1;
            for child in &children[parent] {
                missing[*child] -= 1;
                if missing[*child] == 0 {
                    order.push(*child);
                }
            }
        }
        order
    }

    fn edges(&mut self, declared: &Declared, faults: &mut Vec<Diagnostic>) -> Vec<Edge> {
        let mut edges: Vec<Edge> = Vec::new();
        let mut lost = false;
        let layer = &declared.layer;
        let base = match &layer.build_base {
            Base::Layer(name) => Some((name, "build_base".to_owned())),
            Base::External { .. } => None,
        };
        let inputs = layer.build_inputs.iter().enumerate().map(|(at, name)| (name, format!("build_inputs.{at}")));
        let mut seen: HashMap<&LayerName, String> = HashMap::new();
        for (name, field) in base.into_iter().chain(inputs) {
            let place = declared.place(&field);
            if let Some(first) = seen.get(name) {
                faults.push(repeated(declared, name, place, declared.place(first)));
                continue;
            }
            if name == &layer.name {
                faults.push(own(declared, &field, place));
            } else if let Some(parent) = self.index.get(name.as_str()) {
                edges.push(Edge { parent: *parent, field: field.clone() });
            } else {
                lost = true;
                // A reference to a declaration that did not evaluate is not a fault of its own.
                if !self.evidence.broken.contains(name) {
                    faults.push(self.unknown(declared, name, &field, place));
                }
            }
            seen.insert(name, field);
        }
        self.lost.push(lost);
        edges
    }

    fn unknown(&self, declared: &Declared, name: &LayerName, field: &str, place: SourceLocation) -> Diagnostic {
        let layer = &declared.layer.name;
        let (code, role) = match field {
            "build_base" => ("lian::graph::unknown_base", "base"),
            _ => ("lian::graph::unknown_input", "input"),
        };
        // No layer's name has these characters: an image was meant.
        let image = role == "base" && name.as_str().contains(['/', ':', '.']);
        let help = match self.meant(name.as_str(), layer) {
            _ if image => {
                format!("an image from outside is written `build_base = {{ image = \"{}\" }}`", shown(name.as_str()))
            }
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("declare it in `{}`", self.catalog.root.join(name.as_str()).join("workflow.ncl").display()),
        };
        Diagnostic::error(code, format!("the {role} `{name}` of `{layer}` is not a layer of this catalog"))
            .layer(layer)
            .label(place, "no such layer")
            .help(help)
    }
}

fn duplicate(first: &Declared, second: &Declared) -> Diagnostic {
    let name = &second.layer.name;
    Diagnostic::error("lian::graph::duplicate_layer", format!("two layers are named `{name}`"))
        .layer(name)
        .label(second.place("name"), "again here")
        .label(first.place("name"), "first here")
        .help("rename one of them")
}

fn repeated(declared: &Declared, name: &LayerName, place: SourceLocation, first: SourceLocation) -> Diagnostic {
    let layer = &declared.layer.name;
    Diagnostic::warning("lian::graph::duplicate_input", format!("`{layer}` names its parent `{name}` twice"))
        .layer(layer)
        .label(place, "again here")
        .label(first, "first here")
        .help("remove this one: once is enough")
}

fn own(declared: &Declared, field: &str, place: SourceLocation) -> Diagnostic {
    let layer = &declared.layer.name;
    let (code, role) = match field {
        "build_base" => ("lian::graph::self_base", "base"),
        _ => ("lian::graph::self_input", "input"),
    };
    Diagnostic::error(code, format!("layer `{layer}` is its own {role}"))
        .layer(layer)
        .label(place, "this is the layer itself")
        .help(match role {
            "base" => "name another layer, or an image: `build_base = { image = \"…\" }`",
            _ => "take it out",
        })
}

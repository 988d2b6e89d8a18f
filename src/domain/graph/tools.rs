//! Checks that the tools that layers need are provided by an ancestor. Not responsible for: looking into images
//! (verification after the build does).

use std::collections::{BTreeMap, HashMap};

use super::layer_index::LayerIndex;
use crate::domain::base::nearest;
use crate::domain::model::{Base, Declared, Diagnostic, Kind};

/// `order` lists the layers that are not on a cycle, parents first. The children of a cycle or of an unknown layer are
/// not checked, because their ancestors are not known.
pub(super) fn check(indexed: &LayerIndex<'_>, order: &[usize]) -> Vec<Diagnostic> {
    let providers = providers(indexed);
    let mut faults = Vec::new();
    missing(indexed, order, &providers, &mut faults);
    repeated(indexed, order, &providers, &mut faults);
    faults
}

/// The layers that provide each tool.
fn providers<'a>(indexed: &LayerIndex<'a>) -> BTreeMap<&'a str, Vec<usize>> {
    let mut providers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, declared) in indexed.layers.iter().enumerate() {
        for tool in &declared.layer.tools_provided {
            providers.entry(&tool.name).or_default().push(index);
        }
    }
    providers
}

/// A set of small numbers.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn join(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

fn missing(
    indexed: &LayerIndex<'_>,
    order: &[usize],
    providers: &BTreeMap<&str, Vec<usize>>,
    faults: &mut Vec<Diagnostic>,
) {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for tool in indexed.layers.iter().flat_map(|declared| &declared.layer.tools_required) {
        let next = numbers.len();
        numbers.entry(tool).or_insert(next);
    }
    // What a layer and all its ancestors provide; `None` if some of its ancestors are unknown.
    let mut held: Vec<Option<Bits>> = vec![None; indexed.layers.len()];
    for index in order {
        let declared = indexed.layers[*index];
        let mut found = (!indexed.lost[*index]).then(|| Bits::none(numbers.len()));
        for edge in &indexed.parents[*index] {
            match (&mut found, &held[edge.parent]) {
                (Some(found), Some(parent)) => found.join(parent),
                _ => found = None,
            }
        }
        let Some(mut found) = found else { continue };
        for (at, tool) in declared.layer.tools_required.iter().enumerate() {
            if !found.has(numbers[tool.as_str()]) {
                faults.push(missing_fault(indexed, *index, at, tool, providers));
            }
        }
        for tool in &declared.layer.tools_provided {
            if let Some(number) = numbers.get(tool.name.as_str()) {
                found.set(*number);
            }
        }
        held[*index] = Some(found);
    }
}

fn missing_fault(
    indexed: &LayerIndex<'_>,
    index: usize,
    at: usize,
    tool: &str,
    providers: &BTreeMap<&str, Vec<usize>>,
) -> Diagnostic {
    let declared = indexed.layers[index];
    let layer = &declared.layer.name;
    let mut fault = Diagnostic::error(
        "lian::graph::missing_tool",
        format!("layer `{layer}` needs `{tool}`, and none of its ancestors provides it"),
    )
    .layer(layer)
    .label(declared.place(&format!("tools_required.{at}")), "needed here");
    let Some(having) = providers.get(tool) else {
        let help = match nearest(tool, providers.keys().copied()) {
            Some(meant) => {
                let by = indexed.layers[providers[meant][0]].layer.name.as_str();
                format!("did you mean `{meant}`, which `{by}` provides?")
            }
            None => nobody(indexed, declared, tool),
        };
        return fault.help(help);
    };
    let below = descendants(indexed, index);
    let name = |provider: &usize| indexed.layers[*provider].layer.name.as_str();
    let others: Vec<&str> = having.iter().filter(|p| **p != index && !below[**p]).map(name).collect();
    let help = match others.as_slice() {
        [first, rest @ ..] => {
            if !rest.is_empty() {
                fault = fault.note(format!("provided by `{}` too", rest.join("`, `")));
            }
            format!(
                "`{first}` provides `{tool}`; set `build_base = \"{first}\"`, or copy it from there with \
                 `build_inputs = [{}]`",
                inputs_with(declared, first)
            )
        }
        [] => match having.iter().find(|provider| **provider != index) {
            Some(provider) => format!(
                "`{0}` provides it, but stands on `{layer}`: provide `{tool}` in a layer that both can stand on",
                name(provider)
            ),
            None => format!(
                "`{layer}` itself provides it: what its own build needs must be there before, so let its base provide \
                 `{tool}`, or remove it from `tools_required`"
            ),
        },
    };
    fault.help(help)
}

/// The help for a tool that no layer provides: it names the ancestor that could.
fn nobody(indexed: &LayerIndex<'_>, declared: &Declared, tool: &str) -> String {
    let mut below = base_of(indexed, declared).map(|base| indexed.layers[base]);
    let Some(base) = below else {
        return format!(
            "no layer provides it: stand `{}` on one that installs `{tool}` and lists it in `tools_provided`",
            declared.layer.name
        );
    };
    let mut could = base;
    // If the layer has a toolchain among its ancestors, that one should provide the tools of a build.
    while let Some(ancestor) = below {
        if ancestor.layer.kind == Kind::Toolchain {
            could = ancestor;
            break;
        }
        below = base_of(indexed, ancestor).map(|base| indexed.layers[base]);
    }
    format!(
        "no layer provides it: its ancestor `{}` could; install `{tool}` there and add it to its `tools_provided`",
        could.layer.name
    )
}

/// The inputs as they would be written with one more.
fn inputs_with(declared: &Declared, more: &str) -> String {
    let names = declared.layer.build_inputs.iter().map(crate::domain::base::LayerName::as_str).chain([more]);
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// For each layer whether `index` is one of its ancestors.
fn descendants(indexed: &LayerIndex<'_>, index: usize) -> Vec<bool> {
    let mut children = vec![Vec::new(); indexed.layers.len()];
    for (child, edges) in indexed.parents.iter().enumerate() {
        for edge in edges {
            children[edge.parent].push(child);
        }
    }
    let mut found = vec![false; indexed.layers.len()];
    let mut waiting = vec![index];
    while let Some(at) = waiting.pop() {
        for child in &children[at] {
            if !std::mem::replace(&mut found[*child], true) {
                waiting.push(*child);
            }
        }
    }
    found
}

/// Reports tools that the base provides already. Inputs do not count: their tools are in the image only if they are
/// copied, and then the layer does provide them.
fn repeated(
    indexed: &LayerIndex<'_>,
    order: &[usize],
    providers: &BTreeMap<&str, Vec<usize>>,
    faults: &mut Vec<Diagnostic>,
) {
    let shared = providers.iter().filter(|(_, having)| having.len() > 1);
    let numbers: HashMap<&str, usize> = shared.enumerate().map(|(number, (tool, _))| (*tool, number)).collect();
    let mut held: Vec<Bits> = vec![Bits::none(numbers.len()); indexed.layers.len()];
    for index in order {
        let declared = indexed.layers[*index];
        let base = base_of(indexed, declared);
        let mut found = base.map_or_else(|| Bits::none(numbers.len()), |base| held[base].clone());
        for (at, tool) in declared.layer.tools_provided.iter().enumerate() {
            let Some(number) = numbers.get(tool.name.as_str()) else { continue };
            if found.has(*number) {
                faults.push(repeated_fault(indexed, declared, at, &tool.name));
            }
            found.set(*number);
        }
        held[*index] = found;
    }
}

fn base_of(indexed: &LayerIndex<'_>, declared: &Declared) -> Option<usize> {
    match &declared.layer.build_base {
        Base::Layer(name) if *name != declared.layer.name => indexed.index.get(name.as_str()).copied(),
        _ => None,
    }
}

fn repeated_fault(indexed: &LayerIndex<'_>, declared: &Declared, at: usize, tool: &str) -> Diagnostic {
    let layer = &declared.layer.name;
    let code = "lian::graph::duplicate_tool";
    let place = declared.place(&format!("tools_provided.{at}"));
    let mut below = base_of(indexed, declared);
    while let Some(base) = below.map(|base| indexed.layers[base]) {
        if let Some(first) = base.layer.tools_provided.iter().position(|provided| provided.name == tool) {
            let name = &base.layer.name;
            return Diagnostic::warning(
                code,
                format!("layer `{layer}` provides `{tool}`, and so does its ancestor `{name}`"),
            )
            .layer(layer)
            .label(place, "again here")
            .label(base.place(&format!("tools_provided.{first}")), "provided here")
            .help("remove it here, or there if this layer replaces it");
        }
        below = base_of(indexed, base);
    }
    Diagnostic::warning(code, format!("layer `{layer}` lists `{tool}` twice"))
        .layer(layer)
        .label(place, "again here")
        .help("once is enough")
}

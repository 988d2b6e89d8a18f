//! The sound graph of layers: parents before children, in waves. Cycles and unknown names were found before (see
//! `build`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::base::{LayerName, Platform, nearest};
use crate::domain::model::{Classified, FaultClass, ImageRef};

/// Where an image that a Dockerfile names comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOrigin {
    /// A layer of this catalog.
    Layer(LayerName),
    /// The artifacts image of a layer (`artifact_paths`).
    Artifacts(LayerName),
    /// An external image, which must be pinned.
    External(ImageRef),
}

/// An image that a layer's Dockerfile uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedImage {
    /// The name of the named context that replaces it ([`ImageRef::context_name`]).
    pub context: String,
    /// Where it comes from.
    pub origin: ImageOrigin,
    /// The platforms for which it is needed, as they are normalised.
    pub platforms: BTreeSet<Platform>,
}

/// What a layer's build must be given by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// The images that its Dockerfile and the triggers of its bases use, by name.
    pub used: Vec<UsedImage>,
    /// Names that BuildKit looks up and takes nothing from.
    pub looked_up: Vec<String>,
}

/// A layer and its parents, as `build` passes them.
pub(super) struct Node {
    pub name: LayerName,
    pub parents: Vec<usize>,
    pub images: Images,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: LayerName,
    wave: usize,
    parents: Vec<usize>,
    children: Vec<usize>,
    images: Images,
}

/// The layers of a sound catalog, or those that some targets need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGraph {
    /// By wave, then by name.
    members: Vec<Member>,
    index: HashMap<LayerName, usize>,
}

/// A target that is not a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("the catalog has no layer `{name}`")]
#[diagnostic(code(lian::graph::unknown_target), help("{help}"))]
pub struct UnknownTarget {
    /// The name that was asked for.
    pub name: LayerName,
    /// A suggestion.
    pub help: String,
}

impl Classified for UnknownTarget {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

impl LayerGraph {
    /// `order` lists every node, parents first.
    pub(super) fn new(nodes: Vec<Node>, order: &[usize]) -> Self {
        let mut waves = vec![0; nodes.len()];
        for index in order {
            waves[*index] = nodes[*index].parents.iter().map(|parent| waves[*parent] + 1).max().unwrap_or(1).max(1);
        }
        let members = nodes.into_iter().zip(waves).map(|(node, wave)| Member {
            name: node.name,
            wave,
            parents: node.parents,
            children: Vec::new(),
            images: node.images,
        });
        Self::sorted(members.enumerate().collect())
    }

    /// Sorts the members, renumbers them without gaps, and fills in the children.
    fn sorted(mut members: Vec<(usize, Member)>) -> Self {
        members.sort_by(|(_, a), (_, b)| (a.wave, &a.name).cmp(&(b.wave, &b.name)));
        let moved: HashMap<usize, usize> = members.iter().enumerate().map(|(new, (old, _))| (*old, new)).collect();
        let mut members: Vec<Member> = members.into_iter().map(|(_, member)| member).collect();
        for at in 0..members.len() {
            members[at].children.clear();
            let parents: Vec<usize> = members[at].parents.iter().filter_map(|old| moved.get(old).copied()).collect();
            for parent in &parents {
                // A parent's wave is lower, so it stands before `at`, and its children were cleared already.
                members[*parent].children.push(at);
            }
            members[at].parents = parents;
        }
        let index = members.iter().enumerate().map(|(at, member)| (member.name.clone(), at)).collect();
        Self { members, index }
    }

    /// All layers, parents before children: by wave, then by name.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &LayerName> {
        self.members.iter().map(|member| &member.name)
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the graph has this layer.
    pub fn contains(&self, name: &LayerName) -> bool {
        self.index.contains_key(name)
    }

    /// The number of edges from a layer to a parent.
    pub fn edge_count(&self) -> usize {
        self.members.iter().map(|member| member.parents.len()).sum()
    }

    /// The layer's parents: the base first, then the inputs, as declared. Empty for an unknown name.
    pub fn parents(&self, name: &LayerName) -> Vec<&LayerName> {
        self.named(name, |member| &member.parents)
    }

    /// The layers that have this one as a parent, in order of waves and names.
    pub fn children(&self, name: &LayerName) -> Vec<&LayerName> {
        self.named(name, |member| &member.children)
    }

    fn named(&self, name: &LayerName, of: impl Fn(&Member) -> &Vec<usize>) -> Vec<&LayerName> {
        let indices = self.index.get(name).map(|at| of(&self.members[*at]));
        indices.into_iter().flatten().map(|at| &self.members[*at].name).collect()
    }

    /// All direct and indirect parents of a layer, in order of waves and names, without itself.
    pub fn ancestors(&self, name: &LayerName) -> Vec<&LayerName> {
        self.reached(name, |member| &member.parents)
    }

    /// All direct and indirect children of a layer, in order of waves and names, without itself.
    pub fn descendants(&self, name: &LayerName) -> Vec<&LayerName> {
        self.reached(name, |member| &member.children)
    }

    fn reached(&self, name: &LayerName, of: impl Fn(&Member) -> &Vec<usize>) -> Vec<&LayerName> {
        let Some(start) = self.index.get(name) else { return Vec::new() };
        let found = self.closure([*start], of);
        let others = found.iter().enumerate().filter(|(at, found)| **found && at != start);
        others.map(|(at, _)| &self.members[at].name).collect()
    }

    fn closure(&self, starts: impl IntoIterator<Item = usize>, of: impl Fn(&Member) -> &Vec<usize>) -> Vec<bool> {
        let mut found = vec![false; self.members.len()];
        let mut waiting: Vec<usize> = starts.into_iter().collect();
        while let Some(at) = waiting.pop() {
            if !std::mem::replace(&mut found[at], true) {
                waiting.extend(of(&self.members[at]));
            }
        }
        found
    }

    /// The layer's wave, counted from 1: one more than the highest wave of its parents.
    pub fn wave(&self, name: &LayerName) -> Option<usize> {
        self.index.get(name).map(|at| self.members[*at].wave)
    }

    /// The layers by wave. Layers of one wave can be built at the same time.
    pub fn waves(&self) -> Vec<Vec<&LayerName>> {
        let mut waves: BTreeMap<usize, Vec<&LayerName>> = BTreeMap::new();
        for member in &self.members {
            waves.entry(member.wave).or_default().push(&member.name);
        }
        waves.into_values().collect()
    }

    /// Every image that the layer's build uses, by name.
    pub fn images(&self, name: &LayerName) -> &[UsedImage] {
        self.index.get(name).map_or(&[], |at| &self.members[*at].images.used)
    }

    /// Names that the layer's build looks up and takes nothing from.
    pub fn looked_up(&self, name: &LayerName) -> &[String] {
        self.index.get(name).map_or(&[], |at| &self.members[*at].images.looked_up)
    }

    /// The external images that the layer's build uses, which must be pinned, with the platforms for which it needs
    /// them.
    pub fn externals(&self, name: &LayerName) -> Vec<(&ImageRef, &BTreeSet<Platform>)> {
        let images = self.images(name).iter();
        images
            .filter_map(|used| match &used.origin {
                ImageOrigin::External(image) => Some((image, &used.platforms)),
                ImageOrigin::Layer(_) | ImageOrigin::Artifacts(_) => None,
            })
            .collect()
    }

    /// These layers and all their direct and indirect parents. Waves keep their numbers.
    pub fn with_targets(&self, targets: &[LayerName]) -> Result<Self, UnknownTarget> {
        let mut starts = Vec::with_capacity(targets.len());
        for target in targets {
            starts.push(*self.index.get(target).ok_or_else(|| self.unknown(target))?);
        }
        let kept = self.closure(starts, |member| &member.parents);
        let members = self.members.iter().cloned().enumerate().filter(|(at, _)| kept[*at]);
        Ok(Self::sorted(members.collect()))
    }

    fn unknown(&self, name: &LayerName) -> UnknownTarget {
        let help = match nearest(name.as_str(), self.layers().map(LayerName::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "`lian-build plan` lists the layers".to_owned(),
        };
        UnknownTarget { name: name.clone(), help }
    }
}

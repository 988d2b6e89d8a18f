//! Decides for each layer whether to build or to reuse it. Not responsible for: the texts of the reasons (see `why`).

use std::collections::{BTreeMap, BTreeSet};

use super::candidate::Candidate;
use super::why::{differences, rebuilds};
use crate::domain::base::LayerName;
use crate::domain::model::{Action, Plan, PlannedStep, Why, WhyKind};

/// Decides over candidates in topological order. A layer is reused if a verified image with its key exists, unless the
/// layer is forced or one of its parents is built. Its image stands on the parent's old image, and nobody knows yet
/// whether the new one will be the same. If it is, the executor finds the layer's image and reuses it after all.
pub fn plan(candidates: Vec<Candidate>, forced: &BTreeSet<LayerName>) -> Plan {
    let mut building: BTreeSet<LayerName> = BTreeSet::new();
    let mut waves: BTreeMap<LayerName, usize> = BTreeMap::new();
    let mut steps = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let layer = candidate.parts.layer.clone();
        let wave = 1 + candidate.parents.iter().filter_map(|parent| waves.get(parent)).max().copied().unwrap_or(0);
        waves.insert(layer.clone(), wave);
        let mut why = Vec::new();
        if forced.contains(&layer) {
            why.push(Why { kind: WhyKind::Forced, detail: "forced".to_owned() });
        }
        let parent_builds = candidate.parents.iter().any(|parent| building.contains(parent));
        let build = candidate.existing.is_none() || !why.is_empty() || parent_builds;
        if build {
            why.extend(reasons(&candidate, &building));
            building.insert(layer.clone());
        }
        steps.push(PlannedStep {
            layer,
            action: if build { Action::Build } else { Action::Reuse },
            why,
            key: candidate.key,
            parents: candidate.parents,
            wave,
            size: candidate.size,
            image: candidate.image.latest(),
            digest: candidate.existing.filter(|_| !build),
            estimate_ms: candidate.estimate_ms,
        });
    }
    Plan { steps }
}

/// Why a layer is built, the first causes first. Never empty, unless the layer is forced.
fn reasons(candidate: &Candidate, building: &BTreeSet<LayerName>) -> Vec<Why> {
    let mut why: Vec<Why> =
        candidate.parents.iter().filter(|parent| building.contains(*parent)).map(rebuilds).collect();
    if let Some(parent) = candidate.rebased.as_ref().filter(|parent| !building.contains(*parent)) {
        why.push(Why { kind: WhyKind::Base, detail: format!("base {parent} was built again") });
    }
    if let Some(unusable) = candidate.unusable {
        why.push(Why { kind: WhyKind::New, detail: format!("new: {}", unusable.told()) });
    }
    match &candidate.latest {
        Some(latest) => {
            // A parent's changed key is reported once, as the parent's rebuild.
            let alone = why.is_empty();
            let found = differences(latest, &candidate.parts);
            why.extend(found.into_iter().filter(|reason| alone || reason.kind != WhyKind::Base));
        }
        None if candidate.existing.is_none() && candidate.unusable.is_none() => {
            why.insert(0, Why { kind: WhyKind::New, detail: "new".to_owned() })
        }
        None => {}
    }
    if why.is_empty() && candidate.existing.is_none() {
        // The parts are the same as those of `latest`, but there is no image under the key: its tag or its blobs are
        // gone.
        why.push(Why { kind: WhyKind::New, detail: "new: its image is gone".to_owned() });
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Digest;
    use crate::domain::model::{ImageName, KeyParts, LayerKey};
    use crate::domain::ports::samples::{key_parts, parent_keys, size};

    fn parts(layer: &str, dockerfile: &str, parents: &[(&str, &LayerKey)]) -> KeyParts {
        KeyParts { parents: parent_keys(parents.iter().copied()), ..key_parts(layer, dockerfile) }
    }

    fn candidate(parts: KeyParts, parents: &[&str], built: bool, latest: Option<KeyParts>) -> Candidate {
        Candidate {
            key: parts.key(),
            parents: parents.iter().map(|name| (*name).into()).collect(),
            image: ImageName::new("lamina", &parts.layer),
            existing: built.then(|| Digest::of("image")),
            rebased: None,
            unusable: None,
            latest,
            size: size(),
            estimate_ms: None,
            parts,
        }
    }

    fn told(plan: &Plan) -> Vec<String> {
        plan.steps
            .iter()
            .map(|step| {
                let why: Vec<_> = step.why.iter().map(|why| why.detail.as_str()).collect();
                format!("{} {} {:?} {}", step.wave, step.layer, step.action, why.join("; "))
            })
            .collect()
    }

    #[test]
    fn a_first_plan_builds_all_because_all_is_new() {
        let base = parts("debian", "a", &[]);
        let child = parts("rust", "b", &[("lamina/debian", &base.key())]);
        let plan =
            plan(vec![candidate(base, &[], false, None), candidate(child, &["debian"], false, None)], &BTreeSet::new());
        assert_eq!(told(&plan), ["1 debian Build new", "2 rust Build new; base debian rebuilds"]);
    }

    #[test]
    fn a_changed_dockerfile_rebuilds_its_children() {
        let (old, new) = (parts("debian", "a", &[]), parts("debian", "A", &[]));
        let (was, is) = (
            parts("rust", "b", &[("lamina/debian", &old.key())]),
            parts("rust", "b", &[("lamina/debian", &new.key())]),
        );
        let other = parts("nickel", "c", &[]);
        let plan = plan(
            vec![
                candidate(new, &[], false, Some(old)),
                candidate(other.clone(), &[], true, Some(other)),
                candidate(is, &["debian"], false, Some(was)),
            ],
            &BTreeSet::new(),
        );
        assert_eq!(
            told(&plan),
            ["1 debian Build dockerfile changed", "1 nickel Reuse ", "2 rust Build base debian rebuilds"]
        );
    }

    #[test]
    fn forcing_a_layer_rebuilds_what_stands_on_it() {
        let base = parts("debian", "a", &[]);
        let child = parts("rust", "b", &[("lamina/debian", &base.key())]);
        let plan = plan(
            vec![
                candidate(base.clone(), &[], true, Some(base)),
                candidate(child.clone(), &["debian"], true, Some(child)),
            ],
            &BTreeSet::from([LayerName::from("debian")]),
        );
        assert_eq!(told(&plan), ["1 debian Build forced", "2 rust Build base debian rebuilds"]);
    }

    #[test]
    fn what_stands_on_an_image_that_is_gone_is_looked_at_again() {
        let base = parts("debian", "a", &[]);
        let child = parts("rust", "b", &[("lamina/debian", &base.key())]);
        let grandchild = parts("app", "c", &[("lamina/rust", &child.key())]);
        let plan = plan(
            vec![
                candidate(base.clone(), &[], false, Some(base)),
                candidate(child.clone(), &["debian"], true, Some(child)),
                candidate(grandchild.clone(), &["rust"], true, Some(grandchild)),
            ],
            &BTreeSet::new(),
        );
        assert_eq!(
            told(&plan),
            [
                "1 debian Build new: its image is gone",
                "2 rust Build base debian rebuilds",
                "3 app Build base rust rebuilds"
            ]
        );
    }

    #[test]
    fn an_image_that_is_gone_is_said_to_be() {
        let base = parts("debian", "a", &[]);
        let plan = plan(vec![candidate(base.clone(), &[], false, Some(base))], &BTreeSet::new());
        assert_eq!(told(&plan), ["1 debian Build new: its image is gone"]);
    }
}

//! Any relevant part changed makes another key; nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{KeyInputs, effective_build_args, key_parts};
use crate::domain::base::{Digest, Platforms};
use crate::domain::model::{
    CatalogSettings, Declared, FileEntry, FileKind, Layer, LayerKey, Listing, ParentKey, Secret, Tool,
};

#[derive(Debug, Clone)]
struct Given {
    layer: Layer,
    dockerfile: Digest,
    listing: Listing,
    build_args: BTreeMap<String, String>,
    platforms: Platforms,
    frontend: Option<Digest>,
    parents: BTreeMap<String, ParentKey>,
    labels: BTreeMap<String, String>,
}

impl Given {
    fn key(&self) -> LayerKey {
        let declared = Declared { layer: self.layer.clone(), file: "w.ncl".into(), places: BTreeMap::new() };
        let inputs = KeyInputs {
            dockerfile: &self.dockerfile,
            listing: &self.listing,
            build_args: &self.build_args,
            platforms: &self.platforms,
            frontend: self.frontend.as_ref(),
            parents: &self.parents,
            labels: &self.labels,
        };
        key_parts(&declared, &inputs).key()
    }
}

fn given() -> impl Strategy<Value = Given> {
    let words = || proptest::collection::btree_set("[a-z]{1,4}", 1..4);
    let map = || proptest::collection::btree_map("[A-Z]{1,3}", "[a-z]{0,3}", 1..4);
    (words(), words(), words(), map(), map(), proptest::collection::btree_map("[a-c/]{1,4}", "[xyz]{0,2}", 1..5))
        .prop_map(|(tools, secrets, paths, args, labels, files)| {
            let mut layer: Layer =
                serde_json::from_value(serde_json::json!({ "name": "app", "kind": "app", "build_base": "debian" }))
                    .expect("a layer");
            layer.tools_provided = tools.into_iter().map(|name| Tool { name, version: None, probe: None }).collect();
            let secret = |id: String| Secret { id, env: None, file: None, required: false };
            layer.secrets = secrets.into_iter().map(secret).collect();
            layer.artifact_paths = paths.into_iter().map(|path| format!("/{path}")).collect();
            layer.ssh = vec!["default".into()];
            layer.labels = labels;
            let entry = |text: String| FileEntry { kind: FileKind::File, mode: 0o644, digest: Digest::of(text) };
            let files = files.into_iter().map(|(path, text)| (path, entry(text))).collect();
            Given {
                layer,
                dockerfile: Digest::of("FROM lamina/debian"),
                listing: Listing { files, bytes: 1, dockerfile: Digest::of("FROM lamina/debian"), ignore: None },
                build_args: args,
                platforms: "linux/amd64,linux/riscv64".into(),
                frontend: None,
                parents: BTreeMap::from([("lamina/debian".into(), ParentKey::External(Digest::of("d")))]),
                labels: BTreeMap::from([("zz".into(), "1".into())]),
            }
        })
}

/// Each makes another layer of it; the number tells which, `None` past the last.
fn relevant(given: &mut Given, which: usize) -> Option<()> {
    let layer = &mut given.layer;
    let file = given.listing.files.values_mut().next()?;
    match which {
        0 => layer.name = "other".into(),
        1 => layer.target = Some("t".into()),
        2 => layer.secrets.push(Secret { id: "NEW".into(), env: None, file: None, required: false }),
        3 => layer.ssh.push("new".into()),
        4 => layer.tools_provided[0].version = Some(">=1".into()),
        5 => layer.tools_provided[0].probe = Some("x --version".into()),
        6 => drop(layer.tools_provided.pop()),
        7 => layer.artifact_paths.push("/NEW".into()),
        8 => drop(layer.labels.insert("NEWLABEL".into(), "x".into())),
        9 => given.dockerfile = Digest::of("FROM lamina/debian "),
        10 => file.digest = Digest::of("other"),
        11 => file.mode = 0o755,
        12 => file.kind = FileKind::Link,
        13 => drop(given.listing.files.pop_first()),
        14 => {
            let copy = file.clone();
            given.listing.files.insert("new".into(), copy);
        }
        15 => given.listing.ignore = Some(Digest::of("x")),
        16 => drop(given.build_args.insert("NEWARG".into(), String::new())),
        17 => given.build_args.values_mut().for_each(|value| value.push('!')),
        18 => given.platforms = "linux/arm64".into(),
        19 => given.frontend = Some(Digest::of("f")),
        20 => drop(given.parents.insert("alpine".into(), ParentKey::External(Digest::of("d")))),
        21 => given.parents.values_mut().for_each(|parent| *parent = ParentKey::Layer(LayerKey(Digest::of("d")))),
        22 => given.parents.values_mut().for_each(|parent| *parent = ParentKey::External(Digest::of("e"))),
        23 => drop(given.labels.insert("zz".into(), "2".into())),
        _ => return None,
    }
    Some(())
}

/// None of these does.
fn irrelevant(given: &mut Given, which: usize) -> Option<()> {
    let layer = &mut given.layer;
    match which {
        0 => layer.language = Some("rust".into()),
        1 => layer.secrets.iter_mut().for_each(|secret| secret.env = Some("TOKEN".into())),
        2 => layer.secrets.iter_mut().for_each(|secret| secret.file = Some("token".into())),
        3 => layer.secrets.reverse(),
        4 => layer.tools_provided.reverse(),
        5 => layer.artifact_paths.reverse(),
        6 => layer.tools_required.push("cc".into()),
        7 => layer.context = "elsewhere".into(),
        8 => layer.kind = crate::domain::model::Kind::Deps,
        9 => given.listing.bytes = 99,
        10 => layer.ssh.push("default".into()),
        11 => layer.secrets.iter_mut().for_each(|secret| secret.required = true),
        12 => given.platforms = "linux/riscv64,linux/amd64,linux/riscv64".into(),
        _ => return None,
    }
    Some(())
}

proptest! {
    #[test]
    fn what_matters_changes_the_key_and_nothing_else_does(given in given()) {
        let key = given.key();
        for which in 0.. {
            let mut changed = given.clone();
            if relevant(&mut changed, which).is_none() {
                prop_assert_eq!(which, 24);
                break;
            }
            prop_assert_ne!(changed.key(), key.clone(), "change {} must count", which);
        }
        for which in 0.. {
            let mut changed = given.clone();
            if irrelevant(&mut changed, which).is_none() {
                prop_assert_eq!(which, 13);
                break;
            }
            prop_assert_eq!(changed.key(), key.clone(), "change {} must not count", which);
        }
    }
}

#[test]
fn build_arguments_are_handed_over_where_they_are_declared() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let settings = CatalogSettings {
        build_args: map(&[("A", "catalog"), ("B", "catalog"), ("X", "catalog")]),
        ..Default::default()
    };
    let mut layer: Layer =
        serde_json::from_value(serde_json::json!({ "name": "a", "kind": "app", "build_base": "b" })).expect("a layer");
    layer.build_args = map(&[("C", "workflow"), ("OWN", "layer")]);
    let declared: BTreeSet<String> = ["A", "B", "C"].map(str::to_owned).into();
    let args = effective_build_args(&settings, &map(&[("B", "workflow"), ("C", "workflow")]), &layer, &declared);
    assert_eq!(args, map(&[("A", "catalog"), ("B", "workflow"), ("C", "workflow"), ("OWN", "layer")]));
}

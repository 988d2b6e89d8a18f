//! Properties and pictures of the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::{Evidence, ImageOrigin, KnownPlatforms, LayerGraph, build};
use crate::domain::base::{LayerName, SourceLocation, Span};
use crate::domain::dockerfile;
use crate::domain::model::{
    Base, Catalog, CatalogSettings, Declared, Diagnostic, DockerfileRead, Kind, Layer, Secret, Tool,
};

/// A layer whose Dockerfile, unless another is given, uses just what is declared.
struct Sketch {
    layer: Layer,
    text: Option<String>,
}

fn layer(name: &str, base: &str) -> Sketch {
    let build_base = match base.split_once("image:") {
        Some((_, image)) => Base::External { image: image.to_owned() },
        None => Base::Layer(base.into()),
    };
    let layer = Layer {
        name: name.into(),
        kind: Kind::Utility,
        build_base,
        build_inputs: vec![],
        tools_provided: vec![],
        tools_required: vec![],
        artifact_paths: vec![],
        context: ".".into(),
        dockerfile: None,
        target: None,
        build_args: BTreeMap::new(),
        secrets: vec![],
        ssh: vec![],
        platforms: vec![],
        labels: BTreeMap::new(),
        language: None,
        frontend: None,
    };
    Sketch { layer, text: None }
}

impl Sketch {
    fn inputs(mut self, inputs: &[&str]) -> Self {
        self.layer.build_inputs = inputs.iter().map(|name| (*name).into()).collect();
        self
    }

    fn tools(mut self, provided: &[&str], required: &[&str]) -> Self {
        let tool = |name: &&str| Tool { name: (*name).to_owned(), version: None, probe: None };
        self.layer.tools_provided = provided.iter().map(tool).collect();
        self.layer.tools_required = required.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Layer)) -> Self {
        change(&mut self.layer);
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    fn dockerfile(&self) -> String {
        self.text.clone().unwrap_or_else(|| {
            let mut text = match &self.layer.build_base {
                Base::External { image } => format!("FROM {image}\n"),
                Base::Layer(base) => format!("FROM lamina/{base}\n"),
            };
            for input in &self.layer.build_inputs {
                let _ = writeln!(text, "COPY --from=lamina/{input} / /");
            }
            text
        })
    }

    /// Every field has a place of its own: its number among the fields.
    fn declared(&self, folder: &str) -> Declared {
        let file = PathBuf::from(format!("catalog/{folder}/workflow.ncl"));
        let list = |field: &str, count: usize| (0..count).map(|at| format!("{field}.{at}")).collect::<Vec<_>>();
        let mut fields = vec!["name".to_owned(), "build_base".to_owned(), "target".to_owned()];
        fields.extend(list("build_inputs", self.layer.build_inputs.len()));
        fields.extend(list("tools_required", self.layer.tools_required.len()));
        fields.extend(list("tools_provided", self.layer.tools_provided.len()));
        let place =
            |(at, field): (usize, String)| (field, SourceLocation { file: file.clone(), span: Span::new(at, at + 1) });
        Declared { layer: self.layer.clone(), places: fields.into_iter().enumerate().map(place).collect(), file }
    }
}

fn judged(sketches: &[Sketch], broken: &[&str]) -> (Option<LayerGraph>, Vec<Diagnostic>) {
    let layers: Vec<_> = sketches
        .iter()
        .enumerate()
        .map(|(at, sketch)| {
            let twin = sketches[..at].iter().any(|other| other.layer.name == sketch.layer.name);
            sketch.declared(&format!("{}{}", sketch.layer.name, if twin { "-twin" } else { "" }))
        })
        .collect();
    let mut read = BTreeMap::new();
    for sketch in sketches {
        let file = PathBuf::from(format!("lamina/{}/Dockerfile", sketch.layer.name));
        let layer = &sketch.layer;
        let facts =
            dockerfile::read(&sketch.dockerfile(), layer.target.as_deref(), &layer.build_args, &"linux/amd64".into());
        read.entry(layer.name.clone()).or_insert(DockerfileRead { file, facts });
    }
    let settings = CatalogSettings::default();
    let catalog = Catalog { root: "catalog".into(), project_root: "/p".into(), settings, layers };
    let broken: BTreeSet<LayerName> = broken.iter().map(|name| (*name).into()).collect();
    let platforms = &BTreeMap::new();
    let platforms = KnownPlatforms { layers: platforms, builders: false };
    build(&catalog, Evidence { dockerfiles: &read, broken: &broken, platforms, alone: false })
}

fn sound(sketches: &[Sketch]) -> LayerGraph {
    let (graph, faults) = judged(sketches, &[]);
    assert_eq!(shown(&faults), "");
    graph.expect("a sound graph")
}

fn shown(faults: &[Diagnostic]) -> String {
    let mut text = String::new();
    for fault in faults {
        let _ = writeln!(text, "{:?} {}: {}", fault.severity, fault.code, fault.message);
        for label in &fault.labels {
            let SourceLocation { file, span } = &label.place;
            let _ = writeln!(text, "  {}:{} {}", file.display(), span.start, label.text.as_deref().unwrap_or("-"));
        }
        for note in &fault.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        let _ = writeln!(text, "  help: {}", fault.help.as_deref().unwrap_or("none!"));
    }
    text
}

const DEBIAN: &str = "image:docker.io/library/debian:trixie-slim";

fn names(found: &[&LayerName]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn answers_questions_about_a_sound_catalog() {
    let graph = sound(&[
        layer("app", "debian").inputs(&["rust-deps"]).tools(&[], &["cargo"]),
        layer("debian", DEBIAN)
            .text("FROM debian:trixie-slim@sha256:0000000000000000000000000000000000000000000000000000000000000000\n"),
        layer("nushell", "debian").text("FROM lamina/debian\nCOPY --from=alpine:3 / /\n"),
        layer("rust", "debian").tools(&["cargo"], &[]).inputs(&["nushell"]),
        layer("rust-deps", "rust").with(|l| l.artifact_paths = vec!["/x".into()]),
        layer("uses-artifacts", "debian")
            .inputs(&["rust-deps"])
            .text("FROM lamina/debian:latest\nCOPY --from=lamina/rust-deps-artifacts /x /x\n"),
    ]);
    assert_eq!(
        names(&graph.layers().collect::<Vec<_>>()),
        ["debian", "nushell", "rust", "rust-deps", "app", "uses-artifacts"]
    );
    assert_eq!(names(&graph.parents(&"rust".into())), ["debian", "nushell"]);
    assert_eq!(names(&graph.children(&"debian".into())), ["nushell", "rust", "app", "uses-artifacts"]);
    assert_eq!(names(&graph.ancestors(&"rust-deps".into())), ["debian", "nushell", "rust"]);
    assert_eq!(names(&graph.descendants(&"rust".into())), ["rust-deps", "app", "uses-artifacts"]);
    assert_eq!((graph.edge_count(), graph.wave(&"app".into())), (8, Some(5)));
    let external = graph.externals(&"nushell".into());
    assert_eq!(external.iter().map(|(image, _)| image.to_string()).collect::<Vec<_>>(), ["docker.io/library/alpine:3"]);
    let images = graph.images(&"uses-artifacts".into());
    assert_eq!(images[0].context, "lamina/debian");
    assert_eq!(images[1].origin, ImageOrigin::Artifacts("rust-deps".into()));
    let part = graph.with_targets(&["rust".into()]).expect("a layer");
    assert_eq!(names(&part.layers().collect::<Vec<_>>()), ["debian", "nushell", "rust"]);
    assert_eq!(names(&part.children(&"debian".into())), ["nushell", "rust"]);
    let unknown = graph.with_targets(&["ap".into()]).expect_err("no layer");
    assert_eq!(unknown.help, "did you mean `app`?");
}

#[test]
fn an_empty_catalog_is_sound() {
    assert!(sound(&[]).is_empty());
}

#[test]
fn names_that_lead_nowhere() {
    let (graph, faults) = judged(
        &[
            layer("rust", "debain"),
            layer("debian", DEBIAN).inputs(&["rust", "rust", "debian", "nowhere"]),
            layer("self", "self"),
            layer("debian", DEBIAN),
            layer("waits", "torn"),
            layer("slash", "debian:trixie"),
        ],
        &["torn"],
    );
    assert!(graph.is_none());
    let declared: Vec<_> = faults.into_iter().filter(|fault| !fault.code.contains("dockerfile")).collect();
    insta::assert_snapshot!(shown(&declared));
}

#[test]
fn tells_every_cycle_once() {
    let (graph, faults) = judged(
        &[
            layer("rust", "tools"),
            layer("tools", "leptos"),
            layer("leptos", "rust").inputs(&["debian"]),
            layer("debian", DEBIAN),
            layer("a", "b"),
            layer("b", "a"),
            layer("c", "b").inputs(&["d"]),
            layer("d", "c"),
            layer("below", "a").tools(&[], &["nothing"]),
        ],
        &[],
    );
    assert!(graph.is_none());
    insta::assert_snapshot!(shown(&faults));
}

#[test]
fn tools_that_are_missing_or_there_already() {
    let (_, faults) = judged(
        &[
            layer("debian", DEBIAN).tools(&["cc"], &["make"]),
            layer("rust", "debian").tools(&["cargo", "cargo-chef", "cc"], &["cc"]),
            layer("chef", "debian").tools(&["cargo-chef"], &[]),
            layer("app", "debian").inputs(&["chef"]).tools(&["app", "cargo-chef"], &["cargo", "cargo-chef"]),
            layer("other", "debian").inputs(&["chef"]).tools(&["x", "x"], &["cargo-chif", "top", "x", "zzz", "cargo"]),
            layer("top", "other").tools(&["top"], &[]),
        ],
        &[],
    );
    insta::assert_snapshot!(shown(&faults));
}

#[test]
fn dockerfiles_and_declarations_that_disagree() {
    let secret = Secret { id: "known".into(), env: None, file: None, required: false };
    let (_, faults) = judged(
        &[
            layer("debian", DEBIAN).text("FROM alpine\n"),
            layer("rust", "debian").text("FROM lamina/debian:trixie\n"),
            layer("nushell", "debian").inputs(&["rust"]).text("FROM debian AS x\nCOPY --from=lamina/debian / /\n"),
            layer("app", "debian")
                .text("FROM lamina/rust\nCOPY --from=lamina/nushel / /\nCOPY --from=lamina/app / /\nFROM lamina/debian\nCOPY --from=0 / /\n"),
            layer("art", "debian").inputs(&["rust"]).text("FROM lamina/debian\nCOPY --from=lamina/rust-artifacts / /\n"),
            layer("targets", "debian").with(|l| l.target = Some("biuld".into())).text("FROM lamina/debian AS build\n"),
            layer("torn", "debian").text("FORM lamina/debian\n"),
            layer("names", "debian")
                .with(|l| {
                    l.secrets = vec![secret];
                    l.build_args = [("VERSIN", "1"), ("HTTP_PROXY", "x")].map(|(k, v)| (k.into(), v.into())).into();
                })
                .text("FROM lamina/debian\nARG VERSION\nRUN --mount=type=secret,id=known --mount=type=secret,id=token --mount=type=secret,id=ca --mount=type=ssh true\n"),
            layer("bad", "image:Not An Image").text("FROM scratch\n"),
        ],
        &[],
    );
    insta::assert_snapshot!(shown(&faults));
}

#[test]
fn ten_thousand_layers_in_a_chain() {
    let mut sketches = vec![layer("l0", DEBIAN).tools(&["cc"], &[])];
    sketches.extend((1..10_000).map(|at| layer(&format!("l{at}"), &format!("l{}", at - 1)).tools(&[], &["cc"])));
    let graph = sound(&sketches);
    assert_eq!((graph.waves().len(), graph.ancestors(&"l9999".into()).len()), (10_000, 9_999));
    sketches[0] = layer("l0", "l9999");
    let (_, faults) = judged(&sketches, &[]);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.contains("… 9988 more …"), "{}", faults[0].message);
}

/// Layers in any order of names; each may stand on those of lower number.
fn dag() -> impl Strategy<Value = Vec<(String, Vec<usize>)>> {
    (1usize..24).prop_flat_map(|count| {
        let parents = (0..count).map(|at| proptest::collection::btree_set(0..at.max(1), 0..=at.min(4)));
        let names = Just((0..count).map(|at| format!("l{:02}", (at * 7) % 24)).collect::<Vec<_>>());
        (names, parents.collect::<Vec<_>>()).prop_map(|(names, parents)| {
            let lower = |(at, set): (usize, BTreeSet<usize>)| set.into_iter().filter(|p| *p < at).collect();
            names.into_iter().zip(parents.into_iter().enumerate().map(lower)).collect()
        })
    })
}

fn sketched(dag: &[(String, Vec<usize>)]) -> Vec<Sketch> {
    let sketch = |(name, parents): &(String, Vec<usize>)| {
        let parents: Vec<&str> = parents.iter().map(|at| dag[*at].0.as_str()).collect();
        match parents.as_slice() {
            [] => layer(name, DEBIAN),
            [base, inputs @ ..] => layer(name, base).inputs(inputs),
        }
    };
    dag.iter().map(sketch).collect()
}

proptest! {
    #[test]
    fn accepts_whatever_has_no_cycle(dag in dag()) {
        let graph = sound(&sketched(&dag));
        let order: Vec<LayerName> = graph.layers().cloned().collect();
        let at = |name: &LayerName| order.iter().position(|other| other == name).expect("a layer");
        for name in &order {
            let parents = graph.parents(name);
            prop_assert!(parents.iter().all(|parent| at(parent) < at(name)));
            let deepest = parents.iter().filter_map(|parent| graph.wave(parent)).max().unwrap_or(0);
            prop_assert_eq!(graph.wave(name), Some(deepest + 1), "waves are as low as can be");
            for ancestor in graph.ancestors(name) {
                prop_assert!(graph.descendants(ancestor).contains(&name));
            }
        }
        prop_assert_eq!(graph.waves().concat().len(), order.len());
        let target = order[order.len() / 2].clone();
        let part = graph.with_targets(std::slice::from_ref(&target)).expect("a layer");
        let mut wanted: Vec<LayerName> = graph.ancestors(&target).into_iter().cloned().collect();
        wanted.push(target);
        prop_assert_eq!(part.layers().cloned().collect::<BTreeSet<_>>(), wanted.into_iter().collect());
    }

    #[test]
    fn an_edge_back_is_told_as_a_cycle_that_holds_it(dag in dag(), low in any::<usize>(), high in any::<usize>()) {
        let graph = sound(&sketched(&dag));
        let names: Vec<LayerName> = graph.layers().cloned().collect();
        let high = &names[high % names.len()];
        let mut lows = graph.ancestors(high);
        prop_assume!(!lows.is_empty());
        let low = lows.swap_remove(low % lows.len()).clone();
        let mut sketches = sketched(&dag);
        let sketch = sketches.iter_mut().find(|sketch| sketch.layer.name == low).expect("a layer");
        sketch.layer.build_inputs.push(high.clone());
        let (graph, faults) = judged(&sketches, &[]);
        prop_assert!(graph.is_none());
        let cycles: Vec<_> = faults.iter().filter(|fault| fault.code == "lian::graph::cycle").collect();
        prop_assert!(!cycles.is_empty());
        let edge = format!("`{low}` waits for `{high}`");
        for cycle in cycles {
            prop_assert!(cycle.labels.iter().any(|label| label.text.as_deref() == Some(&edge)), "{}", cycle.message);
        }
    }
}

#[test]
fn a_layer_may_stand_on_nothing() {
    let scratch = "image:scratch";
    let (graph, faults) = judged(
        &[
            layer("static", scratch).text("FROM scratch\nCOPY a /a\n"),
            layer("built", scratch).text("FROM debian AS build\nFROM scratch\nCOPY --from=build /a /a\n"),
        ],
        &[],
    );
    assert!(graph.is_some() && faults.is_empty(), "{}", shown(&faults));
    let (_, faults) = judged(&[layer("other", scratch).text("FROM debian\n")], &[]);
    assert_eq!(faults.len(), 1, "{}", shown(&faults));
}

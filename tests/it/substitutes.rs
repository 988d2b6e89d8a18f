//! Local copies that stand for images of registries: their platforms, and the digests that they do not keep. Not
//! responsible for: what is built on them (see `parents`).

use lian_build::domain::base::Digest;

use crate::parents::{ARCHITECTURES, BASE, Variant, json_at, layout, unwrapped, with_layout};
use crate::support::project::{Project, text};

#[test]
fn a_substitute_must_hold_an_image_for_the_platform_that_a_stage_asks_for() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    let (layout, _) = layout(&project, &[Variant { architecture: host, on_build: &[] }]);
    let index = json_at(&layout.join("index.json"));
    let pinned = format!("base.example/multi:1@{}", text(&index["manifests"][0]["digest"]));
    for (image, exit) in [("base.example/multi:1", 64), (pinned.as_str(), 1)] {
        let base = format!("  build_base = {{ image = \"{image}\" }},");
        project.layer(
            "app",
            &base,
            &format!("FROM --platform=linux/{other} {image} AS there\nFROM {image}\nCOPY --from=there /arch /\n"),
        );
        let said = with_layout(&project, &["plan"], &layout).exits(exit).both();
        let wanted = format!("holds an image for linux/{host}, and one for linux/{other} is needed");
        assert!(said.contains("lian::registries::other_platform") && unwrapped(&said).contains(&wanted), "{said}");
    }
}

#[test]
fn digests_that_a_substitute_replaces_are_told() {
    const CODE: &str = "lian::registries::substituted_digest";
    let project = Project::with_base();
    let (layout, _) = layout(&project, &[Variant { architecture: ARCHITECTURES.0, on_build: &[] }]);
    let becomes = text(&json_at(&layout.join("index.json"))["manifests"][0]["digest"]).to_owned();
    let [a, b] = ["a", "b"].map(|content| Digest::of(content).to_string());
    let image = |digest: &str| format!("base.example/multi:1@{digest}");
    let base = |digest: &str| format!("  build_base = {{ image = \"{}\" }},", image(digest));
    project.layer("one", &base(&a), &format!("FROM {}\nRUN true\n", image(&a)));
    let substitute = format!("oci-layout:{}", layout.display());
    // One digest: that it is not kept. Whoever names it means it.
    let said = unwrapped(&with_layout(&project, &["plan"], &layout).exits(0).both());
    let wanted = format!("is pinned to {a}, and its substitute holds another image: {becomes}");
    assert!(said.contains(CODE) && said.contains(&wanted), "{said}");
    let named = format!("--base-image={}={substitute}", image(&a));
    assert!(!with_layout(&project, &["plan", &named], &layout).exits(0).both().contains(CODE));
    // Two digests: that they become one image.
    let copies = format!("FROM base.example/busybox:1\nCOPY --from={} /arch /arch\n", image(&b));
    project.layer("two", BASE, &copies);
    let said = unwrapped(&with_layout(&project, &["plan"], &layout).exits(0).both());
    let (first, second) = if a < b { (&a, &b) } else { (&b, &a) };
    let wanted = format!(
        "`base.example/multi:1` is pinned to {first} and {second}, and its substitute makes them one image: {becomes}"
    );
    assert!(said.contains(&wanted), "{said}");
    for place in ["catalog/one/workflow.ncl:", "catalog/one/Dockerfile:1:6", "catalog/two/Dockerfile:2:13"] {
        assert!(said.contains(place), "{said}");
    }
    let plan = with_layout(&project, &["plan", "--format", "json"], &layout).exits(0).json();
    let row = &plan["diagnostics"][0];
    assert_eq!((text(&row["code"]), text(&row["severity"])), (CODE, "warning"));
    // `check` knows the workflow's substitutes.
    let bases = format!("base_images = {{ \"base.example/multi:1\" = \"{substitute}\" }}");
    let workflow = format!(
        "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", {bases} }} | Workflow\n"
    );
    project.write("workflows/local.ncl", &workflow);
    let row = project.lian(&["check", "--format", "json"]).exits(0).json()["diagnostics"][0].clone();
    let told = [&a, &b, &becomes].into_iter().all(|digest| text(&row["message"]).contains(digest.as_str()));
    assert!(row["code"] == CODE && told, "{row}");
    project.lian(&["check", "--strict"]).exits(1);
}

#[test]
fn an_image_is_not_made_of_another_platform_than_its_layer_is_built_for() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    let both = [Variant { architecture: host, on_build: &[] }, Variant { architecture: other, on_build: &[] }];
    let (layout, _) = layout(&project, &both);
    let base = "  build_base = { image = \"base.example/multi:1\" },";
    let there = format!("FROM --platform=linux/{other} base.example/multi:1 AS there\nLABEL a=b\n");
    project.layer("app", base, &there);
    let said = with_layout(&project, &["apply"], &layout).exits(1).both();
    let wanted = format!("declare it for `app`: `platforms = [\"linux/{other}\"]`");
    assert!(said.contains("lian::graph::other_platform") && unwrapped(&said).contains(&wanted), "{said}");
    // Both ways out lead somewhere.
    project.layer("app", &format!("{base}\n  platforms = [\"linux/{other}\"],"), &there);
    assert_eq!(with_layout(&project, &["apply", "--format", "json"], &layout).exits(0).outcomes(), ["app=built"]);
    project.layer("app", base, &format!("{there}FROM base.example/multi:1\nCOPY --from=there /arch /there\n"));
    assert_eq!(with_layout(&project, &["apply", "--format", "json"], &layout).exits(0).outcomes(), ["app=built"]);
}

#[test]
fn a_stage_of_another_platform_copies_from_images_of_the_layers_own() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    let both = [Variant { architecture: host, on_build: &[] }, Variant { architecture: other, on_build: &[] }];
    let (layout, _) = layout(&project, &both);
    project.layer(
        "app",
        BASE,
        &format!(
            "FROM --platform=linux/{other} base.example/multi:1 AS there\nCOPY --from=base.example/multi:1 /arch /copied\n\
             FROM base.example/busybox:1\nCOPY --from=there /arch /copied /\nRUN grep -q {other} /arch && grep -q {host} /copied\n"
        ),
    );
    let ran = with_layout(&project, &["apply", "--format", "json"], &layout).exits(0);
    assert_eq!(ran.outcomes(), ["app=built"]);
}

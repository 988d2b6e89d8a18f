//! What catalogs evaluate to, and every fault that a file can have.

use super::{drawn, evaluator, fixture, load, request};

fn said(case: &str) {
    let loaded = load(&fixture(case));
    let mut text = drawn(&loaded.diagnostics, &loaded.sources);
    let sound: Vec<_> = loaded.catalog.layers.iter().map(|one| one.layer.name.to_string()).collect();
    text.push_str(&format!("sound: {sound:?}, broken: {:?}\n", loaded.broken));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(std::env::current_dir().expect("a folder").join(fixture(case)));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.remove_info();
    settings.add_filter(env!("CARGO_MANIFEST_DIR"), "[repository]");
    settings.bind(|| insta::assert_snapshot!("expected", text));
}

macro_rules! cases {
    ($($case:ident)*) => {$(
        #[test]
        fn $case() {
            said(stringify!($case));
        }
    )*};
}

cases! { parse typecheck contract missing_field unknown_field import_not_found import_outside import_cycle eval shared_fault }

#[test]
fn sound() {
    let loaded = load(&fixture("sound"));
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
    let mut text = serde_json::to_string_pretty(&loaded.catalog.settings).expect("json");
    for declared in &loaded.catalog.layers {
        text.push_str(&format!("\n{}\n", declared.file.display()));
        text.push_str(&serde_json::to_string_pretty(&declared.layer).expect("json"));
        for (field, place) in &declared.places {
            let source = loaded.sources.get(&place.file).expect("the text was sent");
            let covered = &source[place.span.start..place.span.end];
            let (line, column) = place.span.line_column(source);
            text.push_str(&format!("\n{field}: {}:{line}:{column} {covered}", place.file.display()));
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn settings_override_what_files_say() {
    let mut request = request(&fixture("sound"));
    request.settings = [
        ("rust.build_args.VERSION", "1.10"),
        ("rust.build_base", "bare"),
        ("rust.tools_required", "[\"ld\"]"),
        ("rust.tools_provided", "[]"),
        ("bare.kind", "deps"),
        ("bare.labels.\"org.x\"", "%{y} 50% \\ \"z\""),
        ("catalog.namespace", "theirs"),
    ]
    .map(|(path, value)| (path.to_owned(), value.to_owned()))
    .into();
    let loaded = evaluator().load(&request).expect("a catalog");
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
    assert_eq!(loaded.catalog.settings.namespace, "theirs");
    let rust = &loaded.catalog.layers.iter().find(|one| one.layer.name.as_str() == "rust").expect("rust").layer;
    assert_eq!(rust.build_args["VERSION"], "1.10");
    assert_eq!(serde_json::to_value(&rust.build_base).expect("json"), "bare");
    assert_eq!((rust.tools_required.as_slice(), rust.tools_provided.len()), (["ld".to_owned()].as_slice(), 0));
    let bare = &loaded.catalog.layers[0].layer;
    assert_eq!(
        (bare.kind, bare.labels["org.x"].as_str()),
        (lian_build::domain::model::Kind::Deps, "%{y} 50% \\ \"z\"")
    );
}

#[test]
fn settings_that_meet_nothing_are_told() {
    let mut request = request(&fixture("sound"));
    request.settings = [
        ("rsut.context", "x"),
        ("rust.contxt", "x"),
        ("rust.kind", "7"),
        ("catalog.namespace", "Big"),
        ("catalog.nothing", "1"),
    ]
    .map(|(path, value)| (path.to_owned(), value.to_owned()))
    .into();
    let loaded = evaluator().load(&request).expect("a catalog");
    insta::assert_snapshot!(drawn(&loaded.diagnostics, &loaded.sources));
}

#[test]
fn a_missing_catalog_is_an_error_and_an_empty_one_is_not() {
    let error = evaluator().load(&request(&fixture("nowhere"))).expect_err("there is none");
    assert_eq!(error.to_string(), "there is no catalog at tests/fixtures/nickel/nowhere/catalog");
    let empty = super::catalog(&[]);
    let loaded = load(empty.path());
    assert!(loaded.catalog.layers.is_empty() && loaded.diagnostics.is_empty());
}

#[test]
fn the_projects_own_catalog_and_workflows_are_sound() {
    let loaded = load(std::path::Path::new("."));
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
    assert!(loaded.catalog.layers.len() >= 8);
    let mut workflows = 0;
    for entry in std::fs::read_dir("workflows").expect("the workflows") {
        let file = entry.expect("a file").path();
        if file.extension().is_some_and(|extension| extension == "ncl") {
            let loaded = evaluator().workflow(&file, &[]).expect("a workflow");
            assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
            let workflow = loaded.workflow.expect("it evaluated");
            assert_eq!(workflow.catalog.as_deref(), Some(std::path::Path::new("catalog")));
            workflows += 1;
        }
    }
    assert!(workflows >= 2);
}

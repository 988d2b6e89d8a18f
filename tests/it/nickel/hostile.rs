//! Files that mean harm end in a diagnostic, soon, and harm no other.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lian_build::adapters::nickel::Limits;

use super::{catalog, drawn, evaluator, fixture, load, request, tight};

#[test]
fn whatever_a_file_does_the_others_are_read() {
    let began = Instant::now();
    let loaded = evaluator().with_limits(tight()).load(&request(&fixture("hostile"))).expect("a catalog");
    let took = began.elapsed();
    let text = drawn(&loaded.diagnostics, &loaded.sources);
    let codes: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|fault| (fault.layer.as_ref().expect("a layer").as_str(), fault.code.as_ref()))
        .collect();
    // Which limit an endless file meets first depends on the machine.
    let limit = "lian::nickel::limit";
    let expected = [
        ("endless", limit),
        ("huge-array", limit),
        ("huge-string", limit),
        ("large-string", limit),
        ("tower", "lian::nickel::contract"),
    ];
    assert_eq!(codes, expected, "{text}");
    assert_eq!(text.matches("limit was reached").count(), 3, "{text}");
    let sound: Vec<_> = loaded.catalog.layers.iter().map(|one| one.layer.name.as_str()).collect();
    assert_eq!(sound, ["good"]);
    assert!(took < Duration::from_secs(45), "it took {took:?}");
}

#[test]
fn deep_nesting_reaches_the_stack_limit() {
    let brackets = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let parentheses = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let records = format!("{}1{}", "{ a = ".repeat(50_000), "}".repeat(50_000));
    let good = "{ name = \"good\", kind = 'app, build_base = \"a\" }";
    let project = catalog(&[
        ("catalog/brackets/workflow.ncl", &brackets),
        ("catalog/good/workflow.ncl", good),
        ("catalog/parentheses/workflow.ncl", &parentheses),
        ("catalog/records/workflow.ncl", &records),
    ]);
    let loaded = evaluator().with_limits(tight()).load(&request(project.path())).expect("a catalog");
    assert_eq!(loaded.catalog.layers.len(), 1, "{:?}", loaded.diagnostics);
    assert_eq!(loaded.broken.len(), 3);
    for fault in &loaded.diagnostics {
        assert!(
            ["lian::nickel::limit", "lian::nickel::contract"].contains(&fault.code.as_ref()),
            "{}: {}",
            fault.code,
            fault.message
        );
    }
}

#[test]
fn a_catalog_full_of_endless_files_ends_in_bounded_time() {
    let project = catalog(&[]);
    for index in 0..300 {
        let folder = project.path().join(format!("catalog/l{index}"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("workflow.ncl"), "let rec f = fun x => f x in f 1").expect("a file");
    }
    let limits = Limits { wall: Duration::from_secs(3), ..tight() };
    let began = Instant::now();
    let loaded = evaluator().with_limits(limits).load(&request(project.path())).expect("a catalog");
    // One after the other, each with a second of its own, they would take minutes.
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    assert_eq!(loaded.broken.len(), 300);
    assert!(loaded.diagnostics.iter().all(|fault| fault.code == "lian::nickel::limit"));
}

#[test]
fn a_link_out_of_the_project_is_refused_unless_allowed() {
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("shared.ncl"), "{ base = \"debian\" }").expect("a file");
    std::fs::write(outside.path().join("workflow.ncl"), "{}").expect("a file");
    let layer =
        "let shared = import \"../../link/shared.ncl\" in { name = \"a\", kind = 'app, build_base = shared.base }";
    let project = catalog(&[("catalog/a/workflow.ncl", layer)]);
    std::os::unix::fs::symlink("/etc/passwd", project.path().join("catalog/catalog.ncl")).expect("a link");
    std::os::unix::fs::symlink(outside.path(), project.path().join("link")).expect("a link");
    std::os::unix::fs::symlink(outside.path(), project.path().join("catalog/z")).expect("a link");
    let loaded = load(project.path());
    let codes: Vec<_> = loaded.diagnostics.iter().map(|fault| fault.code.as_ref()).collect();
    assert_eq!(codes, ["lian::nickel::import_outside"; 3]);
    assert!(loaded.catalog.layers.is_empty());

    std::fs::remove_file(project.path().join("catalog/z")).expect("the link");
    std::fs::remove_file(project.path().join("catalog/catalog.ncl")).expect("the link");
    let mut request = request(project.path());
    request.allow_imports = vec![outside.path().to_owned()];
    let loaded = evaluator().load(&request).expect("a catalog");
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
    assert_eq!(loaded.catalog.layers.len(), 1);
}

#[test]
fn imports_in_hidden_places_are_refused_too() {
    let secret = "import \"/etc/passwd\" as 'Text";
    let places = [
        format!("{{ include x | ({secret}), name = \"a\" }}"),
        format!("let f = fun {{ a ? ({secret}) }} => a in {{ name = f {{}} }}"),
        format!("{{ name | ({secret}) = \"a\" }}"),
        format!("{{ \"%{{{secret}}}\" = 1 }}"),
        format!("{{ name = 'Tag ({secret}) }}"),
        format!("{{ name : Array ({secret}) = [] }}"),
        format!("{{ name = 1 |> match {{ x if ({secret}) == 1 => x }} }}"),
    ];
    let files: Vec<_> =
        places.iter().enumerate().map(|(at, text)| (format!("catalog/l{at}/workflow.ncl"), text.as_str())).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let project = catalog(&files);
    let loaded = load(project.path());
    assert_eq!(loaded.broken.len(), places.len());
    for (at, place) in places.iter().enumerate() {
        let layer = format!("l{at}");
        let said: Vec<_> = loaded
            .diagnostics
            .iter()
            .filter(|fault| fault.layer.as_ref().is_some_and(|name| [layer.as_str(), "a"].contains(&name.as_str())))
            .map(|fault| fault.code.as_ref())
            .collect();
        assert!(
            said.contains(&"lian::nickel::import_outside") || said.contains(&"lian::nickel::parse"),
            "{}: {:?}",
            place,
            drawn(&loaded.diagnostics, &loaded.sources)
        );
    }
    assert!(!drawn(&loaded.diagnostics, &loaded.sources).contains("root:"));
}

#[test]
fn a_pipe_is_no_file() {
    let layer = "let p = import \"pipe\" as 'Text in { name = p }";
    let project = catalog(&[("catalog/a/workflow.ncl", layer)]);
    let made = std::process::Command::new("mkfifo").arg(project.path().join("catalog/a/pipe")).status();
    assert!(made.expect("mkfifo").success());
    let loaded = load(project.path());
    assert_eq!(loaded.diagnostics[0].code, "lian::nickel::import_not_found");
}

#[test]
fn a_thousand_layers_are_read_at_once() {
    let project = catalog(&[]);
    for index in 0..1000 {
        let folder = project.path().join(format!("catalog/layer-{index}"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("workflow.ncl"), layer(index)).expect("a file");
    }
    let began = Instant::now();
    let loaded = load(project.path());
    eprintln!("1,000 layers: {:?}", began.elapsed());
    assert_eq!(loaded.catalog.layers.len(), 1000);
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
}

/// Twenty lines, as a real layer has them.
fn layer(index: usize) -> String {
    let mut text = String::from("let { Layer, .. } = import \"schemas/workflow.ncl\" in\n{\n");
    writeln!(text, "  name = \"layer-{index}\",\n  kind = 'toolchain,").expect("text");
    match index {
        0 => text.push_str("  build_base = { image = \"docker.io/library/debian:trixie-slim\" },\n"),
        _ => writeln!(text, "  build_base = \"layer-{}\",", index - 1).expect("text"),
    }
    text.push_str("  build_inputs = [],\n  tools_required = [\"sh\", \"cc\"],\n  tools_provided = [\n");
    writeln!(text, "    \"tool-{index}\",\n    {{ name = \"other-{index}\", version = \">=1.2\" }},\n  ],")
        .expect("text");
    text.push_str("  artifact_paths = [\"/usr/local/bin/tool\"],\n  context = \"../../lamina/layer\",\n");
    text.push_str("  build_args = {\n    VERSION = \"1.2\",\n    FLAVOUR = \"full\",\n  },\n");
    text.push_str("  labels.\"org.opencontainers.image.title\" = \"a layer\",\n  language = \"rust\",\n} | Layer\n");
    text
}

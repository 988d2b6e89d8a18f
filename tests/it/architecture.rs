//! The rules of the architecture that a machine can hold: who imports whom, purity, names of callers, sizes of files.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules from the ground up: each imports only from lower layers, and siblings never import each other. A name with
/// `::` is a module within one.
const LAYERS: &[(&str, u8)] = &[
    ("domain::base", 0),
    ("domain::model", 1),
    ("domain::dockerfile", 2),
    ("domain::graph", 2),
    ("domain::ports", 2),
    ("domain::sizing", 2),
    ("domain::cache", 2),
    ("domain::plan", 3),
    ("domain::life", 4),
    ("system", 5),
    ("adapters::docker_cli", 6),
    ("adapters::engine", 7),
    ("adapters::buildkit", 7),
    ("adapters::context", 7),
    ("adapters::nickel", 7),
    ("adapters::providers", 7),
    ("adapters::registry", 7),
    ("adapters::store", 7),
    ("adapters::transport", 7),
    ("adapters::runner", 8),
    ("report", 8),
    ("app", 9),
    ("serve", 10),
    ("cli", 11),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(root().join(below))
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no sources below {below}");
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).expect("readable"))).collect()
}

/// The module of [`LAYERS`] that a path of modules (`domain::model::layer`) lies in.
fn layer_of(path: &str) -> Option<(&'static str, u8)> {
    let inside = |name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    LAYERS.iter().copied().find(|(name, _)| inside(name))
}

/// `src/domain/model/layer.rs` as `domain::model::layer`.
fn module_path(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a source").with_extension("");
    let names: Vec<_> = inside.iter().map(|name| name.to_string_lossy()).filter(|name| name != "mod").collect();
    names.join("::")
}

/// What a file is made of without its tests.
fn production<'a>(path: &Path, text: &'a str) -> &'a str {
    let test = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    let own =
        ["#[cfg(test)]\nmod tests", "#[cfg(test)]\npub(super) mod tests"].iter().filter_map(|at| text.find(at)).min();
    if test { "" } else { &text[..own.unwrap_or(text.len())] }
}

/// A text without blanks and line ends: a call is found however it is broken into lines.
fn joined(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Every path that follows `crate::` in a text.
fn imports(text: &str) -> Vec<String> {
    let path = |after: &str| after.chars().take_while(|c| c.is_ascii_alphanumeric() || "_:".contains(*c)).collect();
    text.split("crate::").skip(1).map(path).collect()
}

#[test]
fn modules_import_downward_only() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let module = module_path(&path);
        let Some((own, layer)) = layer_of(&module) else {
            let outside = ["lib", "main", "adapters", "domain"].contains(&module.as_str());
            if !outside {
                faults.push(format!("{}: the module `{module}` has no layer", path.display()));
            }
            continue;
        };
        for import in imports(production(&path, &text)) {
            match layer_of(&import) {
                Some((other, _)) if other == own => {}
                Some((_, below)) if below < layer => {}
                Some((other, _)) => faults.push(format!("{}: {own} imports {other}", path.display())),
                None if ["adapters", "domain"].iter().any(|group| import.starts_with(group)) => {
                    faults.push(format!("{}: `crate::{import}` names no module that has a layer", path.display()));
                }
                None => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn holds_none_of(below: &str, banned: &[&str]) {
    for (path, text) in sources(below) {
        for word in banned {
            assert!(!text.contains(word), "{}: {below} and `{word}`", path.display());
        }
    }
}

#[test]
fn the_domain_is_pure() {
    let banned = ["tokio::", "std::fs", "std::env", "std::process", "SystemTime", "println!", "eprintln!", "std::net"];
    holds_none_of("src/domain", &banned);
}

#[test]
fn the_application_prints_nothing_and_knows_no_exit_code() {
    holds_none_of("src/app", &["clap", "println!", "eprintln!", "print!(", "ExitCode", "process::exit"]);
}

/// Who opens files without `system::read`, and why that is sound.
const OPENERS: &[(&str, &str)] = &[
    ("adapters::buildkit::daemon", "its own lock and log, in its own folder"),
    ("adapters::buildkit::supervise", "/proc"),
    ("adapters::providers::local", "/proc"),
    ("adapters::providers::ssh::local_lock", "its own locks"),
    ("adapters::registry::archive", "blobs of a layout, piece by piece"),
    ("adapters::registry::client::body", "blobs of a layout, piece by piece"),
    ("adapters::registry::index", "our own layout"),
    ("adapters::registry::layout", "our own layout"),
    ("adapters::registry::promote", "our own layout"),
    ("adapters::registry::remote::promote", "our own staging folder"),
    ("adapters::store", "our own state"),
    ("app::history", "our own state"),
    ("app::runners::provider_options", "/etc"),
];

#[test]
fn files_are_opened_in_one_way() {
    let words = ["fs::read(", "fs::read_to_string(", "File::open(", "OpenOptions"];
    for (path, text) in sources("src") {
        let module = module_path(&path);
        let has_reason = |(name, _): &(&str, &str)| module == *name || module.starts_with(&format!("{name}::"));
        if module.starts_with("system") || OPENERS.iter().any(has_reason) {
            continue;
        }
        for word in words {
            let text = production(&path, &text);
            assert!(!text.contains(word), "{}: `{word}`: system::read opens files, bounded", path.display());
        }
    }
}

#[test]
fn answers_over_http_are_read_in_one_way() {
    let words = [
        ".bytes().await",
        ".json().await",
        ".json::<",
        ".text().await",
        ".text_with_charset(",
        ".chunk().await",
        "bytes_stream(",
    ];
    for (path, text) in sources("src").into_iter().filter(|(path, _)| module_path(path).starts_with("adapters")) {
        for word in words {
            let text = joined(production(&path, &text));
            let used = text.contains("reqwest") && text.contains(word);
            assert!(!used, "{}: `{word}`: system::peer reads answers, bounded", path.display());
        }
    }
    // Clients are made, and requests sent, in one place; one client follows redirects.
    let sent = [
        ".send().await",
        "reqwest::Client::",
        "ClientBuilder::new(",
        "reqwest::get(",
        "reqwest::blocking",
        "hyper::client",
    ];
    for (path, text) in sources("src").into_iter().filter(|(path, _)| !module_path(path).starts_with("system")) {
        let text = production(&path, &text);
        let found = sent.iter().find(|word| joined(text).contains(**word));
        assert!(found.is_none(), "{}: {found:?}: see system::http and system::peer", path.display());
        let imported = text.lines().any(|line| line.starts_with("use reqwest::") && line.contains("Client"));
        assert!(!imported, "{}: system::http makes clients", path.display());
        let redirected = text.contains(".redirect(") && module_path(&path) != "adapters::registry::client::request";
        assert!(!redirected, "{}: requests with tokens are sent nowhere else", path.display());
    }
    // An answer that is packed could unpack to any size.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    let client = manifest.lines().find(|line| line.starts_with("reqwest")).expect("the HTTP client");
    for packed in ["gzip", "brotli", "zstd", "deflate"] {
        assert!(!client.contains(packed), "{client}");
    }
}

#[test]
fn what_programs_print_is_read_in_one_way() {
    let words = [".output()", ".wait_with_output(", "read_to_end(", "read_to_string(&mut"];
    // The evaluating child reads what its own parent asks.
    let others =
        |path: &Path| !module_path(path).starts_with("system") && module_path(path) != "adapters::nickel::child";
    for (path, text) in sources("src").into_iter().filter(|(path, _)| others(path)) {
        for line in production(&path, &text).lines() {
            // A stream that is cut off is bounded, too.
            // `.take()` only moves it.
            let bounded = line.replace(".take()", "").contains(".take(");
            let found = words.iter().find(|word| line.contains(**word) && !bounded);
            assert!(found.is_none(), "{}: {found:?}: system::process reads it, bounded", path.display());
        }
    }
}

#[test]
fn text_leaves_by_one_function() {
    // ADR-023. Beside it: the evaluator's own pipe, the supervisor's log, and whether a stream is a terminal.
    let others = ["adapters::nickel::child", "adapters::buildkit::supervise", "report::style"];
    let out = [
        "stdout().lock()",
        "stderr().lock()",
        "stdio::stdout()",
        "stdio::stderr()",
        "std::println!",
        "std::eprintln!",
        ".print()",
    ];
    for (path, text) in sources("src") {
        let module = module_path(&path);
        if module == "report::screen" || others.contains(&module.as_str()) {
            continue;
        }
        let found = out.iter().find(|word| production(&path, &text).contains(*word));
        assert!(found.is_none(), "{}: {found:?} is `report::screen`'s", path.display());
    }
}

#[test]
fn what_system_owns_is_written_nowhere_else() {
    let owned = [
        "pre_exec(",
        "death_signal(",
        "FlockOperation",
        "SystemTime::now",
        ".install_default()",
        "Client::builder()",
        "tempdir()",
        "tempdir_in(",
        // A child's environment is built up from nothing (`system::environment`).
        "Command::new(",
    ];
    // Here the environment is empty.
    let evaluator = root().join("src/adapters/nickel/pool.rs");
    for (path, text) in sources("src").into_iter().filter(|(path, _)| !module_path(path).starts_with("system")) {
        for word in owned.iter().filter(|word| path != evaluator || !word.starts_with("Command")) {
            assert!(!production(&path, &text).contains(word), "{}: `{word}` is system's", path.display());
        }
    }
}

#[test]
fn the_core_knows_no_caller() {
    // ADR-001. The words are put together here so that this file does not match itself.
    let callers = [["provisioning", "workspace"].join("_"), ["vapora", ""].join("_"), ["woodpecker", ""].join("_")];
    for (path, text) in sources("src") {
        for caller in &callers {
            assert!(!text.contains(caller.as_str()), "{} names a caller: {caller}", path.display());
        }
    }
}

/// Words that name a provider and something else, too: where they stand, and for what.
const OTHER_MEANINGS: &[(&str, &str, &str)] = &[
    ("local", "domain/model/provider.rs", "what a workflow means that names none: the contract's default"),
    ("ssh", "adapters/nickel/embedded.rs", "a field of a layer"),
    ("ssh", "adapters/transport/ssh/", "OpenSSH's program"),
    ("ssh", "app/doctor/machine.rs", "OpenSSH's program"),
    ("ssh", "domain/dockerfile/mounts.rs", "a kind of mount"),
    ("ssh", "domain/dockerfile/values.rs", "a scheme of git's addresses"),
];

#[test]
fn nothing_goes_by_the_name_of_a_provider_outside_its_folder() {
    let registry = lian_build::adapters::providers::builtin();
    let names: BTreeSet<&str> = registry.iter().flat_map(|known| [known.name.as_str(), known.flag]).collect();
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let inside = path.strip_prefix(root().join("src")).expect("a source").to_string_lossy().into_owned();
        if inside.starts_with("adapters/providers/") || is_of_tests(&path) {
            continue;
        }
        let text = production(&path, &text);
        let other = |name: &str| OTHER_MEANINGS.iter().any(|(word, file, _)| *word == name && inside.starts_with(file));
        let named = names.iter().filter(|name| text.contains(&format!("\"{name}\"")) && !other(name));
        faults.extend(named.map(|name| format!("{inside} goes by the name \"{name}\": ask its descriptor")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a file is a module of tests: by its name, or as its parent declares it.
fn is_of_tests(path: &Path) -> bool {
    let stem = path.file_stem().expect("a name").to_string_lossy();
    let declared = format!("#[cfg(test)]\nmod {stem};");
    let parent = std::fs::read_to_string(path.with_file_name("mod.rs")).unwrap_or_default();
    stem.ends_with("tests") || parent.contains(&declared)
}

/// A code says what happened, to people and programs; a class decides what follows. Codes that are compared drift.
#[test]
fn no_code_of_a_fault_decides_anything() {
    // Its advice is worded by what the interpreter found, which is a diagnostic's code.
    let wording = root().join("src/adapters/nickel/advice.rs");
    let signs =
        ["== \"lian::", "!= \"lian::", "_with(\"lian::", "contains(\"lian::", "contains(&code", "contains(&fault.code"];
    // An arm of a `match`, or one of its alternatives.
    let is_arm = |line: &str| {
        let after = line.split_once("\"lian::").and_then(|(_, rest)| rest.split_once('"'));
        after.is_some_and(|(_, after)| ["=>", "|", "if "].iter().any(|sign| after.trim_start().starts_with(sign)))
    };
    let compared = |line: &str| is_arm(line) || signs.iter().any(|sign| line.contains(sign));
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        if path != wording && !is_of_tests(&path) {
            let lines = production(&path, &text).lines().enumerate().filter(|(_, line)| compared(line));
            faults.extend(lines.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_error_says_whose_fault_it_is() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let derived = production(&path, &text).split("miette::Diagnostic)]").skip(1);
        for item in derived {
            let words = item.split(|c: char| !c.is_alphanumeric());
            let mut words = words.skip_while(|word| !["enum", "struct"].contains(word)).skip(1);
            let name = words.next().unwrap_or("");
            if !text.contains(&format!("impl Classified for {name} {{")) {
                faults.push(format!("{}: `{name}` has no class", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_own() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        assert!(text.lines().count() <= 500, "{} has more than 500 lines", path.display());
        assert!(text.starts_with("//!"), "{} does not open with //!", path.display());
    }
}

#[test]
fn the_oom_retry_is_one() {
    assert_eq!(lian_build::domain::life::MAX_OOM_RETRIES, 1, "ADR-039");
}

/// Every set of files that reach each other through imports.
fn circles(edges: &imports::Edges) -> BTreeSet<Vec<String>> {
    let mut graph = petgraph::graph::DiGraph::<&str, ()>::new();
    let nodes: BTreeMap<&str, _> = edges.keys().map(|file| (file.as_str(), graph.add_node(file))).collect();
    for (file, used) in edges {
        for other in used.iter().filter_map(|other| nodes.get(other.as_str())) {
            graph.add_edge(nodes[file.as_str()], *other, ());
        }
    }
    let named = |set: Vec<petgraph::graph::NodeIndex>| {
        let mut names: Vec<String> = set.into_iter().map(|node| graph[node].to_owned()).collect();
        names.sort();
        names
    };
    petgraph::algo::tarjan_scc(&graph).into_iter().filter(|set| set.len() > 1).map(named).collect()
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let relative =
        |path: &Path| path.strip_prefix(root().join("src")).expect("a source").to_string_lossy().into_owned();
    let files: Vec<_> = sources("src").into_iter().map(|(path, text)| (relative(&path), text)).collect();
    let edges = imports::edges(&files);
    let mut faults = Vec::new();
    for set in &circles(&edges) {
        faults.push(format!("{} import each other in a circle:", set.join(", ")));
        for file in set {
            let used: Vec<&str> = set.iter().filter(|other| edges[file].contains(*other)).map(String::as_str).collect();
            faults.push(format!("  {file} uses {}", used.join(", ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_circle_is_found_however_its_paths_are_written() {
    let files = [
        ("lib.rs", "pub mod a; pub mod b;"),
        ("a/mod.rs", "//! Docs.\nmod one; mod two; mod three; mod four;\npub use one::One; pub use two::{self, two};"),
        // Through a re-export, in a group.
        ("a/one.rs", "use super::two::{helper, Other as Renamed}; pub struct One;"),
        // Through the re-export of the folder, inside a macro.
        ("a/two.rs", "pub fn two() { println!(\"{}\", crate::a::One::new()); } pub fn helper() {}"),
        // A child named through its folder, and an edge back that only a test has.
        ("a/three.rs", "use super::four; fn three() { four::four(); }"),
        ("a/four.rs", "pub fn four() {} #[cfg(test)] mod tests { use super::super::three; }"),
        ("b.rs", "use crate::a; fn b() { a::two(); }"),
    ];
    let files: Vec<(String, String)> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    let edges = imports::edges(&files);
    assert_eq!(circles(&edges).into_iter().collect::<Vec<_>>(), [["a::one", "a::two"]]);
    assert!(edges["a::three"].contains("a::four"), "{edges:?}");
    assert!(edges["b"].contains("a::two"), "{edges:?}");
}

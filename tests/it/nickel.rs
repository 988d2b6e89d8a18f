//! The room `nickel` from outside: catalogs in folders, and what is said about them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lian_build::adapters::nickel::{Evaluator, Limits, LoadRequest, Loaded};
use lian_build::domain::model::{Diagnostic, Sources};

mod hostile;
mod load;
mod schemas;
mod workflow;

fn evaluator() -> Evaluator {
    Evaluator::new(PathBuf::from(env!("CARGO_BIN_EXE_lian-build")))
}

fn fixture(case: &str) -> PathBuf {
    Path::new("tests/fixtures/nickel").join(case)
}

fn request(project: &Path) -> LoadRequest {
    LoadRequest {
        root: project.join("catalog"),
        settings: Vec::new(),
        allow_imports: Vec::new(),
        project_root: project.to_owned(),
    }
}

fn load(project: &Path) -> Loaded {
    evaluator().load(&request(project)).expect("the folder is a catalog")
}

/// A catalog of these layers in a folder of its own.
fn catalog(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("catalog")).expect("an empty folder");
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    dir
}

/// Diagnostics as text: what a person would read, without the drawing.
fn drawn(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let mut text = String::new();
    for one in diagnostics {
        let layer = one.layer.as_ref().map_or("-", |layer| layer.as_str());
        writeln!(text, "{} [{layer}] {}", one.code, one.message).expect("text");
        for label in &one.labels {
            let file = &label.place.file;
            let source = sources.get(file).unwrap_or_else(|| panic!("the text of {} was not sent", file.display()));
            let (line, column) = label.place.span.line_column(source);
            let covered = source.get(label.place.span.start..label.place.span.end).expect("a span within the text");
            let said = label.text.as_deref().unwrap_or("");
            writeln!(text, "  {}:{line}:{column} `{covered}` {said}", file.display()).expect("text");
        }
        for note in &one.notes {
            writeln!(text, "  note: {}", note.replace('\n', "\n        ")).expect("text");
        }
        writeln!(text, "  help: {}", one.help.as_deref().expect("every fault has a help line")).expect("text");
    }
    text
}

fn tight() -> Limits {
    Limits {
        cpu: std::time::Duration::from_secs(1),
        memory_bytes: 512 << 20,
        stack_bytes: 64 << 20,
        ..Limits::default()
    }
}

//! Dockerfiles are read as BuildKit reads them: the corpus in `tests/fixtures/dockerfiles` and files made at random go to
//! BuildKit's own reader and to lian-build's, and both must say the same.
//!
//! `make fuzz FILES=1000000` tries more; `LIAN_FUZZ_SEED` repeats a run from one seed on.

mod builds;
mod compare;
mod copies;
mod dice;
mod generate;
mod grammar;
mod ignores;
mod oracle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use compare::{Tally, compare};
use oracle::Question;

/// BuildKit's reader, built where it is missing.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/setup.sh");
        let output = Command::new(script).arg("--oracle").output().expect("scripts/setup.sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// The corpus, by name. Bytes that are not UTF-8 are replaced, as lian-build replaces them.
fn corpus() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dockerfiles");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("readable");
        let text = std::fs::read(entry.path()).expect("a file");
        (entry.file_name().to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned())
    };
    std::fs::read_dir(folder).expect("the corpus").map(read).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// The first seed of a run: the given one, or one that never was.
fn seed() -> u64 {
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() * 1_000_000;
    setting("LIAN_FUZZ_SEED").unwrap_or_else(since)
}

#[test]
fn the_corpus_is_read_as_buildkit_reads_it() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{} files", corpus.len());
    let mut names = Vec::new();
    let mut questions = Vec::new();
    for (name, text) in &corpus {
        let words = text.split_whitespace().zip(text.split_whitespace().skip(1));
        let stages = words.filter(|(r#as, _)| r#as.eq_ignore_ascii_case("as")).map(|(_, stage)| Some(stage.to_owned()));
        for target in stages.chain([None]) {
            for platform in ["linux/amd64", "linux/arm64"] {
                for args in [BTreeMap::new(), BTreeMap::from([("VERSION".to_owned(), "13".to_owned())])] {
                    names.push(name);
                    questions.push(Question {
                        text: text.clone(),
                        target: target.clone(),
                        args,
                        platform,
                        builder: "linux/amd64",
                    });
                }
            }
        }
    }
    let answers = oracle::ask(program(), &questions);
    let mut tally = Tally::default();
    let mut differ = Vec::new();
    for ((name, question), answer) in names.iter().zip(&questions).zip(&answers) {
        let found = compare(question, answer, &mut tally);
        differ.extend(found.map(|what| format!("{name}, target {:?}: {what}", question.target)));
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(tally.sound > 100 && tally.refused > 50, "{tally:?}");
}

#[test]
fn random_files_are_read_as_buildkit_reads_them() {
    let corpus: Vec<String> = corpus().into_values().collect();
    let seed = seed();
    let files = setting("LIAN_FUZZ_FILES").unwrap_or(10_000);
    println!("fuzz: {files} files from seed {seed}; `LIAN_FUZZ_SEED={seed}` repeats this");
    let mut tally = Tally::default();
    let mut differ = Vec::new();
    for start in (seed..seed + files).step_by(20_000) {
        let seeds: Vec<u64> = (start..(start + 20_000).min(seed + files)).collect();
        let questions: Vec<Question> = seeds.iter().map(|seed| generate::question(*seed, &corpus)).collect();
        let answers = oracle::ask(program(), &questions);
        for ((seed, question), answer) in seeds.iter().zip(&questions).zip(&answers) {
            if let Some(what) = compare(question, answer, &mut tally) {
                differ.push(format!("seed {seed}: {what}\n{question:#?}"));
            }
        }
        // A few tell more than one, and many tell no more.
        differ.truncate(8);
        assert!(differ.is_empty(), "{}", differ.join("\n\n"));
        println!("fuzz: {} files, {tally:?}", tally.sound + tally.refused + tally.left_out);
    }
    // A run of few files proves nothing about how many are sound.
    assert!(files < 1_000 || (tally.sound > tally.refused / 20 && tally.refused > 0), "{tally:?}");
}

#[test]
fn random_trees_are_walked_as_buildkit_walks_them() {
    let seed = seed();
    let trees = setting("LIAN_FUZZ_FILES").map_or(1_000, |files| files / 20);
    println!("fuzz: {trees} trees from seed {seed}; `LIAN_FUZZ_SEED={seed}` repeats this");
    let mut sound = 0;
    for start in (seed..seed + trees).step_by(500) {
        let (differ, more) = ignores::compare(program(), start..(start + 500).min(seed + trees));
        sound += more;
        let told = &differ[..differ.len().min(8)];
        assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), told.join("\n\n"));
    }
    assert!(sound as u64 > trees / 3 && trees > 0, "only {sound} of {trees} were sound");
}

//! BuildKit's own reader as a child process (`tools/dockerfile-oracle`), which answers one line of JSON for each line.
//! Not responsible for: what is asked, and what to make of the answers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde::Deserialize;

/// One Dockerfile, and what it is built for.
#[derive(Debug, Clone)]
pub struct Question {
    pub text: String,
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    pub platform: &'static str,
    pub builder: &'static str,
}

/// How BuildKit reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Who refuses it: `parse`, `convert` or `word`; empty if nobody does.
    pub phase: String,
    pub error: String,
    /// The lines that it blames, first and last.
    pub lines: Vec<(usize, usize)>,
    pub syntax: String,
    pub stages: Vec<StageRead>,
    /// Each image of a needed stage, with its platform behind a blank.
    pub images: Vec<String>,
    pub secrets: Vec<String>,
    pub ssh: Vec<String>,
    /// The declared arguments that needed stages use.
    pub args: Vec<String>,
    /// The ids of mounts that fail the build where they have no value.
    pub required: Vec<String>,
    /// The rules of style that found something.
    pub lint: Vec<String>,
}

/// A stage as BuildKit's parser reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct StageRead {
    pub name: String,
    /// What its `ONBUILD` lines trigger.
    pub triggers: Option<Vec<String>>,
}

/// Asks all questions of one child. The answers come in their order.
pub fn ask(program: &Path, questions: &[Question]) -> Vec<Answer> {
    exchange(program, questions.iter().map(line).collect())
}

/// Writes lines to one child, and reads its answers, a line each.
pub fn exchange<A: serde::de::DeserializeOwned>(program: &Path, lines: Vec<String>) -> Vec<A> {
    let mut command = Command::new(program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the oracle starts");
    let mut input = child.stdin.take().expect("piped");
    let asked = lines.len();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").expect("the oracle reads");
        }
    });
    let output = BufReader::with_capacity(1 << 20, child.stdout.take().expect("piped"));
    let read = |line: std::io::Result<String>| {
        let line = line.expect("readable");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let answers: Vec<A> = output.lines().map(read).collect();
    writer.join().expect("all was written");
    assert!(child.wait().expect("a child").success(), "the oracle failed");
    assert_eq!(answers.len(), asked, "an answer for each question");
    answers
}

fn line(question: &Question) -> String {
    serde_json::json!({
        "text": base64::engine::general_purpose::STANDARD.encode(&question.text),
        "target": question.target.as_deref().unwrap_or_default(),
        "args": question.args,
        "platform": question.platform,
        "builder": question.builder,
    })
    .to_string()
}

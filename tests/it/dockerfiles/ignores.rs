//! Ignore files are read as BuildKit reads them: trees and patterns made at random go to BuildKit's own walk and to
//! lian-build's, and both must find the same files. Not responsible for: Dockerfiles.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lian_build::adapters::context::{Reader, raw_name};
use lian_build::domain::ports::ContextError;

use super::dice::Dice;
use super::oracle;

const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"ab",
    b"a.b",
    b"x.log",
    b"c",
    b"caf\xe9",
    b"caf\xc3\xa9",
    b"a b",
    b" a",
    b"#a",
    b"!a",
    b"[a]",
    b"\xe2\x82",
    b"a\\b",
    b"*",
];
const PIECES: [&[u8]; 37] = [
    b"a",
    b"b",
    b"ab",
    b"*",
    b"**",
    b"?",
    b"a*",
    b"*.b",
    b"*.log",
    b"c",
    b"**b",
    b"a**",
    b"caf?",
    b"caf\xe9",
    b"caf\xc3\xa9",
    b"*\xe9",
    b"[a-c]",
    b"[^a]",
    b"??",
    b"?\xe2\x82",
    b".",
    b"..",
    b"[a",
    b"[]a]",
    b"[\\]a]",
    b"\\*",
    b"\\a",
    b"\\",
    b"[b-a]",
    b"[a*b]",
    b"[[:alpha:]]",
    b"[\\*a]",
    b"#a",
    b"{a,b}",
    b"(a|b)",
    b"a+$^",
    b"***",
];
const BEFORE: [&[u8]; 12] = [b"", b"", b"", b"!", b"/", b"./", b"! ", b"../", b" ", b"\t!", b"!/", b"//"];
const BEHIND: [&[u8]; 10] = [b"", b"", b"", b"/", b"/**", b"/*", b" ", b"\t", b"//", b"/."];

fn pick<'a>(dice: &mut Dice, list: &[&'a [u8]]) -> &'a [u8] {
    list[dice.below(if dice.calm { list.len() * 2 / 3 } else { list.len() })]
}

/// The ignore file of a seed.
fn patterns(dice: &mut Dice) -> Vec<u8> {
    let mut text = if dice.one_in(8) { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
    for _ in 0..1 + dice.below(5) {
        text.extend(pick(dice, &BEFORE));
        for part in 0..1 + dice.below(3) {
            text.extend(if part > 0 { b"/" as &[u8] } else { b"" });
            text.extend(pick(dice, &PIECES));
        }
        text.extend(pick(dice, &BEHIND));
        text.extend(match dice.below(12) {
            0 => b"\r\n" as &[u8],
            1 => b"\n\n",
            2 => b"\n# a\n",
            _ => b"\n",
        });
    }
    text
}

/// Makes the tree of a seed in a folder that is not there yet.
fn plant(dice: &mut Dice, folder: &Path) {
    std::fs::create_dir_all(folder).expect("writable");
    for _ in 0..3 + dice.below(8) {
        let mut path = folder.to_owned();
        for _ in 0..dice.below(3) {
            let below = path.join(OsStr::from_bytes(pick(dice, &NAMES)));
            if !below.is_file() {
                path = below;
            }
        }
        std::fs::create_dir_all(&path).expect("writable");
        let file = path.join(OsStr::from_bytes(pick(dice, &NAMES)));
        if !file.is_dir() {
            std::fs::write(file, "").expect("writable");
        }
    }
}

/// How BuildKit walks a tree.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Walked {
    /// Why it does not; empty if it does.
    error: String,
    /// What it sends, in base64.
    files: Vec<String>,
    /// Patterns with a fault that BuildKit does not come to see.
    malformed: Vec<String>,
}

/// Compares the trees of these seeds. Returns what differs, and how many files were let through and left out.
pub fn compare(program: &Path, seeds: std::ops::Range<u64>) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |seed: u64| folder.path().join(seed.to_string());
    let (mut lines, mut texts) = (Vec::new(), Vec::new());
    for seed in seeds.clone() {
        let mut dice = Dice::new(seed);
        let text = patterns(&mut dice);
        plant(&mut dice, &place(seed).join("c"));
        std::fs::write(place(seed).join("Dockerfile"), "FROM scratch\n").expect("writable");
        std::fs::write(place(seed).join("Dockerfile.dockerignore"), &text).expect("writable");
        let line = serde_json::json!({ "ignore": STANDARD.encode(&text), "tree": place(seed).join("c") });
        lines.push(line.to_string());
        texts.push(text);
    }
    let answers: Vec<Walked> = oracle::exchange(program, lines);
    let (mut differ, mut sound) = (Vec::new(), 0);
    for ((seed, answer), text) in seeds.zip(answers).zip(texts) {
        let root = place(seed);
        let ours = Reader::default().read(&root, &root.join("c"), &root.join("Dockerfile"));
        let theirs: BTreeSet<Vec<u8>> =
            answer.files.iter().map(|name| STANDARD.decode(name).expect("base64")).collect();
        let shown = |names: &BTreeSet<Vec<u8>>| {
            names.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
        };
        let what = match ours {
            Err(_) if !answer.error.is_empty() => continue,
            // BuildKit looks for faults in a pattern only as far as it compares it with `.`.
            Err(ContextError::Pattern { .. }) if !answer.malformed.is_empty() => continue,
            // What BuildKit makes of these is nothing that anybody means.
            Err(ContextError::Pattern { what, .. }) if what.starts_with("a `[…]` holds `") => continue,
            Err(error) => format!("sound for BuildKit, and lian-build says: {error}"),
            Ok(_) if !answer.error.is_empty() => format!("sound for lian-build, and BuildKit says: {}", answer.error),
            Ok((listing, _)) => {
                let ours = listing.files.keys().map(|name| raw_name(name).as_bytes().to_vec()).collect();
                sound += 1;
                if ours == theirs {
                    continue;
                }
                format!("lian-build lists {}, BuildKit {}", shown(&ours), shown(&theirs))
            }
        };
        differ.push(format!("seed {seed}: {what}\n{}", text.escape_ascii()));
    }
    (differ, sound)
}

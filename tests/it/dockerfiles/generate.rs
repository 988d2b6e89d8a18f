//! The files that are compared: grown from the grammar, or others with changes here and there. The same seed makes the same
//! file. Not responsible for: reading them.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::grammar::{command, grown, instruction, value};
use super::oracle::Question;

const PIECES: [&str; 46] = [
    "\\",
    "\\\\",
    "`",
    "\n",
    "\r\n",
    "\"",
    "'",
    "${A:-",
    "}",
    "$",
    "[",
    "]",
    "[]",
    "[ ]",
    "[1]",
    "[\"a\", null]",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "\nEOF\n",
    "E\n",
    "--from=",
    "--from=build ",
    "--mount=type=",
    "--",
    "--x=y ",
    "# escape=`\n",
    "# syntax=a/b\n",
    "# check=skip=all\n",
    "# check=error=true\n",
    "# check=skip=UndefinedVar,JSONArgsRecommended\n",
    "#",
    "\u{feff}",
    "\u{a0}",
    "\u{85}",
    "\u{2003}",
    "\t",
    "\u{b}",
    "\u{e9}",
    "ONBUILD ",
    "FROM ",
    "AS ",
    "\u{17f}",
    "\u{212a}",
    "=",
    ",",
];

/// A file with a few changes: lines lost, doubled, moved or taken from another file, and odd pieces put in anywhere.
fn changed(dice: &mut Dice, corpus: &[String]) -> String {
    let mut text = corpus[dice.below(corpus.len())].clone();
    for _ in 0..1 + dice.below(4) {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        if lines.is_empty() {
            return text;
        }
        let at = dice.below(lines.len());
        text = match dice.below(8) {
            0 => {
                lines.remove(at);
                lines.concat()
            }
            1 => {
                lines.insert(at, lines[at]);
                lines.concat()
            }
            2 => {
                let line = lines.remove(at);
                let to = dice.below(lines.len() + 1);
                lines.insert(to, line);
                lines.concat()
            }
            3 => {
                let other: Vec<&str> = corpus[dice.below(corpus.len())].split_inclusive('\n').collect();
                lines.insert(at, other[dice.below(other.len())]);
                lines.concat()
            }
            4 => {
                let mut grown = String::new();
                let name = command(dice);
                instruction(dice, name, &mut grown);
                lines.insert(at, &grown);
                lines.concat()
            }
            5 => {
                let place = character(dice, &text);
                let mut cut = text.clone();
                if let Some(c) = text[place..].chars().next() {
                    cut.replace_range(place..place + c.len_utf8(), "");
                }
                cut
            }
            _ => {
                let place = character(dice, &text);
                let piece = if dice.one_in(4) { value(dice) } else { dice.pick(&PIECES).to_owned() };
                format!("{}{piece}{}", &text[..place], &text[place..])
            }
        };
    }
    text
}

fn character(dice: &mut Dice, text: &str) -> usize {
    let mut place = dice.below(text.len() + 1);
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}

/// The file of a seed, and what to build of it.
pub fn question(seed: u64, corpus: &[String]) -> Question {
    let mut dice = Dice::new(seed);
    let text = if dice.one_in(2) { grown(&mut dice) } else { changed(&mut dice, corpus) };
    let target = dice.one_in(4).then(|| dice.pick(&["build", "base", "FINAL", "x", "nosuch"]).to_owned());
    let mut args = BTreeMap::new();
    for name in ["A", "B", "TAG"] {
        if dice.one_in(5) {
            let value = dice.pick(&["1.2.3", "", "alpine", "a b", "$B", "linux/arm64", "scratch", "a\nb.c"]);
            args.insert(name.to_owned(), value.to_owned());
        }
    }
    let platform = dice.pick(&[
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
        "LINUX/AMD64",
        "linux/arm64/v8",
        "linux/arm",
        "Linux/x86_64",
        "linux/armhf",
        "linux/amd64/v3",
        "macOS/aarch64",
    ]);
    // BuildKit completes platforms by the machine that it runs on.
    let builder = dice.pick(&["linux/amd64", "linux/amd64/v2", "LINUX/x86-64"]);
    Question { text, target, args, platform, builder }
}

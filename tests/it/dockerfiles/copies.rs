//! Grows `COPY` and `ADD`, and what other instructions share with them: blanks and here-documents. Not responsible for:
//! other instructions.

use super::dice::Dice;

const BLANKS: [&str; 8] = [" ", "  ", "\t", "\u{a0}", "\u{2003}", "\u{85}", "\u{b}", " \\\n "];

pub fn copy(dice: &mut Dice, text: &mut String, heredocs: &mut Vec<&'static str>) {
    let flags = [
        "--from=build",
        "--from=base",
        "--from=Final",
        "--from=x",
        "--from=0",
        "--from=1",
        "--from=9",
        "--from=alpine",
        "--from=scratch",
        "--from=$A",
        "--from='base'",
        "--from=",
        "--from",
        "--from=lamina/rust",
        "--from=UPPER",
        "--from=-1",
        "--from=+0",
        "--chown=1:1",
        "--chmod=755",
        "--chmod=u+x",
        "--chmod=9",
        "--chmod=a=rwX,o-w",
        "--chmod=+x",
        "--chmod=",
        "--chmod=$A",
        "--link",
        "--link=false",
        "--link=x",
        "--parents",
        "--parents=",
        "--parents=FALSE",
        "--exclude=",
        "--exclude=a",
        "--exclude=b",
        "--checksum=sha256:0",
        "--checksum=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "--keep-git-dir",
        "--keep-git-dir=false",
        "--unpack",
        "--unpack=no",
        "--x",
        "--",
        "--from=a\\ b",
        "--from=\"a b\"",
    ];
    for _ in 0..dice.below(3) {
        text.push_str(dice.pick(&flags));
        text.push_str(blank(dice));
    }
    let sources = [
        "a",
        "/b",
        "$A",
        "${A",
        "'a b'",
        "\"a",
        "https://example.org/a.tar",
        "https://example.org/a.git",
        "git@example.org:a/b.git",
        "*",
    ];
    for _ in 0..dice.below(3) {
        if dice.one_in(5) {
            let (mark, name) = heredoc(dice);
            text.push_str(mark);
            heredocs.push(name);
        } else {
            text.push_str(dice.pick(&sources));
        }
        text.push_str(blank(dice));
    }
    text.push_str(dice.pick(&["/t", "t/", ".", "$A", "<<EOF", ""]));
}

pub fn heredoc(dice: &mut Dice) -> (&'static str, &'static str) {
    let all = [
        ("<<EOF", "EOF"),
        ("<<-EOF", "\tEOF"),
        ("<<'EOF'", "EOF"),
        ("3<<\"E F\"", "E F"),
        ("<< EOF", "EOF"),
        ("<<E\\OF", "EOF"),
        ("a<<EOF", "EOF"),
        ("<<EOF;", "EOF"),
        ("<<-", "-"),
        ("<<$A", "$A"),
        ("<<${A:-b}", "b"),
    ];
    all[dice.below(all.len())]
}

pub fn blank(dice: &mut Dice) -> &'static str {
    if dice.one_in(10) { dice.pick(&BLANKS) } else { " " }
}

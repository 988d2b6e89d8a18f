//! Grows Dockerfiles from a grammar that likes the odd corners. Not responsible for: reading them.

use super::copies::{blank, copy, heredoc};
use super::dice::Dice;

const STAGES: [&str; 8] = ["build", "base", "Final", "x", "d-e_p.s", "scratch", "1st", "context"];
const IMAGES: [&str; 15] = [
    "alpine",
    "debian:12",
    "lamina/rust",
    "ghcr.io/a/b:c",
    "scratch",
    "localhost:5000/x",
    "UPPER",
    "b:1.0",
    "alpine@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a:b:c",
    "index.docker.io/library/a",
    "a__b",
    "x.y/z",
    "\u{e9}",
    "a/",
];
const NAMES: [&str; 12] =
    ["A", "B", "TAG", "TARGETARCH", "BUILDPLATFORM", "PATH", "API_KEY", "Auth_File", "1", "@", "\u{e9}", "a.b"];
const VALUES: [&str; 24] = [
    "1",
    "alpine",
    "\"a b\"",
    "a=b",
    "$A",
    "${A}",
    "${B:-x}",
    "${A%%.*}",
    "a\\ b",
    "'a b'",
    "\\$A",
    "\"$A\"",
    "'$A'",
    "${A//./-}",
    "linux/amd64",
    "1.2.3-rc",
    "",
    "\\",
    "\"",
    "'",
    "\u{e9}",
    "\u{a0}",
    "[\"a\"]",
    "<<EOF",
];
const PATTERNS: [&str; 12] = ["", "*", "?", "a", "*.", ".*", "?*", "\\*", "\\/", "[a]", "a|b", "\\a"];
const ENDS: [&str; 14] = ["", "", "", "", "", "", " ", "\\", " \\", "\\\\", "`", " ` ", "\r", " # x"];
/// A file of the grammar.
pub fn grown(dice: &mut Dice) -> String {
    let mut text = String::new();
    if dice.one_in(12) {
        text.push_str(dice.pick(&["\u{feff}", "#!/bin/x\n", "\n", " \n", "{\"syntax\":\"a/b\"}\n", "//syntax=a\n"]));
    }
    for _ in 0..dice.below(3) {
        if dice.one_in(3) {
            let name = dice.pick(&["escape", "syntax", "check", "Escape", "other", "ESCAPE "]);
            let value = dice.pick(&[
                "`",
                "\\",
                "a/b:1",
                "a b",
                "skip=all",
                "error=true",
                "skip=StageNameCasing;error=1",
                "experimental=all",
                "error=x",
                "skip",
                " ",
                "",
            ]);
            text.push_str(&format!(
                "{}{name}{}{value}\n",
                dice.pick(&["#", "# ", " # ", "#\u{a0}"]),
                dice.pick(&["=", " = "])
            ));
        }
    }
    for _ in 0..dice.below(3) {
        instruction(dice, "ARG", &mut text);
    }
    for _ in 0..1 + dice.below(4) {
        from(dice, &mut text);
        for _ in 0..dice.below(5) {
            let name = command(dice);
            instruction(dice, name, &mut text);
        }
    }
    if dice.one_in(3) { text } else { text.replace('`', "") }
}

pub fn command(dice: &mut Dice) -> &'static str {
    dice.pick(&[
        "RUN",
        "RUN",
        "RUN",
        "COPY",
        "COPY",
        "COPY",
        "ARG",
        "ENV",
        "ADD",
        "CMD",
        "ENTRYPOINT",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
        "run",
        "Copy",
        "WOR\u{212a}DIR",
        "RNU",
        "",
    ])
}

fn from(dice: &mut Dice, text: &mut String) {
    text.push_str(dice.pick(&["FROM", "FROM", "from", " FROM", "\u{a0}FROM"]));
    text.push_str(blank(dice));
    if dice.one_in(5) {
        let platform = dice.pick(&[
            "linux/arm64",
            "$BUILDPLATFORM",
            "$A",
            "amd64",
            "a/b/c/d",
            "",
            "'linux/amd64'",
            "linux/arm/v7",
            "$TARGETPLATFORM",
            "LINUX/AMD64",
            "linux/arm64/v8",
            "linux",
            "darwin",
            "macos",
            "armhf",
            "linux/ARM/7",
            "linux(1+a)/amd64",
            "windows(10.0.17763)/x86_64",
            "linux(+)/amd64",
            "linux(%2)/amd64",
            "${TARGETPLATFORM:-linux/arm64}",
            "$TARGETOS/$BUILDARCH",
        ]);
        text.push_str(&format!("--platform={platform} "));
    }
    let image = match dice.below(6) {
        0 => dice.pick(&STAGES).to_owned(),
        1 if !dice.calm => value(dice),
        2 => format!("debian:{}", dice.pick(&["$TAG", "1", "${A:-2}", "${B%%.*}3", "a b", "\"1\"", "'1'", "${A}"])),
        3 => dice.pick(&IMAGES).to_owned(),
        _ => dice.pick(&IMAGES[..6]).to_owned(),
    };
    text.push_str(&image);
    if !dice.one_in(3) {
        let r#as = dice.pick(&["AS", "AS", "as", "aS", "A\u{17f}", "TO"]);
        let name = if dice.one_in(8) { dice.pick(&STAGES) } else { dice.pick(&STAGES[..5]) };
        text.push_str(&format!(" {as} {name}", as = r#as));
    }
    end(dice, text);
}

pub fn instruction(dice: &mut Dice, name: &str, text: &mut String) {
    if dice.one_in(12) {
        text.push_str(dice.pick(&[
            "# note",
            "#",
            " \t# x",
            "# escape=`",
            "\\",
            "# check=skip=ConsistentInstructionCasing,UndefinedVar",
            "# A is what",
            "# build it",
        ]));
        text.push('\n');
    }
    text.push_str(dice.pick(&["", "", "", "", "  ", "\t", "\u{a0}", "\u{2003}"]));
    let mut heredocs = Vec::new();
    text.push_str(name);
    text.push_str(blank(dice));
    body(dice, &name.to_uppercase(), text, &mut heredocs, 0);
    end(dice, text);
    for name in heredocs {
        for _ in 0..dice.below(3) {
            text.push_str(dice.pick(&["inside\n", "FROM nowhere\n", "\tx\n", "${A\n", "EOF \n", "# x\n", "$A\\\n"]));
        }
        if !dice.one_in(12) {
            text.push_str(&format!("{name}\n"));
        }
    }
}

fn body(dice: &mut Dice, name: &str, text: &mut String, heredocs: &mut Vec<&'static str>, depth: usize) {
    if dice.one_in(8) {
        text.push_str(dice.pick(&[
            "[]",
            "[ ]",
            "[\"a\", \"b\"]",
            "[\"a\" \"b\"]",
            "[1]",
            "['a']",
            "[\"a\", [\"b\"]]",
            "[\"\\u00e9\"]",
            "",
        ]));
        return;
    }
    match name {
        "RUN" => run(dice, text, heredocs),
        "COPY" | "ADD" => copy(dice, text, heredocs),
        "ARG" => words(dice, text, |dice| match dice.one_in(2) {
            true => dice.pick(&NAMES).to_owned(),
            false => format!("{}={}", dice.pick(&NAMES), value(dice)),
        }),
        "ENV" | "LABEL" => words(dice, text, |dice| match dice.one_in(5) {
            true => value(dice),
            false => format!("{}={}", dice.pick(&NAMES), value(dice)),
        }),
        "HEALTHCHECK" => {
            let flags = [
                "--interval=1s ",
                "--retries=3 ",
                "--retries=-1 ",
                "--timeout=1 ",
                "--interval=1ns ",
                "--x=1 ",
                "--timeout= ",
            ];
            for _ in 0..dice.below(3) {
                text.push_str(dice.pick(&flags));
            }
            text.push_str(dice.pick(&[
                "CMD ",
                "NONE",
                "none",
                "cmd a",
                "CMD []",
                "CMD [\"a\"]",
                "CMD [1]",
                "NONE x",
                "WHAT",
                "",
            ]));
        }
        "ONBUILD" if depth == 0 => {
            let inner = command(dice);
            text.push_str(inner);
            text.push(' ');
            body(dice, &inner.to_uppercase(), text, heredocs, 1);
        }
        "EXPOSE" => words(dice, text, |dice| {
            dice.pick(&[
                "80",
                "80/tcp",
                "80/TCP",
                "8080:80",
                ":80",
                "8000-8010/udp",
                "$A",
                "80/x",
                "99999",
                "a",
                "1.2.3.4:80:80",
                "${A:-90}",
            ])
            .to_owned()
        }),
        "STOPSIGNAL" => text.push_str(dice.pick(&["SIGTERM", "9", "quit", "NO", "$A", "0", "RTMIN+3"])),
        _ => words(dice, text, value),
    }
}

fn run(dice: &mut Dice, text: &mut String, heredocs: &mut Vec<&'static str>) {
    for _ in 0..dice.below(3) {
        text.push_str(dice.pick(&[
            "--mount=",
            "--mount=",
            "--mount=",
            "--network=",
            "--security=",
            "--device=",
            "--x=",
        ]));
        if dice.one_in(10) {
            text.push_str(dice.pick(&[
                "",
                "host",
                "none",
                "insecure",
                "sandbox",
                "default",
                "a,b",
                "required",
                "name=a/b=c",
                "a/b",
            ]));
        } else {
            let fields = 1 + dice.below(4);
            let list: Vec<String> = (0..fields).map(|_| field(dice)).collect();
            text.push_str(&list.join(","));
        }
        text.push(' ');
    }
    words(dice, text, |dice| {
        let words = [
            "echo",
            "a",
            "&&",
            "cat",
            "> /x",
            "'a b'",
            "\"a",
            "it's",
            "${x^^}",
            "${x:0:3}",
            "$((1<<2))",
            "<<<x",
            "$A",
            "\\",
        ];
        dice.pick(&words).to_owned()
    });
    if dice.one_in(4) {
        for _ in 0..1 + dice.below(2) {
            let (mark, name) = heredoc(dice);
            text.push_str(&format!(" {mark}"));
            heredocs.push(name);
        }
    }
}

fn field(dice: &mut Dice) -> String {
    match dice.below(12) {
        0..=2 => format!("type={}", dice.pick(&["bind", "cache", "secret", "ssh", "tmpfs", "SECRET", "bnd", "$A", ""])),
        3 | 4 => format!(
            "from={}",
            dice.pick(&["build", "base", "Final", "alpine", "scratch", "$A", "0", "a$", "", "UPPER", "later"])
        ),
        5 | 6 => format!("target={}", dice.pick(&["/x", "x", "/", "", "/run/secrets/k", "/a/..", "$A", "/a/"])),
        7 => format!("id={}", dice.pick(&["key", "$A", "${B:-k}", "", "a/b"])),
        8 => dice
            .pick(&[
                "ro",
                "rw",
                "readonly",
                "required",
                "x",
                "ro=false",
                "required=true",
                "rw=x",
                "\"ro\"",
                "\"id=a,b\"",
            ])
            .to_owned(),
        9 => format!("source={}", dice.pick(&["/a", "", "key"])),
        10 => dice
            .pick(&[
                "uid=1",
                "uid=4294967296",
                "size=-1",
                "size=1.5g",
                "mode=0x1",
                "sharing=SHARED",
                "gid=x",
                "mode=0400",
                "mode=9",
                "size=1m",
                "size=x",
                "sharing=locked",
                "sharing=x",
                "env=A",
            ])
            .to_owned(),
        _ => format!(
            "{}={}",
            dice.pick(&["Target", "dst", "destination", "src", "tagret", "FROM"]),
            dice.pick(&["/x", "build", "a b"])
        ),
    }
}

fn words(dice: &mut Dice, text: &mut String, word: impl Fn(&mut Dice) -> String) {
    for at in 0..dice.below(4) {
        if at > 0 {
            text.push_str(blank(dice));
        }
        text.push_str(&word(dice));
    }
}

pub fn value(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => {
            let modifier =
                dice.pick(&["-", ":-", "+", ":+", "?", ":?", "#", "##", "%", "%%", "/", "//", "^", ":x", ":#"]);
            let name = dice.pick(&NAMES);
            let pattern = dice.pick(&PATTERNS);
            let tail = if modifier.starts_with('/') { dice.pick(&["/", "/x", "/$0", "/$", "/${A}", ""]) } else { "" };
            format!("${{{name}{modifier}{pattern}{tail}}}")
        }
        1 => format!("{}{}", dice.pick(&VALUES), dice.pick(&VALUES)),
        _ => dice.pick(&VALUES).to_owned(),
    }
}

fn end(dice: &mut Dice, text: &mut String) {
    if dice.one_in(5) {
        text.push_str(dice.pick(&ENDS));
    }
    if !dice.one_in(40) {
        text.push('\n');
    }
}

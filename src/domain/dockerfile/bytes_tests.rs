//! What the reader of Dockerfiles does with bytes that nobody meant to be one. Not responsible for: what sound files mean
//! (see `tests`, and the comparison with BuildKit's own reader).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::budget::{MOST, done};
use super::{parse, read};
use crate::domain::base::mutated::mutated_texts;
use crate::domain::model::{DockerfileFacts, DockerfileFault, DockerfileFaultKind};

const SAMPLES: [&str; 4] = [
    include_str!("../../../lamina/rust/Dockerfile"),
    include_str!("../../../lamina/leptos/Dockerfile"),
    "\u{feff}# syntax=docker/dockerfile:1\nARG BASE=lamina/rust\nFROM --platform=$BUILDPLATFORM ${BASE:-x} AS Build\n\
     RUN --mount=type=bind,from=lamina/nickel,target=/n --mount=type=secret,id=creds \\\n    # a comment\n    cat <<EOF \
     > /x\nFROM nowhere\nEOF\nCOPY --from=0 --chown=1 --chmod=0755 [\"/a b\", \"/c\"]\nONBUILD COPY --from=b / /\n",
    "# escape=`\nARG A=1.92-x OS=\"trixie\"\nENV B=${A%-*} C=${A##*.} D=${A//1/${OS:+y}} E=${A/x*/z}\nFROM img:$A AS a\n\
     HEALTHCHECK --interval=1m30s CMD [\"x\"]\nADD --checksum=sha256:00 https://example.org/x /x\nEXPOSE 80-90/tcp\n\
     LABEL a=b 'c'=\"d e\"\nVOLUME [\"/v\"]\nSTOPSIGNAL 9\nSHELL [\"a\"]\nWORKDIR b\nFROM a\n",
];

fn read_bare(text: &str) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    read(text, None, &BTreeMap::new(), &"linux/amd64".into())
}

proptest! {
    #[test]
    fn any_bytes_are_a_dockerfile_or_a_fault(bytes in mutated_texts(&SAMPLES)) {
        let text = String::from_utf8_lossy(&bytes);
        for fault in parse(&text).err().unwrap_or_default() {
            prop_assert!(fault.span.is_none_or(|span| text.get(span.start..span.end).is_some()), "{fault:?}");
        }
        match read_bare(&text) {
            Ok(facts) => prop_assert!(facts.uses.iter().all(|u| text.get(u.span.start..u.span.end).is_some())),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                for fault in faults {
                    let inside = fault.span.is_none_or(|span| text.get(span.start..span.end).is_some());
                    prop_assert!(inside, "{fault:?}");
                }
            }
        }
    }
}

/// Each line doubles a value: a few of them are more than any machine can hold.
#[test]
fn values_that_grow_and_grow_are_a_fault_and_not_the_end_of_memory() {
    let doubled = "A=$A$A ".repeat(28);
    for text in [
        format!("ARG A=1234\n{}FROM x:$A\n", "ARG A=$A$A\n".repeat(28)),
        format!("FROM scratch\nENV A=1234\n{}", "ENV A=$A$A\n".repeat(28)),
        format!("FROM scratch\nARG A=1234\n{}", "ARG A=$A$A\n".repeat(28)),
        format!("FROM scratch\nARG A=1234\nARG {doubled}\n"),
        // Each match of nothing is replaced: the product of two lengths.
        format!("FROM scratch\nARG A={}\nARG B=${{A//?/{}}}\n", "x".repeat(20_000), "y".repeat(20_000)),
        // What matched stands in for each `$0`.
        format!("FROM scratch\nARG A={}\nARG B=${{A//*/{}}}\n", "x".repeat(20_000), "\\$0".repeat(20_000)),
        // A pattern is compared with a value: the product of two lengths, again.
        format!("FROM scratch\nARG A={}\nARG B=${{A##{}}}\n", "x".repeat(20_000), "?".repeat(20_000)),
    ] {
        let faults = read_bare(&text).expect_err("it was read");
        let fault = &faults[0];
        assert_eq!(fault.kind, DockerfileFaultKind::Variable, "{}", fault.message);
        assert!(fault.message.ends_with(super::expand::TOO_LONG), "{}", &fault.message[..fault.message.len().min(300)]);
    }
}

/// A variable of nearly the greatest length: a line itself may be much shorter only.
fn long(instruction: &str) -> String {
    format!("{instruction} A={}\n{instruction} A={}\n", "x".repeat(60_000), "$A".repeat(15))
}

/// Many values, each of them within its bound, are bounded together.
#[test]
fn many_long_values_are_a_fault_too() {
    let many = (0..40).map(|n| format!("ENV B{n}=$A\n")).collect::<String>();
    let faults = read_bare(&format!("FROM scratch\n{}{many}", long("ENV"))).expect_err("it was read");
    assert!(faults[0].message.ends_with(super::budget::TOO_MUCH), "{}", faults[0].message);
}

/// Each stage begins with a copy of what the one below it knows.
#[test]
fn many_stages_upon_long_values_are_a_fault_too() {
    let stages = (1..200).map(|n| format!("FROM s{} AS s{n}\n", n - 1)).collect::<String>();
    let text = format!("FROM scratch AS s0\n{}{stages}", long("ENV"));
    let faults = read_bare(&text).expect_err("it was read");
    assert!(faults[0].message.ends_with(super::budget::TOO_MUCH), "{}", faults[0].message);
}

/// Values that FROM sees are bounded together, as well.
#[test]
fn many_long_values_before_the_first_stage_are_a_fault_too() {
    let many = (0..40).map(|n| format!("ARG B{n}=$A\n")).collect::<String>();
    let text = format!("{}{many}FROM scratch\n", long("ARG"));
    let faults = read_bare(&text).expect_err("it was read");
    assert!(faults[0].message.ends_with(super::budget::TOO_MUCH), "{}", faults[0].message);
}

/// Once all is spent nothing is done any more, however many lines still ask for it.
#[test]
fn a_spent_budget_ends_the_work_on_a_file() {
    let each = |line: &str| line.repeat(200);
    for (what, text) in [
        ("values", format!("FROM scratch\n{}{}", long("ENV"), each("ENV B=$A\n"))),
        ("words that are too long", format!("FROM scratch\n{}{}", long("ENV"), each("ENV B=$A$A\n"))),
        ("patterns", format!("FROM scratch\n{}{}", long("ENV"), each("ENV B=${A%%x?y}\n"))),
        ("mounts", format!("FROM scratch\n{}{}", long("ENV"), each("RUN --mount=type=secret,id=$A true\n"))),
        ("nested defaults", {
            let nested = format!("ENV B={}$A{}\n", "${N:-".repeat(150), "}".repeat(150));
            format!("FROM scratch\n{}{}", long("ENV"), each(&nested))
        }),
        ("values that FROM sees", format!("{}{}FROM scratch\n", long("ARG"), each("ARG B=$A\n"))),
        ("images", format!("{}{}", long("ARG"), each("FROM x:$A\n"))),
        ("platforms", format!("{}{}", long("ARG"), each("FROM --platform=$A scratch\n"))),
        ("what decides platforms", {
            let stages = "FROM --platform=$BUILDPLATFORM x\n".repeat(200);
            format!("{}ARG B=$A\nARG C=$A\n{stages}", long("ARG"))
        }),
        ("copies", format!("{}FROM scratch\n{}", long("ARG"), each("ARG A\n"))),
        ("copies of stages", {
            let stages = (1..200).map(|n| format!("FROM s{} AS s{n}\nRUN $A\n", n - 1)).collect::<String>();
            format!("FROM scratch AS s0\n{}{stages}", long("ENV"))
        }),
    ] {
        done::take();
        let faults = read_bare(&text).expect_err(what);
        // FROM, the rules of style, platforms and instructions have a budget each; a word may go beyond it.
        let done = done::take();
        assert!(done < 4 * (MOST + (1 << 22)), "{what}: {done}");
        assert!(faults.len() <= 20, "{what}: {}", faults.len());
    }
}

#[test]
fn a_value_of_a_sensible_length_is_no_fault() {
    let text = format!("FROM scratch\n{}ENV B=$A C=${{A%x}} D=${{A//y/z}}\n", long("ENV"));
    read_bare(&text).expect("it is sound");
}

/// Each word is looked up, and not searched in all stages: files of a hundred thousand stages are read, too.
#[test]
fn what_a_stage_is_based_on_is_looked_up() {
    const STAGES: usize = 1_000;
    for (what, text) in [
        ("one name for all", format!("FROM scratch AS a\n{}", "FROM a AS a\n".repeat(STAGES))),
        ("no name", format!("FROM scratch AS a\n{}", "FROM a\n".repeat(STAGES))),
        ("names of images", format!("FROM scratch AS a\n{}", "FROM x AS a\n".repeat(STAGES))),
    ] {
        done::take();
        read_bare(&text).expect(what);
        let done = done::take();
        assert!(done < STAGES * 20, "{what}: {done}");
    }
}

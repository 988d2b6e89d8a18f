//! What triggers (`ONBUILD`) and platforms make of a Dockerfile.

use std::collections::BTreeMap;

use super::budget::done;
use super::{Reading, Triggers, parse, references, triggers, triggers_in};
use crate::domain::base::{Platform, Platforms};
use crate::domain::model::{DockerfileFacts, DockerfileFault, ImageUse};

/// How a Dockerfile is read: for these platforms, on this builder.
fn reading<'a>(
    build_args: &'a BTreeMap<String, String>,
    (platforms, builder): &'a (Platforms, Platform),
    triggers: &'a Triggers,
) -> Reading<'a> {
    Reading { target: None, build_args, platforms, builder, frontend: false, triggers }
}

fn amd64() -> (Platforms, Platform) {
    ("linux/amd64".into(), "linux/amd64".into())
}

/// Reads a Dockerfile where images have the triggers of these other ones.
fn read(text: &str, images: &[(&str, &str)]) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let of = |(name, text): &(&str, &str)| {
        let needs = triggers(&parse(text).expect("a Dockerfile"), None).expect("a stage").clone();
        ((*name).to_owned(), needs)
    };
    let known: Triggers = images.iter().map(of).collect();
    references(&parse(text).expect("a Dockerfile"), &reading(&BTreeMap::new(), &amd64(), &known))
}

fn on(text: &str, platforms: &str, builder: &str) -> DockerfileFacts {
    let on = (Platforms::from(platforms), Platform::from(builder));
    let file = parse(text).expect("a Dockerfile");
    references(&file, &reading(&BTreeMap::new(), &on, &Triggers::new())).expect("sound")
}

/// `kind image`, with the trigger's image where there is one.
fn used(image: &ImageUse) -> String {
    let trigger = image.trigger.as_ref().map(|trigger| format!(" by {}", trigger.image)).unwrap_or_default();
    format!("{:?} {}{trigger}", image.kind, image.image)
}

fn uses(facts: &DockerfileFacts) -> Vec<String> {
    facts.uses.iter().map(used).collect()
}

#[test]
fn a_trigger_that_names_no_image_is_at_fault_only_where_it_runs() {
    let text = |last: &str| {
        format!("FROM debian AS base\nONBUILD COPY --from=too}}ls /a /a\nFROM base AS child\nFROM {last}\n")
    };
    assert_eq!(uses(&read(&text("alpine"), &[]).expect("sound")), ["From alpine"]);
    let faults = read(&text("child"), &[]).expect_err("it runs");
    assert!(faults.iter().any(|fault| fault.message.contains("`too}ls` is not an image reference")), "{faults:?}");
}

#[test]
fn triggers_run_in_every_needed_stage_on_their_image_and_in_no_other() {
    let base = "FROM debian\nONBUILD COPY --from=lamina/tools /t /t\nONBUILD ARG FLAVOUR\n\
                ONBUILD RUN --mount=type=secret,id=token --mount=type=ssh --mount=from=lamina/mounted,target=/m true\n";
    let text =
        "FROM lamina/base AS one\nFROM one AS two\nFROM lamina/base AS unused\nFROM alpine\nCOPY --from=two / /\n";
    let facts = read(text, &[("lamina/base", base)]).expect("sound");
    let triggered = ["From lamina/base", "Copy lamina/tools by lamina/base", "Mount lamina/mounted by lamina/base"];
    assert_eq!(uses(&facts), [triggered[0], triggered[1], triggered[2], "From alpine"]);
    assert_eq!(facts.unreached.iter().map(used).collect::<Vec<_>>(), triggered);
    assert!(facts.declared_args.contains("FLAVOUR"));
    for (ids, id) in [(&facts.secret_ids, "token"), (&facts.ssh_ids, "default")] {
        let trigger = ids[id].trigger.as_ref().expect("of a trigger");
        assert_eq!(
            (&text[ids[id].span.start..ids[id].span.end], trigger.image.as_str()),
            ("lamina/base", "lamina/base")
        );
    }
    let tools = facts.uses[1].trigger.as_ref().expect("of a trigger").span;
    assert_eq!(&base[tools.start..tools.end], "lamina/tools");
}

#[test]
fn an_image_hands_on_the_triggers_of_its_target_alone() {
    let file = parse(
        "FROM debian AS below\nONBUILD COPY --from=lamina/below / /\nFROM below AS Target\n\
         ONBUILD COPY --from=lamina/target / /\nFROM below\n",
    );
    let file = file.expect("a Dockerfile");
    let sources = |target| triggers(&file, target).expect("a stage").sources.len();
    assert_eq!((sources(None), sources(Some("target")), sources(Some("TARGET"))), (0, 1, 1));
    assert!(triggers(&file, Some("absent")).is_none());
    // A stage on another one of the same file runs that one's triggers.
    assert_eq!(
        uses(&read("FROM a AS x\nONBUILD COPY --from=b / /\nFROM x\n", &[]).expect("sound")),
        ["From a", "Copy b"]
    );
}

#[test]
fn a_trigger_names_the_stages_of_the_child() {
    let runtime =
        [("lamina/runtime", "FROM debian\nONBUILD COPY --from=Build /out /out\nONBUILD COPY --from=0 /o /o\n")];
    let facts = read("FROM lamina/toolchain AS build\nFROM lamina/runtime\n", &runtime).expect("sound");
    assert_eq!(uses(&facts), ["From lamina/toolchain", "From lamina/runtime"]);
    let later = read("FROM lamina/runtime AS first\nFROM a AS build\nFROM first\n", &runtime).expect_err("later");
    let said: Vec<&str> = later.iter().map(|fault| fault.message.as_str()).collect();
    let whose = "a trigger (`ONBUILD`) of `lamina/runtime` cannot run here";
    let expected = ["stage `Build` begins further down", "the stage takes from itself: `0`"];
    assert_eq!(said, expected.map(|what| format!("{whose}: {what}")));
    let high = [("lamina/runtime", "FROM debian\nONBUILD COPY --from=7 / /\n")];
    let fault = &read("FROM lamina/runtime\n", &high).expect_err("no stage")[0];
    assert_eq!(fault.message, "a trigger (`ONBUILD`) of `lamina/runtime` cannot run here: there is no stage 7");
}

#[test]
fn the_sources_of_triggers_that_do_not_run_are_looked_up() {
    // BuildKit resolves them wherever the image is used at all, and would ask a registry.
    let images = [
        ("lamina/base", "FROM debian\nONBUILD COPY --from=lamina/tools / /\nONBUILD COPY --from=work / /\n"),
        ("lamina/tools", "FROM debian\nONBUILD COPY --from=lamina/deep / /\n"),
    ];
    let facts = read("FROM alpine\nCOPY --from=lamina/base /x /x\n", &images).expect("sound");
    assert_eq!(uses(&facts), ["From alpine", "Copy lamina/base"]);
    assert_eq!(facts.looked_up.iter().map(String::as_str).collect::<Vec<_>>(), ["lamina/deep", "lamina/tools", "work"]);
    let facts = read("FROM alpine AS work\nFROM alpine:3\nCOPY --from=lamina/base /x /x\n", &images).expect("sound");
    assert_eq!(facts.looked_up.iter().map(String::as_str).collect::<Vec<_>>(), ["lamina/deep", "lamina/tools"]);
    assert_eq!(uses(&facts)[0], "From alpine", "BuildKit looks at that stage and at its image");
}

#[test]
fn triggers_that_never_end_are_refused() {
    for (images, path) in [
        (&[("lamina/a", "FROM x\nONBUILD COPY --from=lamina/a / /\n")][..], "`lamina/a` → `lamina/a`"),
        (
            &[
                ("lamina/a", "FROM x\nONBUILD COPY --from=lamina/b / /\n"),
                ("lamina/b", "FROM x\nONBUILD COPY --from=lamina/a / /\n"),
            ],
            "`lamina/b` → `lamina/a` → `lamina/b`",
        ),
    ] {
        let faults = read("FROM lamina/a\n", images).expect_err("endless");
        assert_eq!((faults.len(), faults[0].kind.code()), (1, "lian::dockerfile::trigger"));
        assert!(faults[0].message.ends_with(path), "{}", faults[0].message);
        assert_eq!(
            uses(&read("FROM alpine\nFROM lamina/a AS no\nFROM scratch\n", images).expect("not needed")),
            [""; 0]
        );
    }
}

#[test]
fn the_lines_of_a_config_are_triggers_too() {
    let needs = triggers_in(&["COPY --from=a /x /x".into(), "ARG A=1".into(), "NONSENSE".into(), "RUN true".into()]);
    assert_eq!((needs.sources.len(), needs.args.len()), (1, 1));
}

#[test]
fn the_builders_platform_is_its_own() {
    let text = "FROM scratch AS of-amd64\nFROM arm:1 AS of-arm64\nFROM of-$BUILDARCH AS b\nFROM to-$TARGETARCH\nCOPY --from=b / /\n";
    assert_eq!(uses(&on(text, "linux/arm64/v8", "linux/amd64")), ["From to-arm64"]);
    assert_eq!(uses(&on(text, "linux/amd64", "linux/arm64/v8")), ["From arm:1", "From to-amd64"]);
    assert_eq!(uses(&on("FROM x:v$TARGETVARIANT\n", "linux/arm", "linux/amd64")), ["From x:vv7"]);
    assert_eq!(uses(&on("FROM x:v$TARGETVARIANT$BUILDVARIANT\n", "linux/arm64/v8", "linux/arm64/v8")), ["From x:v"]);
}

#[test]
fn what_any_platform_uses_is_used() {
    let text = "FROM --platform=$BUILDPLATFORM tool:1 AS tool\nFROM one AS for-amd64\nFROM two AS for-arm64\n\
                RUN --mount=type=secret,id=arm true\nFROM for-$TARGETARCH\nCOPY --from=tool / /\nCOPY --from=both / /\n";
    let facts = on(text, "linux/amd64,linux/arm64", "linux/amd64");
    let shown: Vec<String> = facts
        .uses
        .iter()
        .map(|image| format!("{} {}", used(image), Platforms::of(&image.platforms).expect("some")))
        .collect();
    assert_eq!(
        shown,
        [
            "From tool:1 linux/amd64",
            "From one linux/amd64",
            "From two linux/arm64",
            "Copy both linux/amd64,linux/arm64"
        ]
    );
    assert!(facts.unreached.is_empty() && facts.secret_ids.contains_key("arm"));
}

#[test]
fn rules_of_style_are_faults_where_the_file_makes_them_errors_and_doubts_where_an_image_may_say() {
    let text = "FROM debian AS Build\nRUN echo $HOME\nWORKDIR $HOME\nCMD true\n";
    let rules = |lint: &[crate::domain::model::LintFinding]| {
        lint.iter().map(|found| (found.rule, found.sure)).collect::<Vec<_>>()
    };
    let facts = read(text, &[]).expect("sound");
    let found = [
        ("StageNameCasing", true),
        ("UndefinedVar", false),
        ("WorkdirRelativePath", false),
        ("JSONArgsRecommended", false),
    ];
    assert_eq!(rules(&facts.lint), found);
    assert!(facts.doubts.is_empty(), "nothing fails the build");
    let faults = read(&format!("# check=error=true\n{text}"), &[]).expect_err("an error");
    let told: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(told, ["StageNameCasing: the stage `Build` is not in lower case"]);
    let doubtful = "# check=error=true;skip=StageNameCasing\n".to_owned() + text;
    let doubts = read(&doubtful, &[]).expect("sound as far as is known").doubts;
    assert_eq!(doubts.len(), 3);
    assert!(doubts[0].message.ends_with("unless the image that the stage is based on does"), "{doubts:?}");
}

#[test]
fn a_build_argument_takes_the_place_of_the_directive() {
    let strict = |value: &str| {
        let build_args = BTreeMap::from([("BUILDKIT_DOCKERFILE_CHECK".to_owned(), value.to_owned())]);
        let file = parse("# check=error=true\nFROM debian AS Build\n").expect("a Dockerfile");
        references(&file, &reading(&build_args, &amd64(), &Triggers::new())).map_err(|faults| faults[0].message.clone())
    };
    assert!(strict("skip=all;error=true").is_ok());
    assert!(strict("").is_ok());
    assert!(strict("error=1").is_err_and(|what| what.starts_with("StageNameCasing")));
    assert!(strict("wrong").is_err_and(|what| what.contains("has no option `wrong`")));
}

/// Each layer copies twice from the next: what is gone through doubles with each, unless once is enough.
#[test]
fn triggers_that_lead_to_the_same_image_are_gone_through_once() {
    const DEEP: usize = 16;
    let copies = |next: usize| format!("FROM scratch\n{}", format!("ONBUILD COPY --from=t{next} /x /x\n").repeat(2));
    let texts: Vec<(String, String)> = (0..DEEP).map(|at| (format!("t{at}"), copies(at + 1))).collect();
    let images: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    done::take();
    let facts = read("FROM t0\n", &images).expect("sound");
    let done = done::take();
    assert!(done < 10 * DEEP, "{done}");
    assert!(facts.looked_up.contains(&format!("docker.io/library/t{DEEP}")) || facts.looked_up.len() == DEEP - 1);
}

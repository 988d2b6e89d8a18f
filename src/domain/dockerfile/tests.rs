//! What Dockerfiles say, on the shapes that people write.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{parse, read};
use crate::domain::model::{DockerfileFacts, DockerfileFault, DockerfileFaultKind, ImageUse};

fn with(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let args: BTreeMap<_, _> = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    read(text, target, &args, &"linux/arm64/v8".into())
}

/// `kind image@stage` of each use, after checking that its span covers what is written.
fn uses(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Vec<String> {
    let facts = with(text, target, args).expect("a sound Dockerfile");
    let shown = facts.uses.iter().map(|image| {
        let written = &text[image.span.start..image.span.end];
        assert!(written == image.image || written.contains('$') || written.contains('"'), "{written}");
        format!("{:?} {}@{}", image.kind, image.image, image.stage)
    });
    shown.collect()
}

fn faults(text: &str, target: Option<&str>) -> Vec<String> {
    let faults = with(text, target, &[]).expect_err("a fault");
    let place = |fault: &DockerfileFault| match fault.span {
        Some(span) => format!("{} `{}`", fault.kind.code(), &text[span.start..span.end]),
        None => fault.kind.code().to_owned(),
    };
    faults.iter().map(|f| format!("{}: {} ({})", place(f), f.message, f.help.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn finds_images_through_stages_and_leaves_out_what_is_not_reached() {
    let text = "\u{feff}# syntax=docker/dockerfile:1
ARG BASE=lamina/rust
FROM --platform=$BUILDPLATFORM ${BASE} AS Build
COPY --from=lamina/nushell /bin/nu /bin/
RUN --mount=type=bind,from=lamina/nickel,target=/n \\
    # a comment
    --mount=type=secret,id=creds --mount=type=ssh \\
    cat <<EOF > /x
FROM nowhere
EOF
FROM alpine AS unused
FROM scratch AS x
FROM build
COPY --from=0 /a /a
COPY --from=BUILD --chown=1 /b /b
";
    let all = ["From lamina/rust@0", "Copy lamina/nushell@0", "Mount lamina/nickel@0"];
    assert_eq!(uses(text, None, &[]), all);
    assert_eq!(uses(text, Some("UNUSED"), &[]), ["From alpine@1"]);
    assert_eq!(uses(text, Some("x"), &[]), [""; 0]);
    assert_eq!(uses(text, None, &[("BASE", "lamina/other")])[0], "From lamina/other@0");
    let facts = with(text, None, &[]).expect("sound");
    assert_eq!(facts.uses[0].platforms, ["linux/arm64".into()]);
    assert!(facts.uses[0].for_builder && !facts.uses[1].for_builder);
    assert_eq!(facts.secret_ids.keys().collect::<Vec<_>>(), ["creds"]);
    assert_eq!(facts.ssh_ids.keys().collect::<Vec<_>>(), ["default"]);
    assert_eq!(facts.declared_args.into_iter().collect::<Vec<_>>(), ["BASE"]);
    let (syntax, span) = facts.syntax.expect("a syntax line");
    assert_eq!((syntax.as_str(), &text[span.start..span.end]), ("docker/dockerfile:1", "docker/dockerfile:1"));
    let names: Vec<_> = facts.stages.iter().map(|stage| stage.name.as_deref()).collect();
    assert_eq!(names, [Some("build"), Some("unused"), Some("x"), None]);
}

#[test]
fn who_decides_a_stages_platform_is_known_whatever_its_variables_are_called() {
    let decides = |lines: &str, args: &[(&str, &str)]| {
        let (globals, word) = lines.rsplit_once('\n').unwrap_or(("", lines));
        let facts = with(&format!("{globals}\nFROM --platform={word} lamina/a\n"), None, args).expect("sound");
        let used = &facts.uses[0];
        let by = match (used.for_builder, used.for_target) {
            (true, true) => "both",
            (true, false) => "builder",
            (false, true) => "target",
            (false, false) => "file",
        };
        format!("{by} {}", used.platforms[0])
    };
    for (lines, args, wanted) in [
        ("linux/s390x", &[][..], "file linux/s390x"),
        ("linux/arm/v6", &[], "file linux/arm/v6"),
        ("$TARGETPLATFORM", &[], "target linux/arm64"),
        ("linux/$TARGETARCH", &[], "target linux/arm64"),
        ("$BUILDPLATFORM", &[], "builder linux/arm64"),
        ("linux", &[], "builder linux/arm64"),
        ("ARG P=$BUILDPLATFORM\n$P", &[], "builder linux/arm64"),
        ("ARG P=linux/$TARGETARCH\nARG Q=$P\n${Q:-x}", &[], "target linux/arm64"),
        ("ARG REBUILD=linux/amd64\n$REBUILD", &[], "file linux/amd64"),
        ("ARG P=$TARGETPLATFORM\n$P", &[("P", "linux/riscv64")], "file linux/riscv64"),
        ("$BUILDPLATFORM", &[("BUILDPLATFORM", "linux/amd64")], "file linux/amd64"),
        ("$TARGETOS/$BUILDARCH", &[], "builder linux/arm64"),
    ] {
        assert_eq!(decides(lines, args), wanted, "{lines}");
    }
    let text = "FROM --platform=linux/amd64 lamina/a\nCOPY --from=lamina/b / /\nRUN --mount=from=lamina/c true\n";
    let by = |used: &ImageUse| (used.for_builder, used.for_target, used.platforms[0].to_string());
    let by: Vec<_> = with(text, None, &[]).expect("sound").uses.iter().map(by).collect();
    let target = (false, true, "linux/arm64".to_owned());
    assert_eq!(by, [(false, false, "linux/amd64".to_owned()), target.clone(), target]);
}

#[test]
fn replaces_arguments_like_buildkit() {
    let text = "ARG VERSION=1.92 OS=\"trixie\"
ARG TAG=${VERSION}-${OS}
ARG SUFFIX
FROM docker.io/library/rust:${TAG}$SUFFIX AS a
FROM img-$TARGETARCH$TARGETVARIANT:${TAG%-*} AS b
COPY --from=a / /
";
    assert_eq!(uses(text, None, &[]), ["From docker.io/library/rust:1.92-trixie@0", "From img-arm64:1.92@1"]);
    assert_eq!(
        uses(text, Some("a"), &[("SUFFIX", "-slim"), ("OS", "x")]),
        ["From docker.io/library/rust:1.92-x-slim@0"]
    );
    assert_eq!(uses(text, Some("b"), &[("TARGETARCH", "amd64")])[1], "From img-amd64:1.92@1");
}

#[test]
fn a_stage_of_from_is_an_earlier_one() {
    let text = "FROM debian:1 AS x\nFROM x AS x\nFROM later AS y\nFROM busybox AS end\nFROM x\nCOPY --from=y / /\n";
    assert_eq!(uses(text, None, &[]), ["From debian:1@0", "From later@2"]);
}

#[test]
fn says_every_fault_with_its_place() {
    let text = "ARG NONE
FROM $NONE AS a
FROM x:$INNER
ARG INNER=1
FROM UPPER AS upper
FROM Upper
COPY --from=9 / /
COPY --from=$NONE / /
COPY --from=last / /
RUN --mount=from=me,target=/x true
FROM busybox AS last
";
    insta::assert_snapshot!(faults(text, Some("lats")).join("\n"));
    assert_eq!(with("FROM a\n", Some("b"), &[]).expect_err("unknown")[0].kind, DockerfileFaultKind::UnknownStage);
}

#[test]
fn order_and_shadows() {
    let text = "FROM busybox AS debian\nCOPY --from=debian / /\nCOPY --from=end / /\nFROM debian:latest AS end\n\
                COPY --from=0 / /\nFROM busybox AS busybox\nCOPY --from=end / /\n";
    insta::assert_snapshot!(faults(text, None).join("\n"));
}

#[test]
fn names_what_cannot_be_read() {
    let texts = [
        "",
        "# nothing\n",
        "FROM a\n\nRNU true\n",
        "RUN true\n",
        "FROM a AS 1st\n",
        "FROM a b\n",
        "FROM a\nCOPY x\n",
        "FROM a\nRUN <<EOF\n",
        "FROM a\n  HEALTHCHECK nothing\n",
        "\u{feff}FROM a\nWHAT\n",
    ];
    let shown: Vec<_> = texts.iter().map(|text| format!("{text:?}\n  {}", faults(text, None).join("\n  "))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn reads_a_file_whose_escape_is_a_backtick() {
    let text = "# escape=`\nFROM a `\n  AS b\nRUN dir C:\\ `\n  --x\nFROM b\n";
    assert_eq!(uses(text, None, &[]), ["From a@0"]);
}

proptest! {
    #[test]
    fn never_panics_and_keeps_spans_inside(lines in proptest::collection::vec(line(), 0..12), crlf in any::<bool>()) {
        let text = lines.join(if crlf { "\r\n" } else { "\n" });
        for fault in parse(&text).err().unwrap_or_default() {
            prop_assert!(fault.span.is_some_and(|span| text.get(span.start..span.end).is_some()), "{fault:?}");
        }
        match read(&text, None, &BTreeMap::new(), &"linux/amd64".into()) {
            Ok(facts) => prop_assert!(facts.uses.iter().all(|u| text.get(u.span.start..u.span.end).is_some())),
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "(FROM|from) (--platform=\\$A )?[a-c$A{}:]{1,5}( AS [a-d]{1,2})?",
        "COPY (--from=[a-d0-3$]{1,2} )?(<<E|a) b",
        "RUN (--mount=[a-z=,]{0,9} )?[a-z '\"<\\\\$\\[]{0,9}",
        "(ARG|ENV) [A-Z]=[$A-C'\"\\\\{}:-]{0,8}",
        "E|\\\\|# x=y|#escape=`|",
        "\\PC{0,12}",
    ]
}

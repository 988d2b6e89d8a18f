//! The source policy of a build: BuildKit may fetch what the build was given, and no other image, whatever the
//! Dockerfile turns out to say. Not responsible for: finding out beforehand which images it needs.

use serde_json::json;

use crate::domain::base::nearest;
use crate::domain::model::{Fault, FaultKind, ImageRef};
use crate::domain::ports::{BuildRequest, ImageSource, NamedContext};

/// The code of the fault of an image that was not given to the build.
const CODE: &str = "lian::buildkit::source_denied";
/// What BuildKit calls an image of a registry.
const IMAGE: &str = "docker-image://";

/// The name of the policy's file in the folder of a build.
pub(super) const FILE: &str = "policy.json";

/// The policy of a build with these images and this frontend, as `buildctl --source-policy-file` reads it. The last rule
/// that fits a source decides. Sources that a Dockerfile names by their whole address (`ADD https://…`, git) and what
/// lies here (folders, OCI layouts) are no images by name, so they cannot be mistaken.
pub(super) fn policy(contexts: &[NamedContext], frontend: Option<&str>) -> String {
    let rule = |action: &str, kind: &str, what: &str| json!({ "action": action, "selector": { "identifier": what, "match_type": kind } });
    let mut rules = vec![rule("DENY", "WILDCARD", "*"), rule("ALLOW", "REGEX", "^(local|oci-layout|https?|git)://")];
    if let Some(frontend) = frontend {
        rules.push(rule("ALLOW", "EXACT", &format!("{IMAGE}{frontend}")));
    }
    for NamedContext { name, source } in contexts {
        let ImageSource::Registry { name: from, digest } = source else { continue };
        let pinned = format!("{IMAGE}{from}@{digest}");
        rules.push(rule("ALLOW", "EXACT", &pinned));
        // A name with a platform behind it (`debian::linux/arm64`) means one of several images: no rule can tell which.
        let image = name.parse::<ImageRef>().ok().filter(|_| !name.contains("::"));
        let Some(image) = image.map(|image| format!("{IMAGE}{image}")).filter(|image| *image != pinned) else {
            continue;
        };
        let mut convert = rule("CONVERT", "EXACT", &image);
        convert["updates"] = json!({ "identifier": pinned });
        rules.push(convert);
    }
    json!({ "version": 1, "rules": rules }).to_string()
}

/// Whether the policy alone hands over this image. A named context also replaces a stage of its name (`FROM debian AS
/// debian`); a conversion does not. Only a plain word can be a stage's name.
pub(super) fn converts(context: &NamedContext) -> bool {
    matches!(context.source, ImageSource::Registry { .. }) && !context.name.contains(['/', ':', '@'])
}

/// The fault of an image that was not given to the build; `None` if BuildKit's error is another one.
pub(super) fn denied(error: &str) -> Option<Fault> {
    let source = error.split_once("source \"")?.1.split_once("\" denied by policy")?.0;
    let mut fault = Fault::new(FaultKind::Missing, CODE, told(&familiar(source), None));
    fault.evidence = Some(source.to_owned());
    Some(fault.help("correct the name, or name the image where it can be seen: `FROM image AS name`"))
}

fn told(image: &str, place: Option<&str>) -> String {
    let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
    format!("the build asks for the image `{image}`{place}, which it was not given: nothing was fetched")
}

/// An image as people write it; any other source as it is.
fn familiar(source: &str) -> String {
    let Some(name) = source.strip_prefix(IMAGE) else { return source.to_owned() };
    let Ok(image) = name.parse::<ImageRef>() else { return name.to_owned() };
    let digest = image.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{}{digest}", image.familiar())
}

/// Adds the Dockerfile's line and the image that was meant to the fault of an image that was not given.
pub(super) fn explained(mut fault: Fault, request: &BuildRequest) -> Fault {
    let Some(source) = fault.evidence.clone().filter(|_| fault.code == CODE) else { return fault };
    let image = familiar(&source);
    let text = String::from_utf8_lossy(&request.definition.dockerfile);
    let name = request.dockerfile.file_name().unwrap_or_default().to_string_lossy();
    let line = line_of(&text, &image).map(|(line, text)| format!("{name}, line {line}: {text}"));
    let names = request.named_contexts.iter().map(|context| context.name.as_str());
    let help = match (nearest(&image, names), &line) {
        (Some(meant), _) => format!("did you mean `{meant}`? A build fetches only the images that it is given"),
        (None, Some(_)) => format!("correct the name, or give it where `check` reads it: `FROM {image} AS name`"),
        (None, None) => "the Dockerfile does not name it: see what its variables come to, and the triggers (ONBUILD) \
                         of its base"
            .to_owned(),
    };
    fault.message = told(&image, line.as_deref());
    fault.help(help)
}

/// The first line that names the image, counted from 1; comments do not count.
fn line_of<'a>(text: &'a str, image: &str) -> Option<(usize, &'a str)> {
    let word = |line: &str| {
        let part = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        line.match_indices(image).any(|(at, _)| {
            let (before, after) = (line[..at].chars().next_back(), line[at + image.len()..].chars().next());
            !before.is_some_and(part) && !after.is_some_and(part)
        })
    };
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.into_iter().find(|(_, line)| !line.starts_with('#') && word(line))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::base::Digest;

    fn registry(name: &str, from: &str) -> NamedContext {
        let source = ImageSource::Registry { name: from.to_owned(), digest: Digest::of(from) };
        NamedContext { name: name.to_owned(), source }
    }

    /// Each rule on a line: `ALLOW what`, or `CONVERT what -> what`.
    fn rules(contexts: &[NamedContext], frontend: Option<&str>) -> Vec<String> {
        let policy: Value = serde_json::from_str(&policy(contexts, frontend)).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rule = |rule: &Value| {
            let line = format!("{} {}", text(&rule["action"]), text(&rule["selector"]["identifier"]));
            match rule["updates"]["identifier"].as_str() {
                Some(to) => format!("{line} -> {to}"),
                None => line,
            }
        };
        policy["rules"].as_array().expect("rules").iter().map(rule).collect()
    }

    #[test]
    fn no_image_is_fetched_but_those_that_are_given() {
        let (debian, tools) = ("docker.io/library/debian", "host:5000/team/lamina/tools");
        let contexts = [
            registry("debian:trixie-slim", debian),
            registry("lamina/tools", tools),
            registry("debian::linux/arm64", debian),
            NamedContext {
                name: "lamina/rust".into(),
                source: ImageSource::Layout { dir: "/images".into(), digest: Digest::of("rust") },
            },
        ];
        let (debian, tools) =
            (format!("{IMAGE}{debian}@{}", Digest::of(debian)), format!("{IMAGE}{tools}@{}", Digest::of(tools)));
        let expected = [
            "DENY *".to_owned(),
            "ALLOW ^(local|oci-layout|https?|git)://".to_owned(),
            "ALLOW docker-image://docker.io/docker/dockerfile@sha256:00".to_owned(),
            format!("ALLOW {debian}"),
            format!("CONVERT {IMAGE}docker.io/library/debian:trixie-slim -> {debian}"),
            format!("ALLOW {tools}"),
            format!("CONVERT {IMAGE}docker.io/lamina/tools:latest -> {tools}"),
            format!("ALLOW {debian}"),
        ];
        assert_eq!(rules(&contexts, Some("docker.io/docker/dockerfile@sha256:00")), expected);
    }

    #[test]
    fn a_stages_name_is_left_to_the_stage() {
        let names = ["debian", "debian:1", "lamina/debian", "debian@sha256:00"];
        let converted: Vec<bool> = names.map(|name| converts(&registry(name, "docker.io/library/debian"))).into();
        assert_eq!(converted, [true, false, false, false]);
    }

    #[test]
    fn a_line_names_an_image_as_a_whole_word() {
        let text = "# COPY --from=a/b x y\nFROM a/bc\nRUN --mount=from=x/a/b true\n  COPY --from=a/b:1 x y\n";
        assert_eq!(line_of(text, "a/b"), Some((4, "COPY --from=a/b:1 x y")));
        assert_eq!(line_of(text, "nosuch"), None);
    }
}

//! What a layer takes from its parents, built for real: triggers, digests, platforms. The projects of
//! `tests/fixtures/check` are built as they are, on a small substitute of their base.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use lian_build::domain::base::Digest;
use lian_build::domain::ports::ImageSource;
use serde_json::{Value, json};

use crate::support::buildkitd;
use crate::support::project::{Project, Ran, text};
use crate::support::registry::Registry;

pub const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// This machine's architecture, and one that it is not.
pub const ARCHITECTURES: (&str, &str) =
    if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };

fn base_layout() -> PathBuf {
    let ImageSource::Layout { dir, .. } = &buildkitd::stage().base else { panic!("the base is a layout") };
    dir.clone()
}

/// A project of `tests/fixtures/check`.
fn fixture(name: &str) -> Project {
    let project = Project::with_base();
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/check").join(name).join("catalog");
    for entry in walkdir::WalkDir::new(&catalog) {
        let entry = entry.expect("readable");
        if entry.file_type().is_file() {
            let below = entry.path().strip_prefix(catalog.parent().expect("a folder")).expect("below");
            let content = std::fs::read_to_string(entry.path()).expect("readable");
            project.write(below.to_str().expect("UTF-8"), &content);
        }
    }
    project
}

/// `apply` where this layout stands in for Debian, which the fixtures stand on.
fn apply_debian(project: &Project, more: &[&str]) -> Ran {
    let substitute =
        format!("--base-image=docker.io/library/debian:trixie-slim=oci-layout:{}", base_layout().display());
    let mut arguments = vec!["apply", "--format", "json", &substitute];
    arguments.extend(more);
    project.lian(&arguments)
}

fn apply(project: &Project) -> Ran {
    project.lian(&["apply", "--format", "json"])
}

pub fn json_at(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// The manifest of a digest in a layout.
fn manifest(layout: &Path, digest: &str) -> Value {
    json_at(&layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:")))
}

/// An image of another layout.
pub struct Variant<'a> {
    pub architecture: &'a str,
    pub on_build: &'a [&'a str],
}

/// A layout with an image for each variant: the busybox of the shared base, and `/arch` with the architecture's name.
/// Returns the digest of each image's own filesystem layer, too.
pub fn layout(project: &Project, variants: &[Variant<'_>]) -> (PathBuf, Vec<String>) {
    let layout = project.path().join("substitute");
    let copied = Command::new("cp").arg("-r").arg(base_layout()).arg(&layout).status().expect("cp runs");
    assert!(copied.success());
    let put = |bytes: &[u8], media_type: &str| {
        let digest = Digest::of(bytes);
        std::fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("a blob");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let index = json_at(&layout.join("index.json"));
    let busybox = manifest(&layout, text(&index["manifests"][0]["digest"]))["layers"][0].clone();
    let (mut manifests, mut layers) = (Vec::new(), Vec::new());
    for Variant { architecture, on_build } in variants {
        project.write("rootfs/arch", architecture);
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(project.path().join("rootfs")).args([
            "--owner=0",
            "--group=0",
            "--mtime=@0",
            "-cf",
            "-",
            "arch",
        ]);
        let own = put(&tar.output().expect("tar runs").stdout, "application/vnd.oci.image.layer.v1.tar");
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin"], "OnBuild": on_build},
            "rootfs": {"type": "layers", "diff_ids": [busybox["digest"], own["digest"]]},
        });
        let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let image = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [busybox, own]});
        let mut entry = put(image.to_string().as_bytes(), media_type);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(entry);
        layers.push(text(&own["digest"]).to_owned());
    }
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": manifests}).to_string())
        .expect("a file");
    (layout, layers)
}

/// `lian-build` with this layout for `base.example/multi:1`.
pub fn with_layout(project: &Project, arguments: &[&str], layout: &Path) -> Ran {
    let substitute = format!("--base-image=base.example/multi:1=oci-layout:{}", layout.display());
    let mut all = arguments.to_vec();
    all.push(&substitute);
    project.lian(&all)
}

/// Text for people without its line breaks.
pub fn unwrapped(text: &str) -> String {
    text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_trigger_copies_from_a_layer_that_the_child_declares() {
    let project = fixture("trigger-declared");
    let built = ["app=built", "base=built", "tools=built"];
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), built);
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), ["app=reused", "base=reused", "tools=reused"]);
    // The tool is in the child through the trigger alone.
    project.write("catalog/tools/Dockerfile", "FROM debian:trixie-slim\nRUN echo another > /tool.txt\n");
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), ["app=built", "base=reused", "tools=built"]);
    // Other triggers make another child.
    project.write(
        "catalog/base/Dockerfile",
        "FROM debian:trixie-slim\nONBUILD COPY --from=lamina/tools /tool.txt /a\nONBUILD RUN cp /a /tool.txt\n",
    );
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), ["app=built", "base=built", "tools=reused"]);
}

#[test]
fn a_trigger_declares_an_argument_of_the_child() {
    let project = fixture("trigger-arg");
    project.lian(&["check", "--strict"]).exits(0);
    // Both the trigger and the child look whether the value arrived.
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), ["app=built", "base=built"]);
    // A value for all layers reaches the trigger, too.
    project.write(
        "catalog/catalog.ncl",
        "let { Catalog, .. } = import \"schemas/workflow.ncl\" in\n{ build_args = { FLAVOUR = \"sweet\" } } | Catalog\n",
    );
    project.layer("app", "  build_base = \"base\",", "FROM lamina/base\nRUN grep -q sweet /flavour\nRUN true\n");
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), ["app=built", "base=reused"]);
}

#[test]
fn a_trigger_copies_from_a_stage_of_the_child() {
    let project = fixture("trigger-stage");
    project.write(
        "catalog/app/Dockerfile",
        "FROM lamina/toolchain AS build\nFROM lamina/runtime\nRUN grep -q made /out.txt\n",
    );
    assert_eq!(apply_debian(&project, &[]).exits(0).outcomes(), ["app=built", "runtime=built", "toolchain=built"]);
}

#[test]
fn a_trigger_mounts_what_the_child_declares() {
    let project = Project::with_base();
    project.layer("tools", BASE, "FROM base.example/busybox:1\nRUN echo tool > /tool.txt\n");
    project.layer(
        "base",
        BASE,
        "FROM base.example/busybox:1\nONBUILD RUN --mount=type=secret,id=word,required=true --mount=from=lamina/tools,target=/t \\\n  \
         cat /t/tool.txt /run/secrets/word > /both\n",
    );
    let secret = "  secrets = [{ id = \"word\", file = \"word\", required = true }],";
    let fields = format!("  build_base = \"base\",\n  build_inputs = [\"tools\"],\n{secret}");
    project.layer("app", &fields, "FROM lamina/base\nRUN grep -q tool /both && grep -q spoken /both\n");
    project.write("catalog/app/word", "spoken");
    project.write("catalog/app/.dockerignore", "word\n");
    // A grandchild runs no triggers, and needs nothing of what they ask for.
    project.layer("grandchild", "  build_base = \"app\",", "FROM lamina/app\nRUN true\n");
    project.lian(&["check", "--strict"]).exits(0);
    let ran = apply(&project).exits(0);
    assert_eq!(ran.outcomes(), ["app=built", "base=built", "grandchild=built", "tools=built"]);
}

#[test]
fn an_image_with_triggers_is_copied_from_though_they_name_what_is_nowhere() {
    let project = Project::with_base();
    project.layer(
        "base",
        BASE,
        "FROM base.example/busybox:1\nRUN echo x > /x\nONBUILD COPY --from=work /out /out\nONBUILD COPY --from=lamina/tools /t /t\n",
    );
    project.layer("tools", BASE, "FROM base.example/busybox:1\nRUN echo t > /t\n");
    let copied = format!("{BASE}\n  build_inputs = [\"base\"],");
    project.layer("copies", &copied, "FROM base.example/busybox:1\nCOPY --from=lamina/base /x /x\nRUN grep -q x /x\n");
    let mounted = "FROM base.example/busybox:1\nRUN --mount=from=lamina/base,target=/b grep -q x /b/x\n";
    project.layer("mounts", &copied, mounted);
    let ran = apply(&project).exits(0);
    assert_eq!(ran.outcomes(), ["base=built", "copies=built", "mounts=built", "tools=built"]);
}

#[test]
fn an_image_with_triggers_keeps_its_promises_though_they_name_what_is_nowhere() {
    let project = Project::with_base();
    let triggers = [
        "COPY --from=3 /out /out",
        "COPY --from=work /out /out",
        "COPY --from=lamina/tools /t /t",
        "COPY --from=img /t /t",
        "COPY --from=probe /t /t",
        "COPY --from=host.invalid/a/b:1 /t /t",
        "RUN --mount=from=0,target=/m true",
        "RUN --mount=from=debian,target=/m true",
        "RUN false",
    ];
    let triggers = triggers.map(|trigger| format!("ONBUILD {trigger}\n")).concat();
    let promises = format!("{BASE}\n  tools_provided = [\"cat\"],\n  artifact_paths = [\"/bin/busybox\"],");
    project.layer("base", &promises, &format!("FROM base.example/busybox:1\n{triggers}"));
    // Without a shell, each tool is looked for by itself.
    let bare = "FROM base.example/busybox:1 AS full\nFROM scratch\nCOPY --from=full /bin/busybox /bin/cat\n\
                COPY --from=full /bin/busybox /bin/busybox\nENV PATH=/bin\n";
    project.layer("bare", &promises, &format!("{bare}{triggers}"));
    assert_eq!(apply(&project).exits(0).outcomes(), ["bare=built", "base=built"]);
    // What is not there is still missed.
    project.layer("bare", &promises.replace("cat", "nosuch"), &format!("{bare}{triggers}"));
    let ran = apply(&project).exits(1).both();
    assert!(ran.contains("lian::verify") && ran.contains("nosuch"), "{ran}");
}

#[test]
fn the_triggers_of_a_substitute_are_the_childs() {
    let project = Project::with_base();
    let on_build = ["COPY --from=lamina/tools /t /t", "ARG WORD=none", "RUN echo $WORD > /word"];
    let (layout, _) = layout(&project, &[Variant { architecture: ARCHITECTURES.0, on_build: &on_build }]);
    project.layer("tools", BASE, "FROM base.example/busybox:1\nRUN echo tool > /t\n");
    let base = "  build_base = { image = \"base.example/multi:1\" },\n";
    let fields = format!("{base}  build_inputs = [\"tools\"],\n  build_args = {{ WORD = \"spoken\" }},");
    project.layer("app", &fields, "FROM base.example/multi:1\nRUN grep -q tool /t && grep -q spoken /word\n");
    let ran = with_layout(&project, &["apply", "--format", "json"], &layout).exits(0);
    assert_eq!(ran.outcomes(), ["app=built", "tools=built"]);
    project.layer("app", base, "FROM base.example/multi:1\nRUN true\n");
    let refused = with_layout(&project, &["plan"], &layout).exits(1);
    let said = refused.both();
    assert!(
        said.contains("through a trigger of `base.example/multi:1`, uses layer `tools`, which is not declared"),
        "{said}"
    );
}

#[test]
fn a_base_is_substituted_however_its_digest_is_written() {
    let project = fixture("base-by-digest");
    project.write(
        "catalog/app/Dockerfile",
        &(std::fs::read_to_string(project.path().join("catalog/app/Dockerfile")).expect("readable")
            + "RUN grep -q . /bin/busybox\n"),
    );
    let outcomes = ["app=built", "declared=built", "named-alike=built", "written=built"];
    let targets = ["--target=app", "--target=declared", "--target=named-alike", "--target=written"];
    // `/etc/hostname` is BuildKit's own in a step, and no file of this base.
    project.write(
        "catalog/named-alike/Dockerfile",
        &std::fs::read_to_string(project.path().join("catalog/named-alike/Dockerfile"))
            .expect("readable")
            .replace("/etc/hostname", "/bin/busybox"),
    );
    // Only a pin of the untagged name, with its digest, is no form of `debian:trixie-slim`.
    let latest = format!("--base-image=debian=oci-layout:{}", base_layout().display());
    let mut more = targets.to_vec();
    more.push(&latest);
    assert_eq!(apply_debian(&project, &more).exits(0).outcomes(), outcomes);
    assert!(!project.path().join("catalog/lian.lock").exists(), "a substituted base touched the lock");
}

#[test]
fn a_substitute_that_holds_the_pinned_image_gives_just_that_one() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    let both = [Variant { architecture: host, on_build: &[] }, Variant { architecture: other, on_build: &[] }];
    let (layout, _) = layout(&project, &both);
    let index = json_at(&layout.join("index.json"));
    let [here, there] = [0, 1].map(|at| text(&index["manifests"][at]["digest"]).to_owned());
    let image = format!("base.example/multi:1@{here}");
    project.layer(
        "app",
        &format!("  build_base = {{ image = \"{image}\" }},"),
        &format!(
            "FROM {image}\nCOPY --from=base.example/multi:1@{there} /arch /other\n\
             RUN grep -q {host} /arch && grep -q {other} /other\n"
        ),
    );
    let plan = with_layout(&project, &["plan", "--format", "json"], &layout).exits(0).json();
    assert!(plan["diagnostics"].is_null(), "{plan}");
    let ran = with_layout(&project, &["apply", "--format", "json"], &layout).exits(0);
    assert_eq!(ran.outcomes(), ["app=built"]);
}

#[test]
fn a_substitute_gives_each_platform_its_own_image() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    let both = [Variant { architecture: host, on_build: &[] }, Variant { architecture: other, on_build: &[] }];
    let (layout, layers) = layout(&project, &both);
    // One stage runs here, whatever the layer is built for; what it stands on is the target's.
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM base.example/multi:1 AS here\nRUN grep -q {host} /arch && echo seen > /seen\n\
         FROM base.example/multi:1\nCOPY --from=here /seen /seen\n"
    );
    let base = "  build_base = { image = \"base.example/multi:1\" },\n";
    project.layer("foreign", &format!("{base}  platforms = [\"linux/{other}\"],"), &dockerfile);
    project.layer("double", &format!("{base}  platforms = [\"linux/{host}\", \"linux/{other}\"],"), &dockerfile);
    let ran = with_layout(&project, &["apply", "--format", "json"], &layout).exits(0);
    assert_eq!(ran.outcomes(), ["double=built", "foreign=built"]);
    let images = project.state().join("images");
    let base_of = |image: &Value| text(&image["layers"][1]["digest"]).to_owned();
    let foreign = manifest(&images, &project.digest("lamina/foreign:latest").expect("built"));
    assert_eq!(base_of(&foreign), layers[1]);
    let double = manifest(&images, &project.digest("lamina/double:latest").expect("built"));
    for (architecture, layer) in [host, other].into_iter().zip(&layers) {
        let children = double["manifests"].as_array().expect("an index");
        let child = children.iter().find(|child| child["platform"]["architecture"] == architecture).expect("built");
        assert_eq!(base_of(&manifest(&images, text(&child["digest"]))), *layer, "{architecture}");
    }
    let again = with_layout(&project, &["apply", "--format", "json"], &layout).exits(0);
    assert_eq!(again.outcomes(), ["double=reused", "foreign=reused"]);
}

#[test]
fn a_parent_for_another_platform_is_refused_before_anything_is_built() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    let (layout, _) = layout(&project, &[Variant { architecture: host, on_build: &[] }]);
    let multi = format!("  build_base = {{ image = \"base.example/multi:1\" }},\n  platforms = [\"linux/{other}\"],");
    project.layer("app", &multi, "FROM base.example/multi:1\nCOPY x /x\n");
    project.write("catalog/app/x", "x");
    let said = with_layout(&project, &["plan"], &layout).exits(64).both();
    let wanted = format!("holds an image for linux/{host}, and one for linux/{other} is needed");
    assert!(said.contains("lian::registries::other_platform") && unwrapped(&said).contains(&wanted), "{said}");
    // Only the plan knows that an undeclared base is built for this machine.
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let fields = format!("  build_base = \"base\",\n  platforms = [\"linux/{other}\"],");
    project.layer("app", &fields, "FROM lamina/base\nCOPY x /x\n");
    project.lian(&["check", "--strict"]).exits(0);
    let said = project.lian(&["plan"]).exits(1).both();
    assert!(
        said.contains("lian::graph::missing_platform") && unwrapped(&said).contains("its base `base` for"),
        "{said}"
    );
    // A stage may ask for another platform than its layer, which declares none.
    let asks = format!("ARG P=linux/{other}\nFROM --platform=$P lamina/base AS there\nRUN true\n");
    project.layer("app", "  build_base = \"base\",", &asks);
    let said = unwrapped(&project.lian(&["plan"]).exits(1).both());
    let wanted = format!("needs its base `base` for linux/{other}, and that is built only for linux/{host}");
    assert!(said.contains(&wanted) && said.contains(&format!("`--platform` asks for linux/{other}")), "{said}");
    // A stage that runs on the builder needs its image for the builder.
    project.layer(
        "app",
        &fields,
        "FROM --platform=$BUILDPLATFORM lamina/base AS here\nFROM scratch\nCOPY --from=here /bin/busybox /b\n",
    );
    project.lian(&["plan"]).exits(0);
}

#[test]
fn a_stage_is_chosen_by_the_builders_architecture() {
    let project = Project::with_base();
    let (host, other) = ARCHITECTURES;
    project.layer(
        "app",
        &format!("{BASE}\n  platforms = [\"linux/{other}\"],"),
        &format!(
            "FROM --platform=linux/{host} base.example/busybox:1 AS bin-{host}\nRUN echo {host} > /b\n\
             FROM scratch AS bin-{other}\nFROM bin-$BUILDARCH AS bin\nFROM scratch\nCOPY --from=bin /b /b\n"
        ),
    );
    project.lian(&["check", "--strict"]).exits(0);
    assert_eq!(apply(&project).exits(0).outcomes(), ["app=built"]);
}

#[test]
fn a_dockerfile_alone_stands_on_any_image_of_its_own_namespace() {
    let project = Project::with_base();
    let substitute = format!("--base-image=acme/base:1=oci-layout:{}", base_layout().display());
    project.write("Dockerfile", "FROM acme/base:1\nRUN true\n");
    project.lian(&["dispatch", "--context", ".", "--image", "acme/api", &substitute]).exits(0);
    assert!(project.references().contains(&"acme/api:latest".to_owned()), "{:?}", project.references());
}

#[test]
fn the_pin_of_a_tag_stays_beside_a_use_of_the_same_tag_by_digest() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let image = format!("127.0.0.1:{}/x:1", listener.local_addr().expect("an address").port());
    let digest = Digest::of("image");
    let answer =
        format!("HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let project = Project::new();
    let base = |image: &str| format!("  build_base = {{ image = \"{image}\" }},");
    project.layer("by-tag", &base(&image), &format!("FROM {image}\n"));
    let pinned = format!("{image}@{}", Digest::of("other"));
    project.layer("pinned", &base(&pinned), &format!("FROM {pinned}\n"));
    project.lian(&["update"]).exits(0);
    let lock = std::fs::read_to_string(project.path().join("catalog/lian.lock")).expect("a lock");
    assert!(lock.contains(&image) && lock.contains(digest.as_str()), "{lock}");
    assert!(!lock.contains(Digest::of("other").as_str()), "{lock}");
}

#[test]
fn the_triggers_of_an_image_in_a_registry_are_known_once_its_pin_is() {
    let registry = Registry::start();
    let theirs = Project::with_base();
    theirs.layer("base", BASE, "FROM base.example/busybox:1\nONBUILD COPY --from=lamina/tools /t /t\n");
    let fields = format!("registry = {{ address = \"{}/team\", plain_http = true }},", registry.address());
    let workflow = format!(
        "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ registry_provider = 'registry, {fields} }} | Workflow\n"
    );
    theirs.write("workflows/local.ncl", &workflow);
    theirs.lian(&["apply"]).exits(0);

    let ours = Project::with_base();
    let image = format!("{}/team/lamina/base:latest", registry.address());
    let fields = format!("  build_base = {{ image = \"{image}\" }},");
    let app = format!("FROM {image}\nRUN test -s /t\n");
    let nothing = "  build_base = { image = \"scratch\" },";
    ours.layer("tools", nothing, "FROM scratch\nCOPY t /t\n")
        .write("catalog/tools/t", "t\n")
        .layer("app", &fields, &app);
    ours.lian(&["update"]).exits(0);
    let lock = std::fs::read_to_string(ours.path().join("catalog/lian.lock")).expect("a lock");
    assert!(lock.contains("COPY --from=lamina/tools /t /t"), "{lock}");
    let told = ours.lian(&["check"]).exits(1).both();
    assert!(told.contains("through a trigger of") && told.contains("add `\"tools\"` to `build_inputs`"), "{told}");
    ours.layer("app", &format!("{fields}\n  build_inputs = [\"tools\"],"), &app);
    assert_eq!(apply(&ours).exits(0).outcomes(), ["app=built", "tools=built"]);
    drop(registry);
    ours.layer("app", &fields, &app);
    ours.lian(&["check"]).exits(1);
    // A lock of old, without triggers, is as valid.
    let plain = serde_json::from_str::<serde_json::Value>(&lock).expect("JSON");
    let digest = &plain["images"][&image]["digest"];
    let plain = serde_json::json!({ "version": 1, "images": { &image: { "digest": digest } } });
    ours.write("catalog/lian.lock", &plain.to_string());
    ours.lian(&["check"]).exits(0);
}

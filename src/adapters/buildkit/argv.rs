//! The arguments of `buildctl build`, as pure functions. Values of secrets never appear here: only their ids, variables
//! and paths do.

use std::path::Path;

use super::policy;
use crate::domain::base::Platforms;
use crate::domain::ports::{
    BuildRequest, CACHE, ImageSource, NEXT_CACHE, NamedContext, PushTarget, SecretSource, SecretValue, SharedCaches,
};

/// Turns off BuildKit's search for a `# syntax=` line, which would fetch an unpinned frontend: buildctl does not search
/// if it is given a command line.
const BUILT_IN: &str = "dockerfile.v0";

/// The name of the file for BuildKit's metadata in the folder of a build.
pub(super) const METADATA: &str = "metadata.json";

/// The name by which a frontend asks for the context.
const CONTEXT: &str = "context";
/// How often a daemon may put a prefix before that name: once where it reads the name, and once more where it holds it
/// against a source policy (BuildKit 0.32).
const PREFIXED: usize = 3;

/// How exported layers are compressed. Measured on 956 MB of libraries with two busy cores: uncompressed 19.9 s (956
/// MB), zstd at its fastest level 13.5 s (345 MB), gzip 72.5 s (341 MB). Compression pays because less is written.
const COMPRESSION: &str = "compression=zstd,compression-level=1,oci-mediatypes=true";

/// The arguments that follow `buildctl --addr …`. The source policy lies in `own`, and BuildKit's metadata goes there.
pub(super) fn build(request: &BuildRequest, own: &Path) -> Vec<String> {
    let mut args = start(request.frontend.as_deref(), own);
    let folder = request.dockerfile.parent().filter(|parent| !parent.as_os_str().is_empty());
    let file = request.dockerfile.file_name().unwrap_or(request.dockerfile.as_os_str());
    locals(&mut args, &request.context, folder.unwrap_or(Path::new(".")));
    kept_apart(&mut args, request);
    opt(&mut args, "filename", &file.to_string_lossy());
    if let Some(target) = &request.target {
        opt(&mut args, "target", target);
    }
    opt(&mut args, "platform", &request.platforms.to_string());
    for (name, value) in &request.build_args {
        opt(&mut args, &format!("build-arg:{name}"), value);
    }
    for (name, value) in &request.labels {
        opt(&mut args, &format!("label:{name}"), value);
    }
    let named: Vec<&NamedContext> =
        request.named_contexts.iter().filter(|context| !policy::converts(context)).collect();
    contexts(&mut args, &named);
    stand_ins(&mut args, request.stand_ins.iter());
    for secret in &request.secrets {
        args.extend(["--secret".to_owned(), secret_field(secret)]);
    }
    for id in &request.ssh {
        args.extend(["--ssh".to_owned(), id.clone()]);
    }
    shared_caches(&mut args, &request.caches);
    image_output(&mut args, &request.staging, request.push.as_ref(), &own.join(METADATA));
    args
}

/// Caches in registries. That one cannot be written is told in the build's log, and does not fail the build.
fn shared_caches(args: &mut Vec<String>, caches: &SharedCaches) {
    let cache = |target: &PushTarget, tag: &str| {
        let insecure = if target.plain_http { ",registry.insecure=true" } else { "" };
        format!("type=registry,{}{insecure}", csv(&format!("ref={}:{tag}", target.name)))
    };
    for from in &caches.from {
        args.extend(["--import-cache".to_owned(), cache(from, CACHE)]);
    }
    if let Some(to) = &caches.to {
        let how = format!("mode=max,image-manifest=true,{COMPRESSION},ignore-error=true");
        args.extend(["--export-cache".to_owned(), format!("{},{how}", cache(to, NEXT_CACHE))]);
    }
}

/// Lets all steps of a build use the network of the daemon's machine.
pub(super) fn on_host_network(args: &mut Vec<String>) {
    opt(args, "force-network-mode", "host");
    args.extend(["--allow", "network.host"].map(str::to_owned));
}

/// The arguments of a build of our own: a Dockerfile and a source policy in `folder`, which is also the context.
pub(super) fn over_image(folder: &Path, platforms: &Platforms, images: &[NamedContext]) -> Vec<String> {
    let mut args = start(None, folder);
    locals(&mut args, folder, folder);
    opt(&mut args, "platform", &platforms.to_string());
    contexts(&mut args, &images.iter().collect::<Vec<_>>());
    args
}

/// Exports the image into a private OCI layout, or pushes it by its digest alone: its tags move once it is verified.
/// BuildKit writes the digest to `metadata`.
pub(super) fn image_output(args: &mut Vec<String>, staging: &Path, push: Option<&PushTarget>, metadata: &Path) {
    let output = match push {
        None => format!("type=oci,tar=false,{},{COMPRESSION}", csv(&format!("dest={}", staging.display()))),
        Some(PushTarget { name, plain_http }) => {
            let insecure = if *plain_http { ",registry.insecure=true" } else { "" };
            let name = csv(&format!("name={name}"));
            format!("type=image,{name},push=true,push-by-digest=true,name-canonical=true,{COMPRESSION}{insecure}")
        }
    };
    args.extend(["--output".to_owned(), output]);
    args.extend(["--metadata-file".to_owned(), metadata.display().to_string()]);
}

/// Exports the file system into a folder.
pub(super) fn folder_output(args: &mut Vec<String>, folder: &Path) {
    args.extend(["--output".to_owned(), format!("type=local,{}", csv(&format!("dest={}", folder.display())))]);
}

/// An empty image for each of these names.
pub(super) fn stand_ins<'a>(args: &mut Vec<String>, names: impl Iterator<Item = &'a String>) {
    for name in names {
        opt(args, &format!("context:{name}"), EMPTY);
    }
}

/// The context of an empty image.
const EMPTY: &str = "docker-image://scratch";

fn start(frontend: Option<&str>, own: &Path) -> Vec<String> {
    let policy = own.join(policy::FILE).display().to_string();
    let mut args: Vec<String> = ["build", "--progress=rawjson", "--source-policy-file"].map(str::to_owned).into();
    args.extend([policy, "--frontend".to_owned()]);
    match frontend {
        None => {
            args.push(BUILT_IN.to_owned());
            opt(&mut args, "cmdline", BUILT_IN);
        }
        Some(image) => {
            args.push("gateway.v0".to_owned());
            opt(&mut args, "source", image);
            opt(&mut args, "cmdline", image);
        }
    }
    args
}

fn locals(args: &mut Vec<String>, context: &Path, dockerfile: &Path) {
    for (name, folder) in [(CONTEXT, context), ("dockerfile", dockerfile)] {
        args.extend(["--local".to_owned(), format!("{name}={}", folder.display())]);
    }
}

/// Has the daemon keep this context apart from those with other modes of folders.
///
/// It keeps the last context of each name, to be sent what differs, and digests of it, by which a `COPY` is known. Where
/// a folder of the same path has another mode, it sets the mode and keeps the digest: the `COPY` counts as done, and the
/// image has the old mode. The frontend asks for the context by a name that cannot be chosen, but the daemon puts what
/// stands before the colon of a session's id in front of that name. No id behind it means any session of the build; what
/// else makes the build's context its own stands in the ignore file (see `definition`).
fn kept_apart(args: &mut Vec<String>, request: &BuildRequest) {
    let Some(modes) = &request.folder_modes else { return };
    let prefix = format!("lian-{modes}");
    for times in 1..=PREFIXED {
        let name = format!("{prefix}-").repeat(times) + CONTEXT;
        args.extend(["--local".to_owned(), format!("{name}={}", request.context.display())]);
    }
    opt(args, &format!("local-sessionid:{CONTEXT}"), &format!("{prefix}:"));
}

/// Images by name. Each layout has an id of its own, because two names may lie in two folders.
fn contexts(args: &mut Vec<String>, contexts: &[&NamedContext]) {
    for (index, NamedContext { name, source }) in contexts.iter().enumerate() {
        let key = format!("context:{name}");
        match source {
            ImageSource::Layout { dir, digest } => {
                args.extend(["--oci-layout".to_owned(), format!("c{index}={}", dir.display())]);
                opt(args, &key, &format!("oci-layout://c{index}@{digest}"));
            }
            ImageSource::Registry { name, digest } => opt(args, &key, &format!("docker-image://{name}@{digest}")),
        }
    }
}

pub(super) fn opt(args: &mut Vec<String>, name: &str, value: &str) {
    args.extend(["--opt".to_owned(), format!("{name}={value}")]);
}

fn secret_field(secret: &SecretSource) -> String {
    let source = match &secret.value {
        SecretValue::Env(variable) => format!("env={variable}"),
        SecretValue::File(path) => format!("src={}", path.display()),
    };
    format!("{},{}", csv(&format!("id={}", secret.id)), csv(&source))
}

/// Quotes one field of the comma-separated records that `--output` and `--secret` take.
fn csv(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Digest;
    use crate::domain::ports::samples;

    fn request() -> BuildRequest {
        let digest = Digest::of("parent");
        BuildRequest {
            context: "/work/lamina/app".into(),
            dockerfile: "/work/lamina/app/Dockerfile.rust".into(),
            target: Some("final".into()),
            build_args: [("MODE".to_owned(), "a=b, c".to_owned())].into(),
            labels: [("dev.lian-build.layer-key".to_owned(), "sha256:00".to_owned())].into(),
            secrets: vec![
                SecretSource { id: "token".into(), value: SecretValue::Env("TOKEN".into()) },
                SecretSource { id: "ca".into(), value: SecretValue::File("/etc/a,b.pem".into()) },
            ],
            ssh: vec!["default".into()],
            named_contexts: vec![
                NamedContext {
                    name: "debian:trixie-slim".into(),
                    source: ImageSource::Layout { dir: "/images".into(), digest: digest.clone() },
                },
                NamedContext {
                    name: "lamina/rust".into(),
                    source: ImageSource::Registry { name: "host:5000/lamina/rust".into(), digest },
                },
            ],
            stand_ins: vec!["lamina/tools".into()],
            staging: "/images/staging/1".into(),
            ..samples::build_request()
        }
    }

    #[test]
    fn says_all_that_the_request_says() {
        insta::assert_snapshot!(build(&request(), Path::new("/tmp")).join("\n"));
    }

    #[test]
    fn a_context_goes_by_a_name_for_its_folders_modes_too() {
        let args = build(&BuildRequest { folder_modes: Some("775".into()), ..request() }, Path::new("/m"));
        let has = |pair: [&str; 2]| args.windows(2).any(|found| found == pair);
        assert!(has(["--local", "lian-775-context=/work/lamina/app"]), "{args:?}");
        assert!(has(["--local", "lian-775-lian-775-context=/work/lamina/app"]), "{args:?}");
        assert!(has(["--opt", "local-sessionid:context=lian-775:"]), "{args:?}");
    }

    #[test]
    fn an_image_is_pushed_by_its_digest_alone() {
        let output = |plain_http| {
            let push = Some(PushTarget { name: "host:5000/lamina/app".into(), plain_http });
            let args = build(&BuildRequest { push, ..request() }, Path::new("/m"));
            let at = args.iter().position(|arg| arg == "--output").expect("an output");
            assert_eq!(args.iter().filter(|arg| *arg == "--output").count(), 1);
            args[at + 1].clone()
        };
        let expected = "type=image,name=host:5000/lamina/app,push=true,push-by-digest=true,name-canonical=true,\
                        compression=zstd,compression-level=1,oci-mediatypes=true";
        assert_eq!(output(false), expected);
        assert_eq!(output(true), format!("{expected},registry.insecure=true"));
    }

    #[test]
    fn a_pinned_frontend_goes_through_the_gateway() {
        let image = format!("docker.io/docker/dockerfile@{}", Digest::of("frontend"));
        let args = build(&BuildRequest { frontend: Some(image.clone()), ..request() }, Path::new("/m"));
        assert_eq!(args[4..7], ["--frontend", "gateway.v0", "--opt"]);
        assert_eq!(args[7], format!("source={image}"));
        assert!(args.contains(&format!("cmdline={image}")), "its own `# syntax=` line must not lead elsewhere");
    }
}

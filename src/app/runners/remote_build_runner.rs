//! A runner that builds remotely: the context is copied to its workspace, buildctl runs there, the image goes to a
//! registry. Not responsible for: keeping secrets there longer than a build.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::buildkit::RemoteBuildctl;
use crate::adapters::context::{Reader, raw_name, told_apart};
use crate::adapters::registry::scoped_config;
use crate::adapters::runner::{DISK, PRIVATE, RemoteRunner, WORKSPACE};
use crate::domain::base::Digest;
use crate::domain::model::{BuildEvent, Fault, FaultKind};
use crate::domain::ports::{
    BuildRequest, BuildSink, Builder, Built, ContextReader as _, Counters, ImageSource, Modes, NamedContext, Runner,
    SecretSource, SecretValue, Usage, VerifyRequest,
};
use crate::system::exec::Exec;
use crate::system::read::{self, Cap};
use crate::system::watch::SignsOfLife;

/// Maximum size of a manifest, bytes.
const MANIFEST_MOST: u64 = 16 << 20;

/// A runner with its own copy of the context.
#[derive(Clone)]
pub struct RemoteBuildRunner {
    runner: Arc<RemoteRunner>,
    /// Builds there.
    buildctl: RemoteBuildctl,
    /// Verifies from here, over the same connection: only small Dockerfiles are sent.
    session: Arc<dyn Builder>,
    /// Contexts must be inside it.
    project_root: PathBuf,
}

impl RemoteBuildRunner {
    /// For this runner. `session` verifies from here; contexts must be inside the project's root.
    pub fn new(runner: Arc<RemoteRunner>, session: Arc<dyn Builder>, project_root: PathBuf) -> Self {
        let exec = Arc::clone(runner.transport()) as Arc<dyn Exec>;
        let (daemon, counters) = (runner.transport().environment().daemon, Arc::clone(&runner) as Arc<dyn Counters>);
        let buildctl = RemoteBuildctl::new(exec, &daemon, PRIVATE, counters);
        Self { runner, buildctl, session, project_root }
    }
}

#[async_trait]
impl Counters for RemoteBuildRunner {
    async fn usage(&self) -> Result<Usage, Fault> {
        self.runner.usage().await
    }

    fn pace(&self) -> Duration {
        self.runner.pace()
    }
}

#[async_trait]
impl Runner for RemoteBuildRunner {
    /// Copies exactly the files that the build would see.
    async fn sync(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<(), Fault> {
        let (root, context, dockerfile) =
            (self.project_root.clone(), request.context.clone(), request.dockerfile.clone());
        let listing = tokio::task::spawn_blocking(move || Reader::of(Modes::Git).list(&root, &context, &dockerfile));
        // Remove another build's files: one of the same length and time would count as unchanged.
        let (listing, emptied) = tokio::join!(listing, self.runner.empty(WORKSPACE));
        let listing = listing.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
        emptied?;
        let files: Vec<OsString> = listing.files.keys().map(|name| raw_name(name)).collect();
        let total = Some(listing.bytes);
        let sent = |current: u64| {
            let (vertex, id) = ("context".to_owned(), "sending the context".to_owned());
            sink(BuildEvent::Progress { vertex, id, current, total });
        };
        // The daemon there keeps the last context, too.
        let (context, total) = (request.context.clone(), listing.bytes);
        let copy = tokio::task::spawn_blocking(move || told_apart(&context, &listing, Modes::Git)).await;
        let copy = copy.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
        let context = copy.as_ref().map_or(request.context.as_path(), |copy| copy.path());
        self.runner.copy_in(context, &files, WORKSPACE, &sent).await?;
        sent(total);
        Ok(())
    }

    fn builder(&self) -> Arc<dyn Builder> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl Builder for RemoteBuildRunner {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        let passing = ["secrets", "docker", "dockerfile"].map(|folder| format!("{PRIVATE}/{folder}"));
        let signs = SignsOfLife::default();
        let heard = |event: BuildEvent| {
            signs.heard();
            sink(event);
        };
        let work = async {
            let there = self.prepared(request).await?;
            // buildctl there may wait for a daemon that hangs.
            tokio::select! {
                biased;
                built = self.buildctl.build(&there, &passing, &heard) => built,
                fault = self.runner.death(&signs) => Err(fault),
            }
        };
        match work.await {
            Ok(built) => Ok(built),
            Err(fault) => {
                // buildctl's wrapper may not have finished. If the connection is lost, the runner cleans up itself.
                let _ = self.runner.remove(&passing).await;
                Err(self.runner.judge(fault).await)
            }
        }
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        self.session.verify(request).await
    }
}

impl RemoteBuildRunner {
    /// The request with the runner's paths, after copying everything it names.
    async fn prepared(&self, request: &BuildRequest) -> Result<BuildRequest, Fault> {
        let mut there = BuildRequest { context: WORKSPACE.into(), folder_modes: None, ..request.clone() };
        let name = request.dockerfile.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dockerfile = format!("{PRIVATE}/dockerfile/{name}");
        // Only the right files were copied: an ignore file there would exclude more.
        let mut files = vec![
            (format!("{dockerfile}.dockerignore"), Vec::new()),
            (dockerfile.clone(), request.definition.dockerfile.clone()),
            self.buildctl.policy(request),
        ];
        there.dockerfile = dockerfile.into();
        for (at, secret) in there.secrets.iter_mut().enumerate() {
            let path = format!("{PRIVATE}/secrets/{at}");
            files.push((path.clone(), value(secret).await?));
            secret.value = SecretValue::File(path.into());
        }
        for NamedContext { source, .. } in &mut there.named_contexts {
            if let ImageSource::Layout { dir, digest } = source {
                *dir = self.layout(dir, digest).await?;
            }
        }
        let hosts = registries(request);
        let config = tokio::task::spawn_blocking(move || scoped_config(hosts.iter().map(String::as_str))).await;
        if let Some(config) = config.map_err(|error| unreadable(&error))? {
            files.push((format!("{PRIVATE}/docker/config.json"), config.into_bytes()));
        }
        self.runner.put(&files).await?;
        Ok(there)
    }

    /// Copies an image of a layout to the runner.
    async fn layout(&self, dir: &Path, digest: &Digest) -> Result<PathBuf, Fault> {
        let to = format!("{DISK}/layouts/{}", Digest::of(dir.as_os_str().as_encoded_bytes()).hex());
        let (below, top) = (dir.to_owned(), digest.clone());
        let files = tokio::task::spawn_blocking(move || reachable(&below, &top));
        let mut files: Vec<OsString> = files.await.map_err(|error| unreadable(&error))?;
        files.extend(["index.json", "oci-layout"].map(OsString::from));
        self.runner.make(&to).await?;
        self.runner.copy_in(dir, &files, &to, &|_| {}).await?;
        Ok(to.into())
    }
}

/// The registries that a build uses: for its bases, its frontend and its image.
fn registries(request: &BuildRequest) -> BTreeSet<String> {
    let from = request.named_contexts.iter().filter_map(|context| match &context.source {
        ImageSource::Registry { name, .. } => Some(name.as_str()),
        ImageSource::Layout { .. } => None,
    });
    let names = from.chain(request.push.iter().map(|push| push.name.as_str())).chain(request.frontend.as_deref());
    names.filter_map(|name| name.split('/').next()).map(str::to_owned).collect()
}

/// The files of an image in a layout. Missing ones (of another platform) are not needed.
fn reachable(dir: &Path, top: &Digest) -> Vec<OsString> {
    let (mut found, mut open) = (BTreeSet::new(), vec![top.clone()]);
    while let Some(digest) = open.pop() {
        let file = format!("blobs/sha256/{}", digest.hex());
        let Ok(metadata) = std::fs::metadata(dir.join(&file)) else { continue };
        if !found.insert(OsString::from(&file)) || metadata.len() > MANIFEST_MOST {
            continue;
        }
        let text = read::of_user(&dir.join(&file), Cap::Manifest).unwrap_or_default();
        let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
        let listed = ["manifests", "layers"].into_iter().filter_map(|field| manifest[field].as_array()).flatten();
        let named = listed.chain([&manifest["config"]]).filter_map(|named| named["digest"].as_str()?.parse().ok());
        open.extend(named);
    }
    found.into_iter().collect()
}

async fn value(secret: &SecretSource) -> Result<Vec<u8>, Fault> {
    use std::os::unix::ffi::OsStringExt;
    let missing = |why: String| {
        Fault::new(FaultKind::Missing, "lian::buildkit::missing_secret", format!("the secret `{}` {why}", secret.id))
            .help("set it, or correct the layer's `secrets`")
    };
    match &secret.value {
        SecretValue::Env(name) => std::env::var_os(name)
            .map(OsStringExt::into_vec)
            .ok_or_else(|| missing(format!("has no value: {name} is not set"))),
        SecretValue::File(path) => read::of_user(path, Cap::Secret)
            .map_err(|error| missing(format!("has no value: {}: {error}", path.display()))),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::ContextMoved, "lian::cli::context", format!("the context cannot be read: {error}"))
        .help("run it again when the files no longer change")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ports::samples;

    #[test]
    fn only_what_an_image_is_made_of_travels() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder");
        let blob = |text: &str| {
            let digest = Digest::of(text);
            std::fs::write(blobs.join(digest.hex()), text).expect("writable");
            digest
        };
        let (config, layer, stranger) = (blob("{}"), blob("a layer"), blob("another image's"));
        let part = serde_json::json!({ "config": { "digest": config }, "layers": [{ "digest": layer }] }).to_string();
        let (part, absent) = (blob(&part), Digest::of("another platform's"));
        let index = serde_json::json!({ "manifests": [{ "digest": part }, { "digest": absent }] }).to_string();
        let index = blob(&index);
        let mut wanted =
            [&config, &layer, &part, &index].map(|digest| OsString::from(format!("blobs/sha256/{}", digest.hex())));
        wanted.sort();
        assert_eq!(reachable(folder.path(), &index), wanted);
        assert_eq!(reachable(folder.path(), &stranger).len(), 1);
    }

    #[test]
    fn the_logins_of_the_registries_that_a_build_speaks_to_travel_and_no_others() {
        let digest = Digest::of("x");
        let context = |source| NamedContext { name: "any".to_owned(), source };
        let from = |name: &str| context(ImageSource::Registry { name: name.to_owned(), digest: digest.clone() });
        let request = BuildRequest {
            build_args: [("FROM".to_owned(), "args.example/x".to_owned())].into(),
            named_contexts: vec![
                from("docker.io/library/debian"),
                from("host:5000/team/base"),
                context(ImageSource::Layout { dir: "layout.example/x".into(), digest: digest.clone() }),
            ],
            frontend: Some("front.example/dockerfile@sha256:00".to_owned()),
            push: Some(crate::domain::ports::PushTarget {
                name: "push.example/team/app".to_owned(),
                plain_http: false,
            }),
            ..samples::build_request()
        };
        let hosts: Vec<String> = registries(&request).into_iter().collect();
        assert_eq!(hosts, ["docker.io", "front.example", "host:5000", "push.example"]);
    }
}

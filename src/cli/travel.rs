//! A runner that builds by itself: the context travels to its /workspace, buildctl runs there, the image goes to a registry.
//! Refuses: keeping anything secret there longer than a build.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::Digest;
use crate::buildkit::BuildctlThere;
use crate::context::Reader;
use crate::model::{BuildEvent, Fault, FaultKind};
use crate::ports::{
    BuildRequest, BuildSink, Builder, Built, ContextReader as _, Counters, ImageSource, NamedContext, Runner,
    SecretSource, SecretValue, Usage, VerifyRequest,
};
use crate::registries::scoped_config;
use crate::remote::{Link, PRIVATE, WORKSPACE};

/// A runner with a context of its own.
#[derive(Clone)]
pub struct Travelling {
    /// The connection.
    pub link: Arc<Link>,
    /// Builds there.
    pub there: BuildctlThere,
    /// Verifies from here, over the same connection: nothing but small Dockerfiles travels for it.
    pub session: Arc<dyn Builder>,
    /// Contexts lie inside it.
    pub project_root: PathBuf,
}

#[async_trait]
impl Counters for Travelling {
    async fn usage(&self) -> Result<Usage, Fault> {
        self.link.usage().await
    }
}

#[async_trait]
impl Runner for Travelling {
    /// Exactly the files that the build would see.
    async fn sync(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<(), Fault> {
        let (root, context, dockerfile) =
            (self.project_root.clone(), request.context.clone(), request.dockerfile.clone());
        let listing = tokio::task::spawn_blocking(move || Reader.list(&root, &context, &dockerfile)).await;
        let listing = listing.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
        // What a broken transfer of this context left is gone on with; what another one left is not.
        let mark = Digest::of(request.context.as_os_str().as_encoded_bytes());
        let clear = format!(
            "mkdir -p {WORKSPACE}; [ \"$(cat {PRIVATE}/context 2>/dev/null)\" = {mark} ] || \
             find {WORKSPACE} -mindepth 1 -delete; echo {mark} >{PRIVATE}/context"
        );
        self.link.run(&clear).await?;
        let files: Vec<String> = listing.files.keys().cloned().collect();
        let total = Some(listing.bytes);
        let moved = |current: u64| {
            let (vertex, id) = ("context".to_owned(), "sending the context".to_owned());
            sink(BuildEvent::Progress { vertex, id, current, total });
        };
        self.link.bring(&request.context, &files, WORKSPACE, &moved).await?;
        moved(listing.bytes);
        Ok(())
    }

    fn builder(&self) -> Arc<dyn Builder> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl Builder for Travelling {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        let there = self.moved(request).await?;
        let built = self.there.build(&there, sink).await;
        // Also after a failure; and where the connection is gone, the runner does it by itself.
        let _ = self.link.run(&format!("rm -rf {PRIVATE}/secrets {PRIVATE}/docker")).await;
        match built {
            Err(fault) if fault.kind != FaultKind::OutOfMemory && !self.link.stands().await => {
                Err(self.link.gone(&fault.message))
            }
            other => other,
        }
    }

    async fn verify(&self, request: &VerifyRequest, sink: &BuildSink<'_>) -> Result<Option<Digest>, Fault> {
        self.session.verify(request, sink).await
    }
}

impl Travelling {
    /// The request with the runner's paths, everything that it names brought.
    async fn moved(&self, request: &BuildRequest) -> Result<BuildRequest, Fault> {
        let mut there = BuildRequest { context: WORKSPACE.into(), ..request.clone() };
        let name = request.dockerfile.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = tokio::fs::read(&request.dockerfile).await.map_err(|error| unreadable(&error))?;
        let dockerfile = format!("{PRIVATE}/dockerfile/{name}");
        self.link.put(&dockerfile, &text).await?;
        // The files that travelled are the right ones: nothing more is to be left out there.
        self.link.put(&format!("{dockerfile}.dockerignore"), b"").await?;
        there.dockerfile = dockerfile.into();
        for (at, secret) in there.secrets.iter_mut().enumerate() {
            let path = format!("{PRIVATE}/secrets/{at}");
            self.link.put(&path, &value(secret).await?).await?;
            secret.value = SecretValue::File(path.into());
        }
        for NamedContext { source, .. } in &mut there.named_contexts {
            if let ImageSource::Layout { dir, .. } = source {
                *dir = self.layout(dir).await?;
            }
        }
        if let Some(push) = &there.push {
            let host = push.name.split('/').next().unwrap_or_default().to_owned();
            let config = tokio::task::spawn_blocking(move || scoped_config(&host)).await;
            if let Some(config) = config.map_err(|error| unreadable(&error))? {
                self.link.put(&format!("{PRIVATE}/docker/config.json"), config.as_bytes()).await?;
            }
        }
        Ok(there)
    }

    /// Brings an image layout; one that is there already is not sent again.
    async fn layout(&self, dir: &Path) -> Result<PathBuf, Fault> {
        let to = format!("{PRIVATE}/layouts/{}", Digest::of(dir.as_os_str().as_encoded_bytes()).short());
        let below = dir.to_owned();
        let files = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<String>> {
            let mut files = vec!["index.json".to_owned(), "oci-layout".to_owned()];
            for entry in std::fs::read_dir(below.join("blobs/sha256"))? {
                files.push(format!("blobs/sha256/{}", entry?.file_name().to_string_lossy()));
            }
            Ok(files)
        });
        let files = files.await.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
        self.link.run(&format!("mkdir -p {to}")).await?;
        self.link.bring(dir, &files, &to, &|_| {}).await?;
        Ok(to.into())
    }
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
        SecretValue::File(path) => {
            tokio::fs::read(path).await.map_err(|error| missing(format!("has no value: {}: {error}", path.display())))
        }
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::ContextMoved, "lian::cli::context", format!("the context cannot be read: {error}"))
        .help("run it again when the files rest")
}

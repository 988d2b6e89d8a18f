//! Resolves the tag of an external image to its current digest. Not responsible for: pulling it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;

use super::client::{Access, ApiError, Cause, Client, Endpoint};
use crate::domain::base::{Digest, DigestError, Platform};
use crate::domain::model::{Classified, FaultClass, ImageRef};
use crate::system::http::is_loopback;

/// Timeout of a registry.
const LIMIT: Duration = Duration::from_secs(10);

/// A tag could not be resolved.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ResolveError {
    /// The registry is unreachable.
    #[error("{registry} cannot be reached to resolve {image}: {what}")]
    #[diagnostic(
        code(lian::registries::unreachable),
        help("check the network, or substitute a local copy: `--base-image {image}=oci-layout:DIR`")
    )]
    Unreachable {
        /// The host.
        registry: String,
        /// The image.
        image: String,
        /// Why.
        what: String,
    },
    /// The registry refused.
    #[error("{registry} refuses {image}: {what}")]
    #[diagnostic(
        code(lian::registries::refused),
        help("check its name and tag; a private image needs `docker login {registry}`")
    )]
    Refused {
        /// The host.
        registry: String,
        /// The image.
        image: String,
        /// Its message.
        what: String,
    },
}

impl Classified for ResolveError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Unreachable { .. } => FaultClass::Unavailable,
            Self::Refused { .. } => FaultClass::Denied,
        }
    }
}

/// Resolves tags. Images of one registry share a login and connections.
#[derive(Default)]
pub struct Resolver {
    clients: Mutex<BTreeMap<String, Arc<Client>>>,
}

impl Resolver {
    /// The digest of an external image: the one in its name, or the current one of its tag. Uses the logins in
    /// `~/.docker/config.json` and the system's certificates (respects `SSL_CERT_FILE`).
    ///
    /// # Errors
    /// [`ResolveError`], within ten seconds.
    pub async fn resolve(&self, image: &ImageRef) -> Result<Digest, ResolveError> {
        if let Some(digest) = &image.digest {
            return digest.parse().map_err(|error: DigestError| refused(image, error.to_string()));
        }
        let client = self.client(&image.registry).map_err(|error| failed(image, error))?;
        let tag = image.tag.as_deref().unwrap_or("latest");
        match tokio::time::timeout(LIMIT, client.digest(&image.repository, tag)).await {
            Err(_) => Err(unreachable(image, format!("no answer within {} s", LIMIT.as_secs()))),
            Ok(Err(error)) => Err(failed(image, error)),
            Ok(Ok(None)) => Err(refused(image, format!("it has no {}:{tag} (404)", image.repository))),
            Ok(Ok(Some(digest))) => Ok(digest),
        }
    }

    /// The `ONBUILD` lines of an image at a digest, for a platform. None where its config cannot be read: the policy of
    /// the build catches what they bring.
    pub async fn on_build(&self, image: &ImageRef, digest: &Digest, platform: &Platform) -> Vec<String> {
        let read = async {
            let client = self.client(&image.registry).ok()?;
            let top = client.manifest(&image.repository, digest.as_str()).await.ok()??;
            let (_, config) = client.image(&image.repository, top, Some(platform)).await.ok()??;
            Some(config.processes().on_build)
        };
        tokio::time::timeout(LIMIT, read).await.ok().flatten().unwrap_or_default()
    }

    fn client(&self, registry: &str) -> Result<Arc<Client>, ApiError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(registry) {
            return Ok(Arc::clone(client));
        }
        let (host, plain_http) = (registry.to_owned(), is_local(registry));
        let client = Arc::new(Client::new(&Endpoint { host, plain_http, access: Access::Pull, retries: 0 })?);
        clients.insert(registry.to_owned(), Arc::clone(&client));
        Ok(client)
    }
}

/// Registries on this machine use plain HTTP, as in Docker.
fn is_local(registry: &str) -> bool {
    Url::parse(&format!("http://{registry}")).is_ok_and(|url| is_loopback(&url))
}

fn failed(image: &ImageRef, error: ApiError) -> ResolveError {
    match error.cause {
        Cause::Unreachable(what) => unreachable(image, what),
        Cause::Silent(_) | Cause::SilentTokens(_) => {
            unreachable(image, "it takes the connection, and nothing comes".to_owned())
        }
        Cause::Unauthorized { had_login: true, .. } => refused(image, "it does not accept the login (401)".to_owned()),
        Cause::Unauthorized { had_login: false, .. } => refused(image, "it requires a login (401)".to_owned()),
        Cause::Refused { status, message, .. } => {
            let answer = format!("it answers {}{message}", status.as_u16());
            if status.is_server_error() { unreachable(image, answer) } else { refused(image, answer) }
        }
        Cause::DigestMismatch(_) => refused(image, "it sent content that does not match its digest".to_owned()),
        Cause::Unusable { what, .. } => refused(image, format!("it {what}")),
        Cause::File(error) => refused(image, error.to_string()),
    }
}

fn unreachable(image: &ImageRef, what: String) -> ResolveError {
    ResolveError::Unreachable { registry: image.registry.clone(), image: image.normalised(), what }
}

fn refused(image: &ImageRef, what: String) -> ResolveError {
    ResolveError::Refused { registry: image.registry.clone(), image: image.normalised(), what }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn run(image: &str) -> Result<Digest, ResolveError> {
        let image: ImageRef = image.parse().expect("a reference");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Resolver::default().resolve(&image))
    }

    /// A registry that sends the same response to every request.
    fn registry(answer: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        port
    }

    #[test]
    fn asks_the_registry_for_the_tags_digest() {
        let digest = Digest::of("image");
        let port = registry(format!(
            "HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(run(&format!("127.0.0.1:{port}/a/b:c")).expect("a digest"), digest);
    }

    #[test]
    fn a_digest_needs_no_registry() {
        let digest = Digest::of("image");
        assert_eq!(run(&format!("nowhere.invalid/x@{digest}")).expect("a digest"), digest);
    }

    #[test]
    fn says_who_cannot_be_reached_and_who_refuses() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let error = run(&format!("127.0.0.1:{free}/x:1")).expect_err("nobody listens");
        assert!(matches!(error, ResolveError::Unreachable { .. }), "{error}");
        let port = registry("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned());
        let error = run(&format!("127.0.0.1:{port}/x:1")).expect_err("not there");
        assert!(matches!(error, ResolveError::Refused { .. }), "{error}");
    }
}

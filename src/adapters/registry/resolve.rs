//! Which digest an external image's tag means at this moment. Not responsible for: pulling it.

use std::time::Duration;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;

use super::credentials;
use crate::domain::base::Digest;
use crate::domain::model::ImageRef;
use crate::system::error_chain::innermost;

/// A registry gets so long to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A tag could not be resolved.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ResolveError {
    /// The registry is not there.
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
    /// It refused.
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
        /// What it said.
        what: String,
    },
}

/// The digest of an external image: the one it names, or the one its tag has in the registry now. Uses the logins in
/// `~/.docker/config.json`, and the system's certificates (`SSL_CERT_FILE` is honoured).
///
/// # Errors
/// [`ResolveError`], after ten seconds at the latest.
pub async fn resolve(image: &ImageRef) -> Result<Digest, ResolveError> {
    let refused =
        |what: String| ResolveError::Refused { registry: image.registry.clone(), image: image.normalised(), what };
    let unreachable =
        |what: String| ResolveError::Unreachable { registry: image.registry.clone(), image: image.normalised(), what };
    if let Some(digest) = &image.digest {
        return digest.parse().map_err(|error: crate::domain::base::DigestError| refused(error.to_string()));
    }
    // Whoever was first has installed one; it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig {
        protocol: if is_local(&image.registry) { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(LIMIT),
        read_timeout: Some(LIMIT),
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(|error| unreachable(innermost(&error)))?;
    let tag = image.tag.clone().unwrap_or_else(|| "latest".to_owned());
    let reference = Reference::with_tag(image.registry.clone(), image.repository.clone(), tag);
    let registry = image.registry.clone();
    // It may run a credential helper.
    let login = tokio::task::spawn_blocking(move || credentials::of(&registry)).await;
    let login = login.unwrap_or(credentials::Login::Anonymous).into();
    let asked = tokio::time::timeout(LIMIT, client.fetch_manifest_digest(&reference, &login)).await;
    let digest = match asked {
        Err(_) => return Err(unreachable(format!("no answer within {} s", LIMIT.as_secs()))),
        Ok(Err(error @ OciDistributionError::RequestError(_))) => return Err(unreachable(innermost(&error))),
        Ok(Err(error)) => return Err(refused(innermost(&error))),
        Ok(Ok(digest)) => digest,
    };
    digest.parse().map_err(|error: crate::domain::base::DigestError| refused(error.to_string()))
}

/// Registries on this machine speak plain HTTP, as Docker takes it too.
pub(super) fn is_local(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn run(image: &str) -> Result<Digest, ResolveError> {
        let image: ImageRef = image.parse().expect("a reference");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(resolve(&image))
    }

    /// A registry that gives every request the same answer.
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

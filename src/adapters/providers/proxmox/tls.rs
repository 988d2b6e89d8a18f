//! TLS trust of the API client: one certificate pinned by fingerprint, or one CA. Not responsible for: the system's
//! CAs and trust on first use (neither is ever used).

use std::sync::Arc;

use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::settings::ProxmoxSettings;
use crate::domain::base::Digest;
use crate::domain::model::Fault;
use crate::system::http::is_loopback;
use crate::system::read::{self, Cap};

/// Accepts only the certificate with this fingerprint, whatever its name and dates.
#[derive(Debug)]
struct Pinned {
    /// 64 lower-case hex digits.
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

/// The server presented a different certificate.
#[derive(Debug, thiserror::Error)]
#[error("its certificate has the fingerprint {0}, which is not the one pinned")]
struct WrongPin(String);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Digest::of(end_entity);
        if seen.hex() == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = OtherError(Arc::new(WrongPin(colons(seen.hex()))));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(wrong)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Formats a fingerprint like the web interface.
fn colons(hex: &str) -> String {
    let pairs: Vec<String> =
        hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
    pairs.join(":")
}

/// TLS config for the endpoint.
pub(super) fn trust(endpoint: &Url, settings: &ProxmoxSettings) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("invariant: ring knows the default protocol versions");
    let encrypted = endpoint.scheme() == "https";
    let roots = match (&settings.fingerprint, &settings.ca) {
        _ if !encrypted && !is_loopback(endpoint) => return Err(no_pin(endpoint)),
        // Plain HTTP needs no verification; an empty CA list makes all verification fail.
        _ if !encrypted => RootCertStore::empty(),
        (Some(fingerprint), _) => {
            let fingerprint = fingerprint.replace(':', "").to_lowercase();
            let pinned = Arc::new(Pinned { fingerprint, provider });
            return Ok(builder.dangerous().with_custom_certificate_verifier(pinned).with_no_client_auth());
        }
        (None, Some(ca)) => roots(ca)?,
        (None, None) => return Err(no_pin(endpoint)),
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(file: &std::path::Path) -> Result<RootCertStore, Fault> {
    let bad = |error: String| {
        let message = format!("cannot use the CA {}: {error}", file.display());
        Fault::configuration("lian::proxmox::ca", message).help(
            "let `providers.proxmox.ca` name a copy of the cluster's /etc/pve/pve-root-ca.pem, or pin a fingerprint",
        )
    };
    let mut roots = RootCertStore::empty();
    let text = read::of_user(file, Cap::Certificates).map_err(|error| bad(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() { Err(bad("it holds no certificate".to_owned())) } else { Ok(roots) }
}

fn no_pin(endpoint: &Url) -> Fault {
    let message = if endpoint.scheme() == "https" {
        "the certificate of the Proxmox VE API is not pinned"
    } else {
        "the Proxmox VE API on another machine would be used without TLS"
    };
    Fault::configuration("lian::proxmox::no_pin", message).help(
        "write an `https://` endpoint and set `providers.proxmox.fingerprint` to what `pvenode cert info` shows on the \
         node itself as the fingerprint of pveproxy-ssl.pem, or of pve-ssl.pem where there is no such file; or set \
         `providers.proxmox.ca` to a copy of /etc/pve/pve-root-ca.pem",
    )
}

/// The TLS error in an error's chain of sources, if any.
pub(super) fn within<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // `source()` of an I/O error skips the error that it wraps; use `get_ref`.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| within(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

//! TLS for the fake: certificates as a node has them, and connections that can be cut. Not responsible for: HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use lian_build::domain::base::Digest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl runs");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `ca.pem`, and a certificate for 127.0.0.1 that it signed, as a cluster does; gives the server's side and the
/// certificate's fingerprint.
pub fn certificate(folder: &Path) -> (Arc<ServerConfig>, String) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let ca = ["req", "-x509", "-subj", "/CN=Proxmox Virtual Environment", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(folder, &[&ca[..], &key].concat());
    let leaf = ["req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=pve", "-keyout", "key.pem"];
    let names = ["-out", "leaf.pem", "-addext", "subjectAltName=IP:127.0.0.1"];
    let end = ["-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(folder, &[&leaf[..], &names, &end, &key].concat());
    let leaf = CertificateDer::from_pem_file(folder.join("leaf.pem")).expect("a certificate");
    let hex = Digest::of(&leaf).hex().to_uppercase();
    let pairs: Vec<&str> = (0..32).map(|at| &hex[at * 2..at * 2 + 2]).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .expect("a pair");
    (Arc::new(config), pairs.join(":"))
}

/// Accepts TLS connections; those that do not get that far are dropped.
pub struct TlsListener {
    pub tcp: TcpListener,
    pub config: Arc<ServerConfig>,
}

impl Listener for TlsListener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await {
                return (Wire { stream, cut: Cut::default() }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Cuts a connection: nothing more is written to it.
#[derive(Clone, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    pub fn now(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        stream.io().cut.clone()
    }
}

/// A connection that can be cut.
pub struct Wire {
    stream: TlsStream<TcpStream>,
    cut: Cut,
}

impl Wire {
    fn whole(&self) -> io::Result<()> {
        if self.cut.0.load(Ordering::SeqCst) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

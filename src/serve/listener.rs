//! Where the service listens: a socket file of this user, or an address for those who have a token. Not responsible for:
//! connections once they are accepted (`connections`).

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::error::ServeError;
use super::seats::Account;
use super::tokens::Tokens;

/// The longest path that a socket can have, in bytes (Linux has 108 with the zero at the end, macOS 104).
const PATH_MOST: usize = 103;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On an address; only with tokens.
    Tcp(SocketAddr),
    /// On a socket file, which only this user can open.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("write unix:/path/to/socket".to_owned()),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text.parse().map(Self::Tcp).map_err(|_| "write ADDRESS:PORT or unix:/path/to/socket".to_owned()),
        }
    }
}

impl fmt::Display for Listen {
    /// As a client's `endpoint` says it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// A bound listener. A socket file is removed with it.
pub struct Listener(Bound);

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A socket file of ours.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An accepted connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Begins to listen. An address needs tokens, a loopback address too: other users of this machine reach it, and so do the
/// steps of builds.
pub async fn listen(place: &Listen, tokens: &Tokens) -> Result<Listener, ServeError> {
    let fault = |source| ServeError::Listen { place: place.to_string(), source };
    match place {
        Listen::Tcp(address) if tokens.is_empty() => Err(ServeError::Open { address: *address }),
        Listen::Tcp(address) => Ok(Listener(Bound::Tcp(TcpListener::bind(address).await.map_err(fault)?))),
        Listen::Unix(path) => {
            let path = std::path::absolute(path).map_err(fault)?;
            if path.as_os_str().len() > PATH_MOST {
                return Err(ServeError::SocketPath { path, most: PATH_MOST });
            }
            let listener = bind(&path).await.map_err(fault)?;
            Ok(Listener(Bound::Unix(listener, SocketFile(path))))
        }
    }
}

/// Binds a socket file that only this user can open, at every moment. What a dead service left there is replaced.
async fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let in_use = |what: &str| Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, what.to_owned()));
        if !found.file_type().is_socket() {
            return in_use("something else is there, which is no socket");
        }
        if UnixStream::connect(path).await.is_ok() {
            return in_use("somebody answers there");
        }
        std::fs::remove_file(path)?;
    }
    // The mask decides the mode; what other threads make meanwhile is for this user only, too.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

impl Listener {
    /// Where it listens: with the port that was chosen.
    pub fn place(&self) -> std::io::Result<Listen> {
        match &self.0 {
            Bound::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Bound::Unix(_, file) => Ok(Listen::Unix(file.0.clone())),
        }
    }

    /// The next connection, and whose it is at first.
    pub(super) async fn accept(&self) -> std::io::Result<(Stream, Account)> {
        match &self.0 {
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and whole: nothing is gained by waiting for more.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Account::of(peer.ip())))
            }
            Bound::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Account::Local))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_place_is_read_and_written() {
        let read = |text: &str| text.parse::<Listen>();
        assert_eq!(read("127.0.0.1:0").map(|place| place.to_string()), Ok("http://127.0.0.1:0".to_owned()));
        assert_eq!(read("unix:/a/b").map(|place| place.to_string()), Ok("unix:/a/b".to_owned()));
        assert!(["", "unix:", "nowhere", "/a/b"].into_iter().all(|text| read(text).is_err()));
    }

    #[tokio::test]
    async fn a_socket_file_is_for_this_user_and_replaces_only_a_dead_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pool.sock");
        let place = Listen::Unix(path.clone());
        let listener = listen(&place, &Tokens::default()).await.expect("it listens");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(listen(&place, &Tokens::default()).await.is_err(), "a living one was replaced");
        // As SIGKILL leaves it.
        let Bound::Unix(socket, file) = listener.0 else { panic!("no socket") };
        std::mem::forget(file);
        drop(socket);
        assert!(path.exists());
        drop(listen(&place, &Tokens::default()).await.expect("a dead one is replaced"));
        assert!(!path.exists(), "it stays");
        std::fs::write(&path, "precious").expect("writable");
        assert!(listen(&place, &Tokens::default()).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "precious");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "something is left");
        let long = Listen::Unix(folder.path().join("x".repeat(120)));
        assert!(matches!(listen(&long, &Tokens::default()).await, Err(ServeError::SocketPath { .. })));
    }
}

//! Asks whether an HTTP/2 server answers, such as a gRPC daemon behind a socket. Not responsible for: requests.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What a client says first (RFC 9113, section 3.4): the preface and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The length of a frame's header. Its fourth byte is the frame's type.
const HEADER: usize = 9;
/// The type of the frame that a server must send first.
const SETTINGS: u8 = 4;

/// Says hello on a fresh connection and waits for the server's settings. A socket file or an open connection proves
/// nothing: the kernel accepts connections for a process that hangs, and a forwarded socket for one that is gone.
///
/// # Errors
/// The connection ended, or something else than HTTP/2 answered. Bound the wait: a process that hangs never answers.
pub async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(HELLO).await?;
    stream.flush().await?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    if header[3] == SETTINGS {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "something else than a gRPC server answers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a greeting that is answered so.
    async fn greeted(answer: &[u8]) -> Result<(), io::ErrorKind> {
        let (client, mut server) = tokio::io::duplex(256);
        let serve = async move {
            let mut hello = vec![0; HELLO.len()];
            server.read_exact(&mut hello).await.expect("a greeting");
            server.write_all(answer).await.expect("sent");
        };
        let (greeted, ()) = tokio::join!(greet(client), serve);
        greeted.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn only_the_settings_of_a_server_are_an_answer() {
        assert_eq!(greeted(b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0").await, Ok(()));
        assert_eq!(greeted(b"").await, Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(greeted(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, Err(io::ErrorKind::InvalidData));
    }

    #[tokio::test(start_paused = true)]
    async fn who_listens_and_says_nothing_has_not_answered() {
        let (client, _server) = tokio::io::duplex(256);
        let minute = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, greet(client)).await.is_err());
    }
}

//! HTTP clients with our common settings. Not responsible for: how long a server may say nothing (see `peer`), retries
//! (see `retry`).

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};

use super::resolved;
use crate::domain::base::Timestamp;

/// Timeout for connecting to a server.
const CONNECT: Duration = Duration::from_secs(10);

/// A client builder for this server. Trusts the system's certificates (respects `SSL_CERT_FILE`), uses the
/// environment's proxy except for this machine itself, and follows no redirects, because a request's secrets are for
/// this server only.
pub fn client_for(server: &Url) -> ClientBuilder {
    install_tls();
    let builder = Client::builder()
        .connect_timeout(CONNECT)
        .redirect(Policy::none())
        // The one client that is redirected (see `registry`) tells nobody else where it comes from.
        .referer(false)
        .user_agent(concat!("lian-build/", env!("CARGO_PKG_VERSION")));
    if is_loopback(server) { builder.no_proxy() } else { builder }
}

/// The longest delay that a response may ask for: whoever asks for more is asked once more after it.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Maximum bytes of an API response.
pub const API_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Installs rustls' crypto provider for this process. Call it before any TLS connection.
pub fn install_tls() {
    // Fails if one is already installed; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whether an address is this machine's own: such traffic stays local and bypasses the proxy.
pub fn is_loopback(address: &Url) -> bool {
    let host = address.host_str().unwrap_or("").trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether a proxy, as variables name it (`http://host:3128`, `host:3128`), listens on this machine alone.
pub fn is_loopback_proxy(text: &str) -> bool {
    let text = text.trim();
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    whole.parse().is_ok_and(|address| is_loopback(&address))
}

/// What the address of a socket file of this machine begins with.
const SOCKET: &str = "unix:";

/// An address as it is: a socket file with all links resolved, since a link may lead elsewhere tomorrow.
pub fn actual_address(text: &str) -> String {
    let file = text.trim().strip_prefix(SOCKET);
    file.map_or_else(|| text.to_owned(), |file| format!("{SOCKET}{}", resolved(Path::new(file)).display()))
}

/// What to say of an answer without words that sends a request with a token elsewhere.
pub fn redirect_words(status: u16) -> Option<&'static str> {
    (300..400).contains(&status).then_some("it sends the request to another address, where the token does not go")
}

/// Whether two texts name the same address: scheme, host, port and path; a socket file through whatever links.
pub fn same_address(one: &str, other: &str) -> bool {
    let normal = |text: &str| match actual_address(text).trim().parse::<Url>() {
        Ok(address) => address.to_string().trim_end_matches('/').to_owned(),
        Err(_) => text.trim().trim_end_matches('/').to_owned(),
    };
    normal(one) == normal(other)
}

/// The delay that a response requests with `Retry-After`, if it is in seconds.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// The time at which a response was made, by its server's clock; `None` if it does not say.
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let at = jiff::fmt::rfc2822::parse(headers.get(DATE)?.to_str().ok()?.trim()).ok()?;
    u64::try_from(at.timestamp().as_millisecond()).ok().map(Timestamp)
}

/// A time as `Date` tells it, in whole seconds.
pub fn http_date(at: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A local server that sends the same response to every request; returns its address, and the requests it got.
    fn server(answer: &'static str) -> (Url, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let _ = sender.send(String::from_utf8_lossy(&request[..read]).into_owned());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (format!("http://127.0.0.1:{port}/").parse().expect("an address"), asked)
    }

    #[tokio::test]
    async fn a_client_says_who_it_is_and_is_sent_nowhere_else() {
        let (url, asked) =
            server("HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let client = client_for(&url).build().expect("a client");
        let answer = client.get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), reqwest::StatusCode::FOUND);
        let request = asked.recv().expect("a request").to_lowercase();
        assert!(request.contains(concat!("user-agent: lian-build/", env!("CARGO_PKG_VERSION"))), "{request}");
    }

    #[test]
    fn a_proxy_on_the_loopback_is_known_however_it_is_written() {
        for here in
            ["http://127.0.0.1:3128", "127.0.0.1:3128", "localhost:3128", "socks5h://[::1]:1080", " 127.1.2.3:1/"]
        {
            assert!(is_loopback_proxy(here), "{here}");
        }
        for elsewhere in ["", "proxy.example:3128", "http://192.0.2.1:3128", "http://localhost.example:1", "none"] {
            assert!(!is_loopback_proxy(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn this_machine_is_known_in_all_its_names() {
        let loopback = |text: &str| is_loopback(&text.parse().expect("an address"));
        assert!(["http://localhost:1", "https://127.0.0.9/x", "http://[::1]:5000"].into_iter().all(loopback));
        let others = [
            "http://local.example",
            "http://10.0.0.1",
            "http://[2001:db8::1]",
            "http://127.evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1@evil.example",
        ];
        assert!(!others.into_iter().any(loopback));
    }

    #[test]
    fn the_time_of_a_server_is_read() {
        let told = |text: &str| date(&HeaderMap::from_iter([(DATE, text.parse().expect("a header"))]));
        assert_eq!(told("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Timestamp(1_445_412_480_000)));
        assert_eq!(http_date(Timestamp(1_445_412_480_999)).as_deref(), Some("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!((told("yesterday"), date(&HeaderMap::new())), (None, None));
    }

    #[test]
    fn a_pause_is_read_in_seconds() {
        let asked = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]));
        assert_eq!(asked(" 12"), Some(Duration::from_secs(12)));
        assert_eq!(asked("18446744073709551615"), Some(LONGEST_PAUSE), "nobody waits for ever");
        assert_eq!((asked("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after(&HeaderMap::new())), (None, None));
    }
}

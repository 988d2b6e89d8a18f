//! Servers that say nothing in each way there is.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::system::http::client_for;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";

/// What a server does with a connection whose request it has read.
type Answers = fn(TcpStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that answers so, and its address.
async fn server(answers: Answers) -> (Peer, reqwest::Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url: reqwest::Url = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URL");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                answers(stream).await;
            });
        }
    });
    (Peer::new(client_for(&url).build().expect("a client")), url)
}

async fn nothing(stream: TcpStream) {
    let _held = stream;
    std::future::pending().await
}

async fn begun(mut stream: TcpStream) {
    stream.write_all(HEAD.as_bytes()).await.expect("sent");
    nothing(stream).await
}

async fn dripping(mut stream: TcpStream) {
    stream.write_all(HEAD.as_bytes()).await.expect("sent");
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn whole(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").await;
}

/// Seconds until a question is given up, and whether it is asked once more.
async fn given_up(peer: &Peer, url: &reqwest::Url) -> (u64, Retry) {
    let began = Instant::now();
    let asked = peer.request(Method::GET, url.clone());
    let lost = peer.ask(asked, Duration::MAX, 64).await.expect_err("no answer");
    assert!(lost.is_silence(), "{lost:?}");
    (began.elapsed().as_secs(), lost.retry())
}

/// Paused clocks advance when nothing is to be done, which they are told here by nothing being sent.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_asked_once_more_and_then_only_knocked_at() {
    let ways: [Answers; 3] = [|s| Box::pin(nothing(s)), |s| Box::pin(begun(s)), |s| Box::pin(dripping(s))];
    for way in ways {
        let (peer, url) = server(way).await;
        assert_eq!(given_up(&peer, &url).await, (13, Retry::Once));
        assert!(!peer.is_silent());
        assert_eq!(given_up(&peer, &url).await, (9, Retry::Never));
        assert!(peer.is_silent());
        assert_eq!(given_up(&peer.clone(), &url).await, (2, Retry::Never));
    }
}

#[tokio::test]
async fn one_answer_is_enough_to_be_waited_for_again() {
    let (peer, url) = server(|stream| Box::pin(whole(stream))).await;
    *peer.state() = Some(Silent { since: Instant::now(), answers: 0 });
    let asked = peer.request(Method::GET, url.clone());
    let answer = peer.ask(asked, Duration::MAX, 5).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, &b"hello"[..]));
    assert!(peer.state().is_none());
    // One that was given up is trusted again after three.
    peer.gave_up();
    for bound in [2, 5, 5, 13] {
        assert_eq!(peer.allowed(Instant::now()).as_secs(), bound);
        let asked = peer.request(Method::GET, url.clone());
        peer.ask(asked, Duration::MAX, 5).await.expect("an answer");
    }
    let asked = peer.request(Method::GET, url);
    assert!(matches!(peer.ask(asked, Duration::MAX, 4).await, Err(Lost::TooLong(4))));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_stops_or_drips_is_given_up() {
    for (way, bound, again) in [
        ((|s| Box::pin(begun(s))) as Answers, 13, Retry::Once),
        ((|s| Box::pin(dripping(s))) as Answers, 20, Retry::Never),
    ] {
        let (peer, url) = server(way).await;
        let began = Instant::now();
        let mut transfer = peer.open(peer.request(Method::GET, url)).await.expect("a head");
        let lost = peer.rest(&mut transfer, 1 << 20).await.expect_err("no end");
        assert_eq!((began.elapsed().as_secs(), lost.retry()), (bound, again));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_take_as_long_as_it_goes_on() {
    let (peer, url) = server(|stream| Box::pin(nothing(stream))).await;
    let lasts = async |taken: &AtomicU64, size, alive: bool| {
        let began = Instant::now();
        let put = peer.request(Method::PUT, url.clone());
        let gone = async {
            if alive {
                std::future::pending::<()>().await;
            }
        };
        let lost = peer.upload(put, (taken, size), gone).await.expect_err("no answer");
        peer.heard();
        assert!(lost.is_silence());
        began.elapsed().as_secs()
    };
    let none = AtomicU64::new(0);
    let took = lasts(&none, 1 << 30, true).await;
    assert!((12..=13).contains(&took), "nothing was taken: {took}");
    let all = AtomicU64::new(60 << 20);
    assert_eq!(lasts(&all, 60 << 20, true).await, 13 + 240, "it may store it");
    assert_eq!(lasts(&all, 60 << 20, false).await, 0, "it does not answer anything else either");
    let slow = AtomicU64::new(0);
    let goes_on = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.fetch_add(8 * 1024, Ordering::Relaxed);
        }
    };
    let (took, ()) = tokio::join!(lasts(&slow, 1 << 30, true), goes_on);
    assert!((70..=80).contains(&took), "{took}");
}

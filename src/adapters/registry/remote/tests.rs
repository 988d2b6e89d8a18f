//! Tests of the registry client against a small fake with refusals, temporary errors and tampered content.
//! `tests/it/registry.rs` tests a real registry.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::super::super::client::Blob;
use super::super::super::credentials::Login;
use super::*;
use crate::domain::base::LayerName;
use crate::domain::model::RegistrySettings;

#[path = "silence_tests.rs"]
mod silence;

/// A request as the fake receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

/// A response of the fake: status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

struct Fake {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Handles each request; gets the number of earlier identical requests.
    fn new(answer: impl Fn(&Seen, usize, u16) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let list = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let mut reader = BufReader::new(stream);
                let Some(request) = read(&mut reader) else { continue };
                let mut list = list.lock().expect("a lock");
                let before = list.iter().filter(|other| other.line == request.line).count();
                list.push(request.clone());
                drop(list);
                let (status, headers, body) = answer(&request, before, port);
                let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = reader.into_inner();
                let _ = stream.write_all(head.as_bytes());
                // A response to HEAD has a length but no body.
                if !request.line.starts_with("HEAD") {
                    let _ = stream.write_all(&body);
                }
            }
        });
        Self { port, seen }
    }

    fn registry(&self, login: Login) -> (tempfile::TempDir, Registry) {
        let settings = RegistrySettings { address: format!("127.0.0.1:{}/team", self.port), plain_http: true };
        let folder = tempfile::tempdir().expect("a folder");
        let address = Address::try_from(&settings).expect("an address");
        let mut registry = Registry::new(address, folder.path()).expect("a registry");
        registry.client.log_in(login);
        (folder, registry)
    }

    fn lines(&self) -> Vec<String> {
        self.seen.lock().expect("a lock").iter().map(|seen| seen.line.clone()).collect()
    }
}

fn read(reader: &mut BufReader<std::net::TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line: line.trim().trim_end_matches(" HTTP/1.1").to_owned(), authorization, body })
}

fn answer(status: u16) -> Answer {
    (status, Vec::new(), Vec::new())
}

fn me() -> Login {
    Login::Password { user: "me".into(), password: "hidden".into() }
}

/// 401 with a token server at the same port, until the request has a token.
fn guarded(seen: &Seen, port: u16, then: Answer) -> Answer {
    if seen.line.starts_with("GET /token") || seen.line.starts_with("POST /token") {
        return (200, Vec::new(), br#"{"token":"tkn","expires_in":300}"#.to_vec());
    }
    if seen.authorization.as_deref() == Some("Bearer tkn") {
        return then;
    }
    let challenge = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\"");
    (401, vec![("WWW-Authenticate", challenge)], Vec::new())
}

#[tokio::test]
async fn a_token_is_fetched_once_for_what_is_asked() {
    let fake = Fake::new(|seen, _, port| guarded(seen, port, answer(404)));
    let (_folder, registry) = fake.registry(me());
    for tag in ["a", "b"] {
        assert_eq!(registry.find("lamina/app", tag).await.expect("an answer"), None);
    }
    let expected = [
        "GET /v2/team/lamina/app/manifests/a",
        "GET /token?service=s&scope=repository%3Ateam%2Flamina%2Fapp%3Apull%2Cpush",
        "GET /v2/team/lamina/app/manifests/a",
        "GET /v2/team/lamina/app/manifests/b",
    ];
    assert_eq!(fake.lines(), expected);
    let seen = fake.seen.lock().expect("a lock");
    assert_eq!(seen[1].authorization.as_deref(), Some("Basic bWU6aGlkZGVu"), "the login goes to the token server");
    assert_eq!(seen[0].authorization, None);
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let fake = Fake::new(|seen, _, port| guarded(seen, port, answer(404)));
    let (_folder, registry) = fake.registry(Login::Identity("long lived".into()));
    assert_eq!(registry.find("lamina/app", "a").await.expect("an answer"), None);
    let seen = fake.seen.lock().expect("a lock");
    let form = String::from_utf8_lossy(&seen[1].body).into_owned();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=long+lived"), "{form}");
}

#[tokio::test]
async fn a_login_that_is_refused_names_the_way_out_and_no_secret() {
    let basic = || (401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new());
    let fake = Fake::new(move |_, _, _| basic());
    let (_folder, registry) = fake.registry(me());
    let error = registry.find("lamina/app", "latest").await.expect_err("refused");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("does not accept the login for team/lamina/app"), "{shown}");
    assert!(shown.contains(&format!("docker login 127.0.0.1:{}", fake.port)) && !shown.contains("hidden"), "{shown}");
    let (_folder, stranger) = fake.registry(Login::Anonymous);
    let error = stranger.find("lamina/app", "latest").await.expect_err("refused");
    assert!(error.to_string().contains("requires a login"), "{error}");
}

#[tokio::test]
async fn what_stumbles_is_asked_again_and_what_refuses_is_not() {
    let fake = Fake::new(|seen, before, _| match (seen.line.ends_with("/denied"), before) {
        (true, _) => answer(403),
        (false, 0) => answer(503),
        (false, 1) => (429, vec![("Retry-After", "0".to_owned())], Vec::new()),
        (false, _) => answer(404),
    });
    let (_folder, registry) = fake.registry(Login::Anonymous);
    assert_eq!(registry.find("lamina/app", "busy").await.expect("an answer"), None);
    assert!(registry.find("lamina/app", "denied").await.expect_err("refused").to_string().contains("denies access"));
    let asked = |tag: &str| fake.lines().iter().filter(|line| line.ends_with(tag)).count();
    assert_eq!((asked("/busy"), asked("/denied")), (3, 1));
}

#[tokio::test]
async fn a_login_is_sent_to_the_token_server_that_the_registry_names_and_to_no_other() {
    let thief = Fake::new(|_, _, _| (200, Vec::new(), br#"{"token":"tkn"}"#.to_vec()));
    let elsewhere = format!("http://127.0.0.1:{}/token", thief.port);
    let fake = Fake::new(move |seen, _, port| match seen.line.split(['?', ' ']).nth(1) {
        Some("/token") => (307, vec![("Location", elsewhere.clone())], Vec::new()),
        _ => guarded(seen, port, answer(404)),
    });
    for login in [Login::Identity("refresh".into()), me()] {
        let (_folder, registry) = fake.registry(login);
        let error = registry.find("lamina/app", "latest").await.expect_err("refused").to_string();
        assert!(error.contains("sends the login elsewhere"), "{error}");
    }
    assert!(fake.seen.lock().expect("a lock").iter().any(|seen| seen.line == "POST /token" && !seen.body.is_empty()));
    assert_eq!(thief.lines(), [""; 0], "the login was sent on");
}

#[tokio::test]
async fn content_that_is_not_its_digests_is_refused() {
    let promised = Digest::of("something else").to_string();
    let body = br#"{"schemaVersion":2,"config":null}"#.to_vec();
    let fake = Fake::new(move |_, _, _| (200, vec![("Docker-Content-Digest", promised.clone())], body.clone()));
    let (_folder, registry) = fake.registry(Login::Anonymous);
    let error = registry.find("lamina/app", "latest").await.expect_err("refused");
    assert!(error.to_string().contains("content that does not match its digest"), "{error}");
    assert!(registry.config("lamina/app", &Digest::of("x"), &"linux/amd64".into()).await.is_err());
}

#[tokio::test]
async fn an_upload_that_breaks_off_begins_anew_with_the_whole_file() {
    let fake = Fake::new(|seen, before, port| match seen.line.split(' ').next() {
        Some("HEAD") => answer(404),
        Some("POST") => {
            let location = format!("http://127.0.0.1:{port}/upload/{before}?state=x");
            (202, vec![("Location", location)], Vec::new())
        }
        _ if seen.line.contains("/upload/0") => answer(500),
        _ => answer(201),
    });
    let (folder, registry) = fake.registry(Login::Anonymous);
    let content = vec![7; 700_000];
    let (path, blob) = (folder.path().join("blob"), crate::system::oci::describe("x".into(), &content));
    std::fs::write(&path, &content).expect("a file");
    let beside = ["team/lamina/base".to_owned()];
    let brought = registry.client.ensure_blob("team/lamina/app", &beside, &blob, Blob::File(&path));
    brought.await.expect("brought");
    let seen = fake.seen.lock().expect("a lock");
    let last = seen.last().expect("requests");
    assert!(last.line.starts_with("PUT /upload/1?state=x&digest=sha256%3A"), "{}", last.line);
    assert!(last.body == content, "{} bytes came", last.body.len());
}

#[tokio::test]
async fn a_blob_that_a_parent_has_is_taken_from_there() {
    let fake = Fake::new(|seen, _, _| match seen.line.split(' ').next() {
        Some("HEAD") if seen.line.contains("lamina/base") => answer(200),
        Some("HEAD") => answer(404),
        _ => answer(201),
    });
    let (_folder, registry) = fake.registry(Login::Anonymous);
    let blob = crate::system::oci::describe("x".into(), b"layer");
    let beside = ["team/lamina/gone".to_owned(), "team/lamina/base".to_owned()];
    let source = Blob::Bytes(bytes::Bytes::from_static(b"layer"));
    registry.client.ensure_blob("team/lamina/app", &beside, &blob, source).await.expect("brought");
    let last = fake.lines().pop().expect("requests");
    assert!(last.starts_with("POST /v2/team/lamina/app/blobs/uploads/?mount=sha256%3A"), "{last}");
    assert!(last.ends_with("&from=team%2Flamina%2Fbase"), "{last}");
}

#[tokio::test]
async fn a_key_is_claimed_once_on_this_machine() {
    let fake = Fake::new(|_, _, _| answer(404));
    let (folder, registry) = fake.registry(Login::Anonymous);
    let key = LayerKey(Digest::of("key"));
    let held = registry.claim(&key).await.expect("an answer").expect("a claim");
    assert!(registry.claim(&key).await.expect("an answer").is_none());
    drop(held);
    assert!(registry.claim(&key).await.expect("an answer").is_some());
    assert!(Registry::tidy(folder.path()).expect("an answer"));
    assert!(fake.lines().is_empty());
}

/// The artifact of the image with this digest, and its record; without `annotated`, as an older version wrote it.
fn artifact(image: &Digest, record: &[u8], annotated: bool) -> Vec<u8> {
    let empty = serde_json::json!({"mediaType": "x", "digest": Digest::of("{}"), "size": 2});
    let subject = serde_json::json!({"mediaType": "x", "digest": image, "size": 1});
    let kind = "application/vnd.lian-build.key-parts.v1+json";
    let record = serde_json::json!({"mediaType": kind, "digest": Digest::of(record), "size": record.len()});
    let mut manifest = serde_json::json!({"schemaVersion": 2, "config": empty, "layers": [record], "subject": subject});
    if annotated {
        let parents = serde_json::json!({"base": Digest::of("base image")}).to_string();
        manifest["annotations"] = serde_json::json!({"dev.lian-build.built-on": parents});
    }
    manifest.to_string().into_bytes()
}

#[tokio::test]
async fn parents_take_one_request_and_one_more_where_an_older_version_wrote_the_record() {
    let (image, key) = (Digest::of("image"), LayerKey(Digest::of("key")));
    let parts = serde_json::json!({
        "schema": 1, "layer": "app", "dockerfile": image, "ignore": null, "target": null, "files": {}, "build_args": {},
        "platform": "linux/amd64", "frontend": null, "secret_ids": [], "ssh_ids": [], "labels": {}, "tools": [],
        "artifact_paths": [], "parents": {},
    });
    let parents = BTreeMap::from([(LayerName::from("base"), Digest::of("base image"))]);
    let record = serde_json::json!({"parts": parts, "built_on": parents}).to_string().into_bytes();
    for (annotated, requests) in [(true, 1), (false, 2)] {
        let (text, record) = (artifact(&image, &record, annotated), record.clone());
        let fake = Fake::new(move |seen, _, _| {
            let body = if seen.line.contains("/manifests/") { text.clone() } else { record.clone() };
            (200, Vec::new(), body)
        });
        let (_folder, registry) = fake.registry(Login::Anonymous);
        let told = registry.built_on("lamina/app", &key, &image).await.expect("an answer");
        assert_eq!((told.as_ref(), fake.lines().len()), (Some(&parents), requests), "{:?}", fake.lines());
        let other = registry.built_on("lamina/app", &key, &Digest::of("another image")).await.expect("an answer");
        assert_eq!(other, None, "the record belongs to another image");
    }
}

//! Hostile callers of `lian-build serve`: what they send is refused in a problem's form, and others are answered meanwhile.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::{KEY, Serving, Stream, ask, start_from};
use crate::support::project::Project;

const POOL: &str = "/api/v1/vm-pool";
const EVIL: &str = "a-token-of-a-stranger-0";
const GOOD: &str = "a-token-of-somebody-else-0";
/// Longer than anything that is not starved takes on a busy machine, shorter than what a starved one waits.
const QUICK: Duration = Duration::from_secs(6);
/// Most memory that the service may ever have had, kB.
const MEMORY_MOST: u64 = 200 * 1024;

/// A service with two callers, each with a workspace of its own.
fn service(project: &Project) -> Serving {
    let host = |number: usize| {
        format!(
            "{{ address = \"192.0.2.{number}\", host_key = \"ssh-ed25519 AAAA\", cpu = 2, memory_gb = 4, platform = \"linux/amd64\" }}"
        )
    };
    let hosts = (1..=8).map(host).collect::<Vec<_>>().join(", ");
    project.write("pool.ncl", &format!("{{ compute_provider = 'ssh, providers.ssh.hosts = [{hosts}] }}\n"));
    let entry = |name: &str, token: &str| json!({ "name": name, "sha256": lian_build::domain::base::Digest::of(token).hex(), "workspaces": [name] });
    project.write("tokens.json", &json!({ "tokens": [entry("evil", EVIL), entry("good", GOOD)] }).to_string());
    let mut command = project.command(&["serve", "--workflow", "pool.ncl", "--tokens", "tokens.json"]);
    command.args(["--listen", "127.0.0.1:0"]).env("LIAN_DATA_DIR", project.data());
    start_from(command)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn wish(workspace: &str) -> Value {
    json!({ "workspace": workspace, "cpu": 2, "memory_gb": 4, "platform": "linux/amd64", "ttl_s": 300, "ssh_public_key": KEY })
}

/// Health and the other workspace's requests are answered, quickly.
fn others_are_answered(serving: &Serving, key: &str) {
    let began = Instant::now();
    assert_eq!(ask(serving, "GET", "/healthz", "", "").0, 200);
    let headers = format!("{}Idempotency-Key: {key}\r\n", bearer(GOOD));
    let (status, lease) = ask(serving, "POST", POOL, &headers, &wish("good").to_string());
    assert_eq!(status, 201, "{lease}");
    assert_eq!(ask(serving, "GET", POOL, &bearer(GOOD), "").0, 200);
    assert_eq!(ask(serving, "DELETE", &format!("{POOL}?idempotency_key={key}"), &bearer(GOOD), "").0, 204);
    assert!(began.elapsed() < QUICK, "others waited for {:?}", began.elapsed());
}

fn memory_is_bounded(serving: &Serving) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.id())).expect("it lives");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let most: u64 = most.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(most < MEMORY_MOST, "{most} kB");
}

/// A connection from this address of the loopback.
fn from(address: &str, serving: &Serving) -> std::net::TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let to: SocketAddr = serving.address.parse().expect("an address");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("{address}:0").parse().expect("an address")).expect("bound");
        socket.connect(to).await.expect("it accepts")
    });
    let stream = stream.into_std().expect("a stream");
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a bound");
    stream
}

/// All answers on a connection until it ends: each with its status and body.
fn answers(stream: &mut dyn Stream) -> Vec<(u16, String, Value)> {
    let mut bytes = Vec::new();
    // A peer that was refused may find the connection reset after the answer.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let mut rest = text.as_str();
    let mut found = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        let (body, next) = after.split_at(length);
        found.push((status, head, serde_json::from_str(body).unwrap_or_default()));
        rest = next;
    }
    found
}

#[test]
fn requests_without_their_bodies_hold_up_nobody() {
    let project = Project::new();
    let serving = service(&project);
    let mut held = Vec::new();
    for number in 0..256 {
        let mut stream = serving.connect();
        let head =
            format!("POST {POOL} HTTP/1.1\r\nHost: pool\r\nContent-Type: application/json\r\nContent-Length: 500\r\n");
        write!(stream, "{head}{}Idempotency-Key: k{number}\r\n\r\n", bearer(EVIL)).expect("it reads");
        held.push(stream);
    }
    others_are_answered(&serving, "a");
    // Not even the caller's own next request waits.
    let (status, lease) =
        ask(&serving, "POST", POOL, &format!("{}Idempotency-Key: own\r\n", bearer(EVIL)), &wish("evil").to_string());
    assert_eq!(status, 201, "{lease}");
    // The oldest gave way, and were told so; the others are told when their time is over.
    for stream in &mut held {
        let told = answers(stream.as_mut());
        assert_eq!((told.len(), told[0].0, &told[0].2["error"]["code"]), (1, 408, &json!("slow")), "{told:?}");
    }
    others_are_answered(&serving, "b");
    memory_is_bounded(&serving);
}

#[test]
fn connections_that_say_nothing_shut_nobody_out() {
    let project = Project::new();
    let serving = service(&project);
    let mut early: Vec<_> = (0..10).map(|_| from("127.0.0.2", &serving)).collect();
    // More than the service takes in all.
    lian_build::system::allow_open_files(4096);
    let held: Vec<_> = (0..1100).map(|_| serving.connect()).collect();
    others_are_answered(&serving, "a");
    // Those of another address, though older, are still there.
    for stream in &mut early {
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n").expect("it reads");
        assert_eq!(
            answers(stream).first().map(|(status, ..)| *status),
            Some(200),
            "another address's connection was closed"
        );
    }
    drop(held);
    memory_is_bounded(&serving);
}

/// Sends one byte after another, a second apart, until the service ends the connection; the answer, and how long it took.
fn trickled(mut stream: Box<dyn Stream>, first: &str, byte: &str) -> (Vec<(u16, String, Value)>, Duration) {
    let began = Instant::now();
    stream.write_all(first.as_bytes()).expect("it reads");
    // The pause is what is tried: a byte a second.
    while began.elapsed() < Duration::from_secs(40) && stream.write_all(byte.as_bytes()).is_ok() {
        std::thread::sleep(Duration::from_secs(1));
    }
    (answers(stream.as_mut()), began.elapsed())
}

#[test]
fn a_byte_a_second_is_told_to_come_faster() {
    let project = Project::new();
    let serving = service(&project);
    let body = format!(
        "POST {POOL} HTTP/1.1\r\nHost: pool\r\nContent-Type: application/json\r\nContent-Length: 500\r\n{}Idempotency-Key: k\r\n\r\n",
        bearer(EVIL)
    );
    let chunked = body.replace("Content-Length: 500", "Transfer-Encoding: chunked");
    let slow = [("GET /healthz HTTP/1.1\r\nX: ".to_owned(), "x"), (body, "x"), (chunked, "1\r\nx\r\n")];
    std::thread::scope(|scope| {
        let tries: Vec<_> = slow
            .iter()
            .map(|(first, byte)| {
                let stream = serving.connect();
                scope.spawn(move || trickled(stream, first, byte))
            })
            .collect();
        others_are_answered(&serving, "a");
        for slow in tries {
            let (told, took) = slow.join().expect("no panic");
            assert!(told.is_empty() || told[0].0 == 408, "{told:?}");
            assert!(took < Duration::from_secs(30), "{took:?}");
        }
    });
    // Whoever listens instead of sending on reads why.
    let mut stream = serving.connect();
    write!(stream, "GET /healthz HTT").expect("it reads");
    let told = answers(stream.as_mut());
    assert_eq!((told[0].0, &told[0].2["status"]), (408, &json!(408)), "{told:?}");
}

/// A request with these headers and this body.
fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n{}{headers}Content-Length: {length}\r\n\r\n",
        bearer(EVIL)
    );
    [head.as_bytes(), body].concat()
}

const JSON: &str = "Content-Type: application/json\r\nIdempotency-Key: k\r\n";

/// Bodies that are refused, with the status.
fn bodies() -> Vec<(u16, Vec<u8>)> {
    let with = |field: &str, value: Value| {
        let mut wish = wish("evil");
        wish[field] = value;
        (422, wish.to_string().into_bytes())
    };
    let mut bodies = vec![
        (400, b"".to_vec()),
        (400, b"[1]".to_vec()),
        (400, b"\xff\xfe".to_vec()),
        (400, "[".repeat(60_000).into_bytes()),
        (400, "{\"a\":".repeat(10_000).into_bytes()),
        (400, wish("evil").to_string().replacen('{', "{\"ttl_s\":60,", 1).into_bytes()),
        (413, vec![b' '; 70_000]),
        with("x", json!(1)),
        (403, wish("good").to_string().into_bytes()),
    ];
    for number in [json!(-1), json!(0), json!(1.5), json!(1e300), json!(u64::MAX), json!("2"), json!(null), json!([2])]
    {
        bodies.extend(["cpu", "memory_gb", "ttl_s"].map(|field| with(field, number.clone())));
    }
    for name in ["", "../evil", "e\u{0}l", "é", &"w".repeat(64), "-x", "a b", "a\nb"] {
        bodies.push(with("workspace", json!(name)));
    }
    let key = |key: String| with("ssh_public_key", json!(key));
    bodies.extend([
        key(KEY[..KEY.len() - 4].to_owned()),
        key(KEY[..40].to_owned()),
        key(KEY.replace("ssh-ed25519", "ssh-rsa")),
        key(format!("command=\"sh\" {KEY}")),
        key(format!("{KEY}\n{KEY}")),
        key("ssh-dss AAAAB3NzaC1kc3MAAAAA".to_owned()),
        key(KEY.replace("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com")),
        // 512 bits.
        key("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQC7JHoJfg6yNzLMOWet8Z49a4KD0dCspMAYvo2YAMB7/wdEycocujbhJ2n/seONi+5XqTqqFkM5VBl8rmkkFPZk".to_owned()),
        // A length of its own that is longer than the key.
        key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA/zp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb".to_owned()),
    ]);
    bodies
}

/// Whole requests that are refused, with the statuses that may say so.
fn hostile() -> Vec<(&'static [u16], Vec<u8>)> {
    let query = (0..10_000).fold(String::from("?"), |mut query, number| {
        let _ = write!(query, "a{number}=1&");
        query
    });
    let headers = (0..500).fold(String::new(), |mut headers, number| {
        let _ = write!(headers, "X-{number}: 1\r\n");
        headers
    });
    let wish = wish("evil").to_string();
    let plain = JSON.replace("application/json", "text/plain");
    let raw = |text: &str| text.as_bytes().to_vec();
    let both = format!("{JSON}Transfer-Encoding: chunked\r\n");
    let twice = format!("{JSON}Content-Length: 1\r\n");
    vec![
        (&[431], request("GET", POOL, &format!("X: {}\r\n", "x".repeat(200_000)), b"")),
        (&[400, 431], request("GET", POOL, &headers, b"")),
        (&[400, 414, 431], request("DELETE", &format!("{POOL}{query}"), "", b"")),
        (&[400], request("DELETE", &format!("{POOL}{}", &query[..2_000]), "", b"")),
        (&[400], request("DELETE", &format!("{POOL}?idempotency_key=a&idempotency_key=b"), "", b"")),
        (&[400], request("DELETE", &format!("{POOL}?idempotency_key=%ff%00"), "", b"")),
        (&[400], request("DELETE", POOL, "", b"")),
        (&[414, 431, 404], request("GET", &format!("/{}", "x".repeat(70_000)), "", b"")),
        (&[404], request("GET", &format!("{POOL}/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), "", b"")),
        (&[404], request("GET", &format!("{POOL}/../../etc/passwd"), "", b"")),
        (&[404], request("DELETE", &format!("{POOL}/%ff%fe"), "", b"")),
        (&[404], request("DELETE", &format!("{POOL}/pool-' or 1=1 --").replace(' ', "%20"), "", b"")),
        (&[400, 404], request("GET", &format!("{POOL}/\u{e9}"), "", b"")),
        (&[404], request("POST", &format!("{POOL}/pool-0123456789abcdef01234567/renew"), JSON, b"{\"ttl_s\":60}")),
        (&[405], request("TRACE", POOL, "", b"")),
        (&[405], request("PATCH", POOL, JSON, wish.as_bytes())),
        (&[404, 405], request("CONNECT", "pool:80", "", b"")),
        (&[406], request("GET", POOL, "Accept: text/html\r\n", b"")),
        (&[415], request("POST", POOL, &plain, wish.as_bytes())),
        (&[415], request("POST", POOL, "Idempotency-Key: k\r\n", wish.as_bytes())),
        (&[400], request("POST", POOL, "Content-Type: application/json\r\n", wish.as_bytes())),
        (&[400], request("POST", POOL, &JSON.replace(": k", ": a b"), wish.as_bytes())),
        (&[400], request("POST", POOL, &JSON.replace(": k", ": \u{e9}"), wish.as_bytes())),
        (&[400], request("POST", POOL, &twice, wish.as_bytes())),
        // Two lengths: whichever is believed, the body is no whole JSON object.
        (&[400], request("POST", POOL, &both, b"zz\r\n")),
        (&[401], raw("GET /api/v1/vm-pool HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n")),
        (&[401], raw("GET / HTTP/1.1\r\nHost: pool\r\nConnection: close\r\nAuthorization: Basic eDp5\r\n\r\n")),
        // HTTP/0.9, HTTP/2, TLS, and what is nothing at all.
        (&[400], raw("GET /\r\n\r\n")),
        (&[400], raw("GET / HTTP/9.9\r\n\r\n")),
        (&[400], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        (&[400], raw("GET / HTTP/1.1\r\nX\u{0}Y: 1\r\n\r\n")),
        (&[400], raw("GET / HTTP/1.1\r\n no-name\r\n\r\n")),
    ]
}

/// A refusal is a problem, whoever made it.
fn is_problem((status, head, body): &(u16, String, Value), of: &[u8]) {
    let shown = String::from_utf8_lossy(&of[..of.len().min(200)]).into_owned();
    assert!(head.contains("content-type: application/problem+json"), "{shown}\n{head}\n{body}");
    assert_eq!(body["status"], *status, "{shown}\n{body}");
    for member in ["type", "title", "detail"] {
        assert!(body[member].is_string(), "{shown}\n{body}");
    }
    for member in ["code", "message", "help"] {
        assert!(body["error"][member].is_string(), "{shown}\n{body}");
    }
    assert!(!body.to_string().contains(EVIL), "a token is told back: {body}");
}

#[test]
fn what_is_no_sound_request_is_a_problem_and_changes_nothing() {
    let project = Project::new();
    let serving = service(&project);
    let mut all = hostile();
    let of_body = |(status, body): (u16, Vec<u8>)| -> (&'static [u16], Vec<u8>) {
        let status: &'static [u16] = match status {
            400 => &[400],
            403 => &[403],
            413 => &[413],
            _ => &[422],
        };
        (status, request("POST", POOL, JSON, &body))
    };
    all.extend(bodies().into_iter().map(of_body));
    for (expected, bytes) in &all {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let mut stream = serving.connect();
        // It may be refused before it is read to its end.
        let _ = stream.write_all(bytes);
        let told = answers(stream.as_mut());
        assert!(told.len() == 1 && expected.contains(&told[0].0), "{shown}\n{expected:?}: {told:?}");
        is_problem(&told[0], bytes);
    }
    others_are_answered(&serving, "a");
    let (_, leases) = ask(&serving, "GET", POOL, &bearer(EVIL), "");
    assert_eq!(leases["leases"], json!([]), "something was leased");
    memory_is_bounded(&serving);
    let log = serving.killed();
    assert!(!log.contains("panicked") && !log.contains(EVIL), "{log}");
}

#[test]
fn bodies_without_end_and_many_requests_at_once_end_in_order() {
    let project = Project::new();
    let serving = service(&project);
    let mut stream = serving.connect();
    let head =
        format!("POST {POOL} HTTP/1.1\r\nHost: pool\r\nTransfer-Encoding: chunked\r\n{}{JSON}\r\n", bearer(EVIL));
    stream.write_all(head.as_bytes()).expect("it reads");
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
    // Until it is refused.
    let sent = (0..100_000).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 100_000, "a body without end was read");
    let mut pipelined = serving.connect();
    let one = format!("GET {POOL} HTTP/1.1\r\nHost: pool\r\n{}\r\n", bearer(EVIL));
    let last = one.replace("Host: pool", "Host: pool\r\nConnection: close");
    pipelined.write_all((one.repeat(50) + &last).as_bytes()).expect("it reads");
    let statuses: Vec<u16> = answers(pipelined.as_mut()).into_iter().map(|(status, ..)| status).collect();
    assert_eq!(statuses, [200; 51]);
    others_are_answered(&serving, "a");
    memory_is_bounded(&serving);
}

#[test]
fn keys_that_nobody_used_fill_no_ledger() {
    let project = Project::new();
    let serving = service(&project);
    let key = |number: usize| {
        let more = if number == 399 { "Connection: close\r\n" } else { "" };
        format!("DELETE {POOL}?idempotency_key=k{number} HTTP/1.1\r\nHost: pool\r\n{more}{}\r\n", bearer(EVIL))
    };
    assert_eq!(ask(&serving, "DELETE", &format!("{POOL}?idempotency_key=mine"), &bearer(GOOD), "").0, 204);
    let mut stream = serving.connect();
    let mut statuses = Vec::new();
    stream.write_all((0..400).map(key).collect::<String>().as_bytes()).expect("it reads");
    statuses.extend(answers(stream.as_mut()).into_iter().map(|(status, ..)| status));
    assert_eq!(statuses, [204; 400]);
    let ledger = rusqlite::Connection::open(project.data().join("pool/pool.db")).expect("a ledger");
    let count = |owner: &str| {
        let sql = "select count(*) from leases where owner = ?1";
        ledger.query_row(sql, [owner], |row| row.get::<_, u32>(0)).expect("a number")
    };
    assert_eq!((count("evil"), count("good")), (256, 1));
    // The latest are still remembered, and those of others.
    let lease = |token: &str, workspace: &str, key: &str| {
        ask(
            &serving,
            "POST",
            POOL,
            &format!("{}Idempotency-Key: {key}\r\n", bearer(token)),
            &wish(workspace).to_string(),
        )
        .0
    };
    assert_eq!((lease(EVIL, "evil", "k399"), lease(GOOD, "good", "mine")), (410, 410));
}

//! `lian-build serve` itself: how it starts, is killed, starts again and ends.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::project::Project;

/// A public key.
pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb";

/// A project whose workflow names two hosts; nobody ever reaches them.
fn project() -> Project {
    let project = Project::new();
    let host = |address: &str| {
        format!(
            "{{ address = \"{address}\", host_key = \"ssh-ed25519 AAAA\", cpu = 2, memory_gb = 4, platform = \"linux/amd64\" }}"
        )
    };
    let hosts = format!("[{}, {}]", host("192.0.2.1"), host("192.0.2.2"));
    project.write("pool.ncl", &format!("{{ compute_provider = 'ssh, providers.ssh.hosts = {hosts} }}\n"));
    project
}

/// A service that is killed when the test is done with it.
pub struct Serving {
    child: Child,
    errors: BufReader<ChildStderr>,
    /// `127.0.0.1:PORT`, or `unix:/path`.
    pub address: String,
}

/// A connection to a service.
pub trait Stream: Read + Write + Send {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Serving {
    /// A new connection; it waits a minute for each answer.
    pub fn connect(&self) -> Box<dyn Stream> {
        let bound = Some(Duration::from_secs(60));
        if let Some(path) = self.address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path).expect("it accepts");
            stream.set_read_timeout(bound).expect("a bound");
            return Box::new(stream);
        }
        let stream = TcpStream::connect(&self.address).expect("it accepts");
        stream.set_read_timeout(bound).expect("a bound");
        Box::new(stream)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it; all that it has written since it listens.
    pub fn killed(mut self) -> String {
        self.child.kill().expect("killed");
        let mut log = String::new();
        self.errors.read_to_string(&mut log).expect("text");
        log
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(project: &Project, more: &[&str]) -> Command {
    let mut command = project.command(&["serve", "--workflow", "pool.ncl"]);
    command.args(more).env("LIAN_DATA_DIR", project.data()).stderr(Stdio::piped());
    command
}

fn start(project: &Project, more: &[&str]) -> Serving {
    start_from(command(project, more))
}

/// Starts a service by this command and waits until it listens.
pub fn start_from(mut command: Command) -> Serving {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut serving = Serving { child, errors, address: String::new() };
    let mut read = String::new();
    while serving.address.is_empty() {
        let mut line = String::new();
        assert!(serving.errors.read_line(&mut line).expect("readable") > 0, "it ended before it listened:\n{read}");
        let place = line.strip_prefix("listening on ").unwrap_or_default().trim();
        place.strip_prefix("http://").unwrap_or(place).clone_into(&mut serving.address);
        read.push_str(&line);
    }
    serving
}

/// Status and JSON of a request; the connection is closed after each.
pub fn ask(serving: &Serving, method: &str, path: &str, more: &str, body: &str) -> (u16, Value) {
    let mut stream = serving.connect();
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n{kind}");
    write!(stream, "{head}{more}Content-Length: {length}\r\n\r\n{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn lease(serving: &Serving, key: &str) -> (u16, Value) {
    let body = json!({
        "workspace": "w", "cpu": 2, "memory_gb": 4, "platform": "linux/amd64", "ttl_s": 600, "ssh_public_key": KEY
    });
    ask(serving, "POST", "/api/v1/vm-pool", &format!("Idempotency-Key: {key}\r\n"), &body.to_string())
}

fn signal(serving: &Serving, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(serving.child.id().to_string()).status();
    assert!(status.expect("kill").success());
}

fn ended(mut serving: Serving) -> (i32, String) {
    let started = Instant::now();
    let status = loop {
        match serving.child.try_wait().expect("a child") {
            Some(status) => break status,
            None => assert!(started.elapsed() < Duration::from_secs(60), "it did not end"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut rest = String::new();
    serving.errors.read_to_string(&mut rest).expect("readable");
    (status.code().unwrap_or(-1), rest)
}

#[test]
fn a_killed_service_knows_its_leases_and_an_end_keeps_them() {
    let project = project();
    let serving = start(&project, &[]);
    assert_eq!(ask(&serving, "GET", "/healthz", "", "").0, 200);
    let (status, first) = lease(&serving, "k");
    assert_eq!((status, &first["address"]), (201, &json!("192.0.2.1")), "{first}");
    let second = command(&project, &[]).output().expect("it starts");
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(4), "{told}");
    assert!(told.contains("lian::serve::held") && told.contains("--data"), "{told}");
    signal(&serving, "KILL");
    assert_eq!(ended(serving).0, -1);

    let serving = start(&project, &[]);
    assert_eq!(lease(&serving, "k"), (200, first.clone()));
    assert_eq!(lease(&serving, "l").1["address"], "192.0.2.2", "a leased host was leased twice");
    signal(&serving, "TERM");
    let (code, told) = ended(serving);
    assert_eq!(code, 0, "{told}");

    let serving = start(&project, &[]);
    let (_, listed) = ask(&serving, "GET", "/api/v1/vm-pool", "", "");
    assert_eq!(listed["leases"].as_array().map(Vec::len), Some(2), "{listed}");
    let path = format!("/api/v1/vm-pool/{}", first["lease_id"].as_str().expect("an id"));
    assert_eq!(ask(&serving, "DELETE", &path, "", "").0, 204);
    assert_eq!(lease(&serving, "m").1["address"], "192.0.2.1");
}

#[test]
fn a_clock_that_is_set_while_it_serves_moves_no_lease() {
    for step in ["+9h", "-9h"] {
        let project = project();
        let clock = project.path().join("clock");
        std::fs::write(&clock, "+0h").expect("writable");
        let mut service = command(&project, &[]);
        service.envs(crate::support::clock::set_by(&clock));
        let serving = start_from(service);
        let (status, leased) = lease(&serving, "k");
        assert_eq!(status, 201, "{leased}");
        let path = format!("/api/v1/vm-pool/{}/renew", leased["lease_id"].as_str().expect("an id"));
        std::fs::write(&clock, step).expect("writable");
        let (status, renewed) = ask(&serving, "POST", &path, "", &json!({ "ttl_s": 900 }).to_string());
        assert_eq!(status, 200, "{renewed}");
        let ends = |lease: &Value| -> jiff::Timestamp {
            lease["expires_at"].as_str().and_then(|time| time.parse().ok()).expect("a time")
        };
        let later = ends(&renewed).as_second() - ends(&leased).as_second();
        assert!((300..900).contains(&later), "by {step}: {later} s later than 300 s");
        // Nor does a restart find it ended, though the clock was set before.
        signal(&serving, "KILL");
        ended(serving);
        let mut service = command(&project, &[]);
        service.envs(crate::support::clock::set_by(&clock));
        let serving = start_from(service);
        let (status, known) = lease(&serving, "k");
        assert_eq!((status, ends(&known)), (200, ends(&renewed)), "by {step}: {known}");
    }
}

#[test]
fn a_door_without_tokens_stays_shut_and_one_with_tokens_asks_for_them() {
    let project = project();
    // Steps of builds and other users reach this machine's loopback, too.
    for address in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
        let ran = command(&project, &["--listen", address]).output().expect("it starts");
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(64), "{told}");
        assert!(told.contains("lian::serve::open") && told.contains("--tokens") && told.contains("unix:"), "{told}");
    }
    let serving = start(&project, &[]);
    let path = serving.address.strip_prefix("unix:").expect("a socket file").to_owned();
    let mode = |path: &str| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.trim_end_matches("/pool.sock"))), (0o600, 0o700), "{path}");
    assert_eq!(lease(&serving, "k").0, 201);
    signal(&serving, "TERM");
    assert_eq!(ended(serving).0, 0);
    assert!(!std::path::Path::new(&path).exists(), "the socket file stays");

    let token = "a-token-of-the-tests-0";
    let mut hashing = project.command(&["serve", "hash-token", "--name", "ci", "--workspace", "w"]);
    let mut child = hashing.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    writeln!(child.stdin.take().expect("piped"), "{token}").expect("it reads");
    let entry = String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text");
    assert!(entry.contains("name = \"ci\"") && entry.contains("workspaces = [\"w\"]"), "{entry}");
    assert!(!entry.contains(token), "{entry}");
    project.write("tokens.toml", &entry);
    let serving = start(&project, &["--tokens", "tokens.toml", "--listen", "127.0.0.1:0"]);
    assert_eq!(lease(&serving, "l").0, 401);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let (status, offers) = ask(&serving, "GET", "/api/v1/offers", &bearer, "");
    assert_eq!((status, offers["offers"].as_array().map(Vec::len)), (200, Some(2)), "{offers}");
}

#[test]
fn what_cannot_be_served_is_refused_with_the_way_out() {
    let project = project();
    project.write("local.ncl", "{ compute_provider = 'local }\n");
    let ran = project.lian(&["serve", "--workflow", "local.ncl"]).exits(64);
    assert!(ran.stderr.contains("lian::serve::not_remote") && ran.stderr.contains("--workflow"), "{}", ran.both());
    project.write("tokens.toml", "[[tokens]]\nname = \"x\"\nsha256 = \"00\"\nworkspaces = [\"*\"]\n");
    let ran = project.lian(&["serve", "--workflow", "pool.ncl", "--tokens", "tokens.toml"]).exits(64);
    assert!(ran.stderr.contains("lian::serve::tokens") && ran.stderr.contains("hash-token"), "{}", ran.both());
    let ran = project.lian(&["serve", "hash-token"]).exits(64);
    assert!(ran.stderr.contains("lian::serve::weak_token"), "{}", ran.both());
    let ran = project.lian(&["serve", "--listen", "nowhere"]).exits(64);
    assert!(ran.stderr.contains("--listen"), "{}", ran.both());
    let help = project.lian(&["serve", "--help"]).exits(0).stdout;
    assert!(help.contains("Usage: lian-build") && help.contains("hash-token"), "{help}");
}

/// A service with a token for the workspace `w`, and the header that shows it.
fn with_token(project: &Project, more: &[&str]) -> (Command, String) {
    let token = "a-token-of-the-tests-0";
    let mut hashing = project.command(&["serve", "hash-token", "--name", "ci", "--workspace", "w"]);
    let mut child = hashing.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    writeln!(child.stdin.take().expect("piped"), "{token}").expect("it reads");
    let entry = String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text");
    project.write("tokens.toml", &entry);
    let more = [&["--tokens", "tokens.toml", "--listen", "127.0.0.1:0"], more].concat();
    (command(project, &more), format!("Authorization: Bearer {token}\r\n"))
}

/// A request for a machine of this workspace.
fn wish(workspace: &str) -> String {
    json!({ "workspace": workspace, "cpu": 2, "memory_gb": 4, "platform": "linux/amd64", "ttl_s": 300,
        "ssh_public_key": KEY })
    .to_string()
}

/// Leases, is refused three times, asks and gives back.
fn used(serving: &Serving, bearer: &str) {
    let key = |key: &str| format!("{bearer}Idempotency-Key: {key}\r\n");
    assert_eq!(ask(serving, "POST", "/api/v1/vm-pool", "Idempotency-Key: x\r\n", &wish("w")).0, 401);
    let (status, lease) = ask(serving, "POST", "/api/v1/vm-pool", &key("k"), &wish("w"));
    assert_eq!(status, 201, "{lease}");
    assert_eq!(ask(serving, "POST", "/api/v1/vm-pool", &key("other"), &wish("others")).0, 403);
    assert_eq!(ask(serving, "GET", "/api/v1/vm-pool", bearer, "").0, 200);
    assert_eq!(ask(serving, "DELETE", "/api/v1/vm-pool?idempotency_key=k", bearer, "").0, 204);
}

#[test]
fn an_operator_reads_who_asked_for_what_and_why_it_was_refused() {
    let project = project();
    let (command, bearer) = with_token(&project, &[]);
    let mut serving = start_from(command);
    used(&serving, &bearer);
    signal(&serving, "TERM");
    let mut log = String::new();
    serving.errors.read_to_string(&mut log).expect("text");
    let line = |sign: &str| log.lines().find(|line| line.contains(sign)).unwrap_or_else(|| panic!("no {sign}: {log}"));
    let leased = line("what=lease who=ci");
    assert!(
        leased.contains("workspace=w") && leased.contains("lease=pool-") && leased.contains("192.0.2.1"),
        "{leased}"
    );
    assert!(leased[..24].parse::<jiff::Timestamp>().is_ok(), "no time: {leased}");
    assert!(line("status=401").contains("refused") && line("status=401").contains("code=unauthorized"), "{log}");
    let refused = line("status=403");
    assert!(
        refused.contains("who=ci") && refused.contains("workspace=others") && refused.contains("why="),
        "{refused}"
    );
    assert!(line("what=release").contains("who=ci") && line("what=gone").contains("lease=pool-"), "{log}");
    assert!(!log.contains("a-token-of-the-tests"), "a token was written down: {log}");
    assert!(!log.contains("what=ask"), "a question changes nothing: {log}");
}

#[test]
fn an_operators_log_is_json_by_option() {
    let project = project();
    let (mut command, bearer) = with_token(&project, &["--format", "json"]);
    let mut serving = start_from({
        command.stdout(Stdio::piped());
        command
    });
    used(&serving, &bearer);
    let output = serving.child.stdout.take().expect("piped");
    signal(&serving, "TERM");
    let lines: Vec<Value> = BufReader::new(output)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("text")).expect("an object a line"))
        .collect();
    let found = |what: &str, status: u64| lines.iter().find(|line| line["what"] == what && line["status"] == status);
    let leased = found("lease", 201).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&leased["who"], &leased["workspace"], &leased["level"]), (&json!("ci"), &json!("w"), &json!("info")));
    let refused = found("lease", 403).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&refused["code"], &refused["workspace"]), (&json!("forbidden"), &json!("others")));
    assert!(refused["at"].is_string() && refused["why"].is_string(), "{refused}");
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let project = project();
    let (command, _) = with_token(&project, &[]);
    let serving = start_from(command);
    // Each refusal is a line of more than 300 bytes: together many times what a pipe holds.
    let path = format!("/api/v1/vm-pool/{}", "x".repeat(200));
    for _ in 0..1500 {
        assert_eq!(ask(&serving, "GET", &path, "", "").0, 401, "it waits for whoever reads its log");
    }
    signal(&serving, "TERM");
    assert_eq!(ended(serving).0, 0);
}

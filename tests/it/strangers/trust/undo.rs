//! What a user's own run rented can be given back, although nothing is granted by now; and nobody else gets a token by it.
//! Not responsible for: other ways of giving back.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rusqlite::Connection;

use super::*;

/// A pool that has runners, lets whoever asks for one wait for ever, and takes everything back.
struct Pool {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Pool {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut waiting = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let request = head(&mut stream);
                let answer = match &request {
                    request if request.starts_with("GET /api/v1/offers") => {
                        r#"{"offers":[{"runner_type":"r","cpu":64,"memory_gb":128,"platform":"PLATFORM"}]}"#
                            .replace("PLATFORM", lian_build::system::host_platform().as_str())
                    }
                    request if request.starts_with("POST") => String::new(),
                    _ => "{}".to_owned(),
                };
                all.lock().expect("unpoisoned").push(request);
                if answer.is_empty() {
                    waiting.push(stream);
                    continue;
                }
                let length = answer.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{answer}"
                );
            }
        });
        Self { address, heard }
    }

    /// How many requests began so, with the user's token.
    fn asked(&self, method: &str) -> usize {
        let heard = self.heard.lock().expect("unpoisoned");
        let is_it = |request: &&String| request.starts_with(method) && request.contains("pool-token-0123456789-abcdef");
        heard.iter().filter(is_it).count()
    }

    fn contacts(&self) -> usize {
        self.heard.lock().expect("unpoisoned").len()
    }
}

fn head(stream: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A run that trusts all, and dies while it waits for its runner.
fn died(project: &Project, pool: &Pool) {
    let before = pool.asked("POST");
    let mut command = in_clone(project, &["apply", "--trust", "all"]);
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    while pool.asked("POST") == before {
        assert!(child.try_wait().expect("a child").is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("it ended");
}

#[test]
fn what_a_users_own_run_rented_is_given_back_though_nothing_is_granted_and_nobody_elses_is() {
    let (pool, other) = (Pool::new(), Pool::new());
    let project = planted(&pool_at(&pool.address));
    died(&project, &pool);
    let ran = ran_in_clone(&project, &["leases", "gc"]);
    assert!(ran.code != 5 && pool.asked("DELETE") > 0, "{}", ran.both());
    // The project is still not granted the address.
    ran_in_clone(&project, &["apply"]).exits(64);
    died(&project, &pool);
    let taken_back = pool.asked("DELETE");
    let row = |sql: &str| {
        let ledger = Connection::open(project.state().join("lian.db")).expect("a ledger");
        ledger.execute(sql, []).expect("changed");
    };
    let stays = |why: &str, token: &str| {
        let contacts = pool.contacts();
        let ran = in_clone(&project, &["leases", "gc"]).env("LIAN_POOL_TOKEN", token).output().expect("it starts");
        let ran = Ran::from(ran).exits(5);
        assert!(ran.both().contains("which you have not granted"), "{why}: {}", ran.both());
        // A fetch of the workflow's own listing is refused, too.
        assert_eq!((pool.contacts(), other.contacts()), (contacts, 0), "{why}: {}", ran.both());
    };
    let token = "pool-token-0123456789-abcdef";
    let swap = |from: &str, to: &str| row(&format!("update leases set provider = replace(provider, '{from}', '{to}')"));
    swap(&pool.address, &other.address);
    stays("another address", token);
    swap(&other.address, &pool.address);
    swap("\"mark\"", "\"mork\"");
    stays("no mark", token);
    swap("\"mork\"", "\"mark\"");
    let lease = "update leases set id = id || '7'";
    row(lease);
    stays("another lease", token);
    row("update leases set id = substr(id, 1, length(id) - 1)");
    stays("another token", "another-token-0123456789-abcd");
    let key = project.data().join("key");
    let own = std::fs::read(&key).expect("a key");
    std::fs::write(&key, [7; 32]).expect("written");
    stays("another user", token);
    std::fs::write(&key, own).expect("written");
    let ran = ran_in_clone(&project, &["leases", "gc"]);
    assert!(ran.code != 5 && pool.asked("DELETE") > taken_back, "{}", ran.both());
}

/// A release deletes what the ledger names, so it goes by no name that somebody else wrote there.
#[test]
fn what_somebody_else_writes_into_the_ledger_of_a_lease_is_not_deleted() {
    let pool = Pool::new();
    let project = planted(&pool_at(&pool.address));
    died(&project, &pool);
    let ledger = Connection::open(project.state().join("lian.db")).expect("a ledger");
    let planted = "insert into resources (lease, kind, id) select id, 'lease', 'a-lease-of-another-run' from leases";
    assert_eq!(ledger.execute(planted, []).expect("written"), 1);
    drop(ledger);
    let ran = ran_in_clone(&project, &["leases", "gc"]);
    let heard = pool.heard.lock().expect("unpoisoned").clone();
    assert!(heard.iter().any(|request| request.starts_with("DELETE")), "{}", ran.both());
    assert!(!heard.iter().any(|request| request.contains("a-lease-of-another-run")), "{heard:?}");
}

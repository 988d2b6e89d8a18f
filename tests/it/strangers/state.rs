//! State that a stranger plants in a repository, in every form: none of it is used, followed, removed or asked.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use rusqlite::Connection;

use super::{Canary, Listener, Peer, cloned};
use crate::support::project::{Project, Ran};

/// What is typed in a clone without having read it.
const COMMANDS: [&[&str]; 10] = [
    &["check"],
    &["plan"],
    &["apply"],
    &["runs"],
    &["logs"],
    &["leases"],
    &["leases", "gc"],
    &["gc"],
    &["doctor"],
    &["where"],
];

/// A history without runs, of lian-build's own making. No build is needed for it.
fn history(file: &Path) {
    let project = Project::new();
    let state = project.state();
    drop(lian_build::adapters::store::Store::open(&state).expect("a history"));
    std::fs::copy(state.join("lian.db"), file).expect("copied");
}

/// A history with rows that point to other places: folders outside, and a pool of the stranger's.
fn hostile_rows(file: &Path, canary: &Path, sink: &str) {
    history(file);
    let rows = Connection::open(file).expect("a database");
    let up = format!("../../../../../../../..{}", canary.display());
    rows.execute("insert into runs (id, started, state, command) values (?1, 1, 'running', 'x')", [&up])
        .expect("written");
    for number in 0..60 {
        let id = format!("{up}/{number}");
        rows.execute("insert into runs (id, started, state, command) values (?1, 1, 'success', 'x')", [&id])
            .expect("written");
    }
    let provider = pool_at(sink);
    rows.execute("insert into leases values (?2, 'r', ?1, null, 'held', 1, 1)", [&provider, &up]).expect("written");
}

/// The record of a pool at this address, as the ledger has it beside a lease.
fn pool_at(address: &str) -> String {
    let settings = serde_json::json!({ "endpoint": format!("http://{address}"), "workspace": "w" });
    serde_json::json!({ "compute_provider": "vm_pool", "providers": { "vm_pool": settings }, "account": null })
        .to_string()
}

/// A database with a header and a gigabyte of nothing.
fn sparse(file: &Path) {
    let rows = Connection::open(file).expect("a database");
    rows.execute_batch("pragma user_version = 4; create table runs (id text)").expect("written");
    drop(rows);
    std::fs::File::options().write(true).open(file).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
}

/// Runs everything in the clone: nothing outside changes, nobody is contacted, and what is ignored is said.
fn everything_in(project: &Project, canary: &Canary, sink: &Listener, said: &str) {
    for arguments in COMMANDS {
        let mut command = project.command(arguments);
        command.env("LIAN_POOL_TOKEN", "a-token-of-20-characters");
        let ran: Ran = command.output().expect("it starts").into();
        assert!(ran.stderr.contains(said), "{arguments:?} does not say `{said}`: {}", ran.both());
        assert_ne!(ran.code, 70, "{arguments:?}: {}", ran.both());
        canary.is_whole(&format!("{arguments:?}"));
    }
    assert_eq!(sink.contacts(), 0, "somebody was asked");
}

#[test]
fn nothing_that_a_clone_brings_as_state_is_used() {
    let (canary, sink) = (Canary::new(), Listener::new());
    let link = |to: &Path, at: &Path| symlink(to, at).expect("a link");
    type Plant<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let plants: [Plant<'_>; 7] = [
        (
            "the folder",
            Box::new(|legacy| {
                std::fs::remove_dir(legacy).expect("empty");
                link(canary.path(), legacy);
            }),
        ),
        (
            "each folder in it",
            Box::new(|legacy| {
                for name in ["images", "logs", "runs", "keys", "claims", "staging"] {
                    link(canary.path(), &legacy.join(name));
                }
            }),
        ),
        (
            "what lies deeper",
            Box::new(|legacy| {
                std::fs::create_dir_all(legacy.join("images/blobs")).expect("writable");
                std::fs::write(legacy.join("images/index.json"), "{\"schemaVersion\":2,\"manifests\":[]}")
                    .expect("writable");
                link(canary.path(), &legacy.join("images/staging"));
                link(canary.path(), &legacy.join("images/blobs/sha256"));
            }),
        ),
        (
            "files",
            Box::new(|legacy| {
                for name in ["lian.db", "lian.db-wal", "lian.db-shm", "dispatch.lock"] {
                    link(&canary.path().join("file"), &legacy.join(name));
                }
            }),
        ),
        ("rows", Box::new(|legacy| hostile_rows(&legacy.join("lian.db"), canary.path(), &sink.address()))),
        (
            "an image",
            Box::new(|legacy| {
                std::fs::create_dir_all(legacy.join("images/blobs/sha256")).expect("writable");
                std::fs::write(legacy.join("images/oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")
                    .expect("writable");
                std::fs::write(legacy.join("images/index.json"), "{\"schemaVersion\":2,\"manifests\":[]}")
                    .expect("writable");
            }),
        ),
        (
            "a record",
            Box::new(|legacy| {
                std::fs::write(legacy.join("project.json"), "{\"schema\":1,\"root\":\"/\"}").expect("writable");
                std::fs::write(legacy.join("grants.json"), "{}").expect("writable");
            }),
        ),
    ];
    for (what, plant) in plants {
        let origin = Project::with_base();
        let base = "  build_base = { image = \"base.example/busybox:1\" },";
        origin.layer("base", base, "FROM base.example/busybox:1\nRUN true\n");
        std::fs::create_dir(origin.path().join(".lian")).expect("writable");
        plant(&origin.path().join(".lian"));
        let clone = cloned(&origin);
        everything_in(&clone, &canary, &sink, ".lian is ignored: git tracks it, so a clone brings it");
        let built = clone.lian(&["runs", "--format", "json"]).exits(0).json();
        assert_eq!(built["runs"].as_array().map(Vec::len), Some(1), "{what}: {built}");
    }
}

#[test]
fn a_state_that_somebody_is_talked_into_naming_reaches_nothing_else() {
    let (canary, sink) = (Canary::new(), Listener::new());
    let project = Project::with_base();
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    project.layer("base", base, "FROM base.example/busybox:1\nRUN true\n");
    let state = project.path().join("state");
    // An archive brings what git does not track.
    let plant = |name: &str| {
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir(&state).expect("writable");
        let file = state.join("lian.db");
        match name {
            "rows" => hostile_rows(&file, canary.path(), &sink.address()),
            "sparse" => sparse(&file),
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo runs");
                assert!(made.success());
                std::fs::write(state.join("project.json"), record(&project)).expect("writable");
            }
            "trigger" => {
                history(&file);
                let rows = Connection::open(&file).expect("a database");
                let run = "create trigger t after insert on runs begin delete from leases; end";
                rows.execute_batch(run).expect("written");
            }
            "links" => {
                for folder in ["runs", "logs", "keys"] {
                    symlink(canary.path(), state.join(folder)).expect("a link");
                }
                std::fs::write(state.join("project.json"), record(&project)).expect("writable");
            }
            _ => {
                symlink(canary.path().join("file"), &file).expect("a link");
                std::fs::write(state.join("project.json"), record(&project)).expect("writable");
            }
        }
    };
    for (what, code) in [
        ("rows", "lian::store::corrupt"),
        ("sparse", "lian::store::io"),
        ("pipe", "lian::store::io"),
        ("trigger", "lian::store::foreign"),
        ("links", ""),
        ("link", "lian::store::io"),
    ] {
        for arguments in [&["apply"][..], &["runs"], &["logs"], &["leases"], &["leases", "gc"], &["gc"]] {
            plant(what);
            let mut command = project.command(arguments);
            command.env("LIAN_STATE", &state).env("LIAN_POOL_TOKEN", "a-token-of-20-characters");
            let ran: Ran = command.output().expect("it starts").into();
            assert!(ran.stderr.contains(code), "{what}, {arguments:?} lacks {code}: {}", ran.both());
            assert!(![0, 70].contains(&ran.code) || code.is_empty(), "{what}, {arguments:?}: {}", ran.both());
            canary.is_whole(&format!("{what}, {arguments:?}"));
        }
    }
    assert_eq!(sink.contacts(), 0, "somebody was asked");
}

fn record(project: &Project) -> String {
    let root = std::fs::canonicalize(project.path()).expect("a folder");
    serde_json::json!({ "schema": 1, "root": root }).to_string()
}

/// A ledger with one lease of a pool at this address, of which it knows this.
fn known_of_a_lease(file: &Path, pool: &str, (kind, id, name): (&str, &str, Option<&str>)) {
    history(file);
    let rows = Connection::open(file).expect("a database");
    rows.execute("insert into leases values ('7', 'r', ?1, null, 'held', 1, 1)", [pool_at(pool)]).expect("written");
    let resource = rusqlite::params![kind, id, name];
    rows.execute("insert into resources (lease, kind, id, name) values ('7', ?1, ?2, ?3)", resource).expect("written");
}

/// Even for a user who grants everything, ids of a ledger become no part of an address.
#[test]
fn what_a_ledger_knows_of_leases_becomes_no_part_of_addresses() {
    let (canary, sink) = (Canary::new(), Listener::new());
    let project = Project::with_base();
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    project.layer("base", base, "FROM base.example/busybox:1\nRUN true\n");
    let state = project.path().join("state");
    for known in [
        ("lease", "../../../other?x=", None),
        ("lease", "a/../../b", None),
        ("lease", "x#y", None),
        ("lease", "x\r\nHost: other", None),
        ("lease", "-rf", None),
        ("lease", "", None),
        ("../x", "1", None),
        ("server", "1", Some("../x")),
        ("server", "1", Some("--force")),
    ] {
        for arguments in [&["apply"][..], &["leases"], &["leases", "gc"]] {
            let _ = std::fs::remove_dir_all(&state);
            std::fs::create_dir(&state).expect("writable");
            known_of_a_lease(&state.join("lian.db"), &sink.address(), known);
            let mut command = project.command(arguments);
            command.env("LIAN_STATE", &state).env("LIAN_POOL_TOKEN", "a-token-of-20-characters");
            command.env("LIAN_POOL_ENDPOINT", format!("http://{}", sink.address()));
            let ran: Ran = command.output().expect("it starts").into();
            assert!(ran.stderr.contains("lian::store::corrupt"), "{known:?}, {arguments:?}: {}", ran.both());
            assert!(![0, 70].contains(&ran.code), "{known:?}, {arguments:?}: {}", ran.both());
            assert_eq!(sink.contacts(), 0, "{known:?}, {arguments:?}: somebody was asked");
        }
    }
    canary.is_whole("what is known of leases");
}

/// The folder of keys leads to the canary, which has a folder of the lease's name.
#[test]
fn keys_of_a_planted_lease_are_removed_nowhere_else() {
    let canary = Canary::new();
    // A pool that knows of no lease.
    let pool = Peer::new(|_, mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    });
    let project = Project::with_base();
    let state = project.path().join("state");
    std::fs::create_dir(&state).expect("writable");
    known_of_a_lease(&state.join("lian.db"), &pool.address, ("container", "1", None));
    symlink(canary.path(), state.join("keys")).expect("a link");
    let mut command = project.command(&["leases", "gc"]);
    command.env("LIAN_STATE", &state).env("LIAN_POOL_TOKEN", "a-token-of-20-characters");
    command.env("LIAN_POOL_ENDPOINT", format!("http://{}", pool.address));
    let ran: Ran = command.output().expect("it starts").into();
    assert!(!pool.heard().is_empty() && ![0, 70].contains(&ran.code), "{}", ran.both());
    assert!(ran.both().contains("symbolic link"), "{}", ran.both());
    canary.is_whole("giving a lease back");
}

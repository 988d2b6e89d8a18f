//! The service with fixed hosts, whose leases are locks that end with it. Not responsible for: the locks (see `ssh`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::stub_tests::*;
use super::{Bounds, Tokens};
use crate::adapters::providers::ssh::{Ssh, SshHost, SshSettings};
use crate::system::lock;

fn hosts(addresses: &[&str], locks: &Path) -> Arc<Ssh> {
    let host = |address: &&str| SshHost {
        address: (*address).into(),
        port: 22,
        user: "root".into(),
        host_key: "ssh-ed25519 AAAA".into(),
        identity: None,
        cpu: 4,
        memory_gb: 8,
        platform: "linux/amd64".into(),
    };
    Arc::new(Ssh::new(SshSettings { hosts: addresses.iter().map(host).collect() }, locks))
}

#[tokio::test]
async fn hosts_that_are_leased_are_held_again_after_a_start() {
    let (data, locks) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let hosts = || hosts(&["one", "two", "three"], locks.path());
    let mut service = Running::start(hosts(), data.path()).await;
    let mut leases = Vec::new();
    for key in ["a", "b", "c"] {
        leases.push(service.lease(key, &lease_request("w")).await.1);
    }
    let addresses: Vec<&Value> = leases.iter().map(|lease| &lease["address"]).collect();
    assert_eq!(addresses, ["one", "two", "three"]);
    for lease in &leases[..2] {
        assert_eq!(
            service
                .json(
                    Method::DELETE,
                    &format!("/api/v1/vm-pool/{}", lease["lease_id"].as_str().expect("an id")),
                    "",
                    None
                )
                .await
                .0,
            204
        );
    }
    service.kill();
    let service = Running::start(hosts(), data.path()).await;
    for (key, expected) in [("d", "one"), ("e", "two")] {
        assert_eq!(
            service.lease(key, &lease_request("w")).await.1["address"],
            expected,
            "a leased host was leased twice"
        );
    }
}

#[tokio::test]
async fn a_host_that_could_not_be_held_again_is_nobody_elses() {
    for sweeps in [true, false] {
        let (data, locks) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let sweep = if sweeps { bounds().sweep } else { Duration::from_secs(3600) };
        let bounds = Bounds { sweep, ..bounds() };
        let start = || Running::with(hosts(&["one", "two"], locks.path()), data.path(), Tokens::default(), bounds);
        let mut service = start().await;
        assert_eq!(service.lease("a", &lease_request("w")).await.1["address"], "one");
        service.kill();
        // Somebody else has the lock for a while, as a service that is being killed.
        let theirs = lock::open(&locks.path().join("one-22")).expect("a lock");
        let mut free = eventually("the killed service lets go");
        while !free(lock::try_exclusive(&theirs).expect("a lock")) {
            tokio::task::yield_now().await;
        }
        let service = start().await;
        drop(theirs);
        let mut held = eventually("the lease holds its machine again, unasked");
        while sweeps
            && !held(!lock::try_exclusive(&lock::open(&locks.path().join("one-22")).expect("a lock")).expect("a lock"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(service.lease("b", &lease_request("w")).await.1["address"], "two", "a leased host was leased twice");
        let addresses: Vec<Value> = service.leases().await.iter().map(|lease| lease["address"].clone()).collect();
        assert_eq!(addresses, ["one", "two"]);
    }
}

//! Nothing is left on Hetzner Cloud though labels are dropped, lists lag or fail, and servers are locked: what an answer
//! named is deleted by its id. Not responsible for: single faults (see `failures`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lian_build::adapters::providers::hcloud::Timeouts;
use lian_build::domain::base::LeaseId;
use lian_build::domain::model::FaultKind;
use lian_build::domain::ports::{ComputeProvider as _, Gone, LeaseRecord, Resource};

use super::{Cloud, pace, refused, request, settings};
use crate::support::hetzner::{FaultPlan, Kind, LabelTrouble, Troubles};

fn labels(labels: LabelTrouble) -> Troubles {
    Troubles { labels, ..Troubles::default() }
}

fn failing(list: &'static str, status: u16, code: &'static str) -> Troubles {
    Troubles { lists: BTreeMap::from([(list, (status, code))]), ..Troubles::default() }
}

/// The record of a lease as another process reads it.
fn read(record: &LeaseRecord) -> LeaseRecord {
    LeaseRecord::read(record.known())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_names_is_known_at_once_and_a_release_goes_by_it() {
    let cloud = Cloud::new();
    let (provider, record) = (cloud.provider(), LeaseRecord::default());
    provider.acquire(&request("r-1"), &record).await.expect("a lease");
    let server = cloud.fake.servers().remove(0);
    assert_eq!(record.of("server"), [Resource::new("server", server.id).named("lian-ann-r-1")]);
    assert_eq!((record.of("ssh_key").len(), record.of("primary_ip").len()), (1, 2), "{record:?}");
    // The labels are gone, by whoever's hand.
    let other = cloud.provider();
    cloud.fake.unlabel();
    assert_eq!(other.release(&LeaseId::from("r-1"), &read(&record)).await, Ok(Gone::Deleted));
    assert!(cloud.fake.everything_gone().is_empty(), "{:?}", cloud.fake.everything_gone());
    assert_eq!(other.release(&LeaseId::from("r-1"), &read(&record)).await, Ok(Gone::Absent));
    // Nobody waits for the answer any more: it is known all the same.
    let record = LeaseRecord::default();
    cloud.machines.hold(true);
    let (again, orders) = (record.clone(), cloud.machines.orders().len());
    let provider = Arc::new(provider);
    let asked = Arc::clone(&provider);
    let asking = tokio::spawn(async move { asked.acquire(&request("r-2"), &again).await });
    while cloud.machines.orders().len() == orders {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asking.abort();
    assert!(asking.await.is_err_and(|error| error.is_cancelled()));
    cloud.fake.troubled(labels(LabelTrouble::Forgotten));
    cloud.machines.hold(false);
    assert_eq!(provider.release(&LeaseId::from("r-2"), &record).await, Ok(Gone::Deleted));
    assert_eq!(record.of("server").len(), 1);
    cloud.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_without_our_labels_is_undone_at_once_and_told() {
    for lost in [None, Some("POST /ssh_keys"), Some("POST /servers")] {
        let cloud = Cloud::new();
        cloud.fake.troubled(labels(LabelTrouble::Dropped));
        if let Some(lost) = lost {
            cloud.fail(lost, Kind::LostAnswer);
        }
        let (provider, record) = (cloud.provider(), LeaseRecord::default());
        let fault = refused(provider.acquire(&request("r-1"), &record).await);
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault:?}");
        if lost.is_none() {
            assert_eq!(fault.code, "lian::hcloud::unmarked");
            assert!(fault.message.contains("deleted again") && fault.help.is_some(), "{fault:?}");
            cloud.is_empty();
        }
        provider.release(&LeaseId::from("r-1"), &record).await.expect("given back");
        cloud.is_empty();
    }
    // A server whose key kept its labels.
    let cloud = Cloud::new();
    let (provider, record) = (cloud.provider(), LeaseRecord::default());
    cloud.machines.hold(true);
    let provider = Arc::new(provider);
    let (asked, again) = (Arc::clone(&provider), record.clone());
    let asking = tokio::spawn(async move { asked.acquire(&request("r-1"), &again).await });
    while cloud.machines.orders().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cloud.fake.troubled(labels(LabelTrouble::Dropped));
    cloud.machines.hold(false);
    assert_eq!(refused(asking.await.expect("no panic")).code, "lian::hcloud::unmarked");
    cloud.is_empty();
    // A process that died before an answer came knows nothing: the name is the lease's own.
    cloud.fake.add_server("lian-ann-r-9", &[]);
    cloud.fake.add_server("lian-ann-r-90", &[]);
    assert_eq!(provider.release(&LeaseId::from("r-9"), &LeaseRecord::default()).await, Ok(Gone::Deleted));
    assert_eq!(cloud.fake.servers().len(), 1, "another one was deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_that_fails_keeps_a_server_alive_or_hides_the_others() {
    for (list, status, code) in [
        ("primary_ips", 404, "not_found"),
        ("primary_ips", 403, "forbidden"),
        ("ssh_keys", 403, "forbidden"),
        ("ssh_keys", 500, "server_error"),
        ("servers", 403, "forbidden"),
        ("servers", 404, "not_found"),
    ] {
        let cloud = Cloud::new();
        let (provider, record) = (cloud.provider(), LeaseRecord::default());
        provider.acquire(&request("r-1"), &record).await.expect("a lease");
        provider.acquire(&request("r-2"), &LeaseRecord::default()).await.expect("a lease");
        cloud.fake.add_primary_ip(&[("lian", "1"), ("lian-owner", "ann"), ("lian-lease", "q-1")]);
        cloud.fake.troubled(failing(list, status, code));
        let owned = provider.owned().await;
        let told = usize::from((list, status) != ("primary_ips", 404));
        assert_eq!(owned.unseen.len(), told, "{list} {status}: {:?}", owned.unseen);
        let seen: Vec<&str> = owned.leases.iter().map(|owned| owned.lease.as_str()).collect();
        let shown: &[&str] = if list == "primary_ips" { &["r-1", "r-2"] } else { &["q-1", "r-1", "r-2"] };
        assert_eq!(seen, shown, "{list} {status}");
        // By its ids; and what has none, as far as the lists go.
        assert_eq!(provider.release(&LeaseId::from("r-1"), &record).await, Ok(Gone::Deleted), "{list} {status}");
        let blind = provider.release(&LeaseId::from("r-2"), &LeaseRecord::default()).await;
        let servers = cloud.fake.servers();
        match list {
            "servers" => assert!(blind.is_err() && servers.len() == 1, "{list} {status}: {blind:?}"),
            _ => assert!(servers.is_empty(), "{list} {status}: {servers:?}"),
        }
        assert_eq!(blind.is_err(), told == 1, "{list} {status}: {blind:?}");
        cloud.fake.troubled(Troubles::default());
        provider.release(&LeaseId::from("r-2"), &LeaseRecord::default()).await.expect("given back");
        assert_eq!(cloud.fake.everything_gone().len(), 1, "the address of another lease stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_an_address_that_stays_does_not_keep_the_server() {
    for on in ["DELETE /ssh_keys/{id}", "DELETE /primary_ips/{id}", "GET /servers/{id}"] {
        let cloud = Cloud::new();
        cloud.fake.actions_take(0);
        let (provider, record) = (cloud.provider(), LeaseRecord::default());
        provider.acquire(&request("r-1"), &record).await.expect("a lease");
        for _ in 0..3 {
            cloud.fake.fail_next(FaultPlan::new(on, Kind::Status(403, "forbidden")));
        }
        let release = provider.release(&LeaseId::from("r-1"), &record).await;
        let requests = cloud.fake.requests();
        let first = requests.iter().find(|seen| seen.what.starts_with("DELETE")).expect("a deletion");
        assert_eq!(first.what, "DELETE /servers/{id}", "what costs most goes first");
        assert!(release.is_err() && cloud.fake.servers().is_empty(), "{on}: {release:?}");
        cloud.fake.forgive();
        provider.release(&LeaseId::from("r-1"), &record).await.expect("given back");
        cloud.is_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_absent_because_a_list_lags_behind() {
    let lag = Duration::from_millis(250);
    for lost in [None, Some(Kind::LostAnswer)] {
        let cloud = Cloud::new();
        cloud.fake.troubled(Troubles { lag, ..Troubles::default() });
        let pace = Timeouts { lag: 2 * lag, ..pace() };
        let (provider, record) = (cloud.of(settings(), "ann", pace), LeaseRecord::default());
        if let Some(lost) = lost.clone() {
            // The last try's answer is lost, and the list does not show it.
            cloud.fail("POST /servers", lost);
            cloud.fail("GET /servers", Kind::Status(403, "forbidden"));
            refused(provider.acquire(&request("r-1"), &record).await);
            assert_eq!(cloud.fake.servers().len(), 1);
            assert!(record.of("server").is_empty(), "{record:?}");
        } else {
            provider.acquire(&request("r-1"), &record).await.expect("a lease");
        }
        assert_eq!(provider.release(&LeaseId::from("r-1"), &record).await, Ok(Gone::Deleted), "{lost:?}");
        cloud.is_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_locked_is_told_and_goes_when_it_can() {
    let cloud = Cloud::new();
    cloud.fake.troubled(Troubles { locked: Duration::from_secs(3600), ..Troubles::default() });
    let hasty = Timeouts { boot: Duration::from_millis(300), settle: Duration::from_millis(300), ..pace() };
    let (provider, record) = (cloud.of(settings(), "ann", hasty), LeaseRecord::default());
    // Its action would run for an hour.
    assert_eq!(refused(provider.acquire(&request("r-1"), &record).await).code, "lian::hcloud::boot_timeout");
    let fault = provider.release(&LeaseId::from("r-1"), &record).await.expect_err("locked");
    assert_eq!((fault.code.as_str(), cloud.fake.servers().len()), ("lian::hcloud::slow", 1));
    assert!(cloud.fake.keys().is_empty(), "the key waits for the server");
    cloud.fake.troubled(labels(LabelTrouble::Kept));
    cloud.fake.unlabel();
    assert_eq!(cloud.provider().release(&LeaseId::from("r-1"), &read(&record)).await, Ok(Gone::Deleted));
    assert!(cloud.fake.everything_gone().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_given_to_somebody_stays_and_is_told() {
    let cloud = Cloud::new();
    let (provider, record) = (cloud.provider(), LeaseRecord::default());
    provider.acquire(&request("r-1"), &record).await.expect("a lease");
    cloud.fake.rename(cloud.fake.servers()[0].id, "database");
    let fault = provider.release(&LeaseId::from("r-1"), &read(&record)).await.expect_err("renamed");
    assert_eq!((fault.code.as_str(), cloud.fake.servers().len()), ("lian::hcloud::renamed", 1));
    assert!(fault.help.expect("help").contains("--forget r-1"));
}

//! Whose a machine is, by name, tags, description and owner. Not responsible for: touching one that is not wholly this lease's.

use lian_build::domain::base::LeaseId;
use lian_build::domain::ports::{ComputeProvider as _, LeaseRecord};
use lian_build::system::now;

use super::{FAR, LIFETIME, Stage, mark, request};
use crate::hcloud::clocks::lives_for;
use crate::support::proxmox::{POOL, Trick};

#[tokio::test(flavor = "multi_thread")]
async fn what_lacks_one_mark_of_ours_is_never_touched() {
    let stage = Stage::new().await;
    let name = ("name", "lian-me-r-1");
    let ours = mark("r-1", "me", FAR);
    stage.fake.put(6002, Some(POOL), &[name, ("tags", "lian;lian-me"), ("description", "mine\n")]);
    stage.fake.put(6003, Some(POOL), &[name, ("tags", "lian;lian-me"), ("description", &mark("r-2", "me", FAR))]);
    stage.fake.put(6006, None, &[name, ("tags", "lian;lian-me"), ("description", &ours)]);
    let before = stage.fake.machines();
    let provider = stage.provider();
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("nothing to give back");
    assert_eq!(stage.fake.machines(), before);
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease of its own");
    assert_eq!(stage.fake.machines().len(), before.len() + 1);
    assert_eq!(provider.owned().await.whole().expect("owned").len(), 1);
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    assert_eq!(stage.fake.machines(), before);
    let touched = stage.fake.requests().into_iter().filter(|seen| seen.method != "GET" && seen.path.contains("/600"));
    assert_eq!(touched.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_others_renamed_is_neither_touched_nor_called_given_back() {
    let stage = Stage::new().await;
    let (name, tags) = (("name", "lian-me-r-1"), ("tags", "lian;lian-me"));
    let ours = mark("r-1", "me", FAR);
    let description = ("description", ours.as_str());
    for config in [
        [name, ("tags", "web"), description],
        [("name", "x"), tags, description],
        [name, ("tags", "lian"), description],
    ] {
        stage.fake.put(6001, Some(POOL), &config);
        let before = stage.fake.machines();
        let fault =
            stage.provider().release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect_err("renamed");
        assert_eq!((fault.code.as_str(), stage.fake.machines()), ("lian::proxmox::renamed", before), "{config:?}");
        assert!(fault.message.contains("6001") && fault.help.is_some(), "{fault:?}");
    }
    stage.fake.unset(6001, "description");
    // One of ours whose name and tags are both others by now is known by its id.
    let provider = stage.provider();
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let id = *stage.fake.machines().keys().find(|id| **id != 6001).expect("one");
    stage.fake.set(id, "name", "database");
    stage.fake.set(id, "tags", "web");
    let fault = provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect_err("renamed");
    assert!(fault.code == "lian::proxmox::renamed" && fault.message.contains("database"), "{fault:?}");
    // Renamed while it is taken back: noticed all the same.
    stage.fake.set(id, "name", "lian-me-r-1");
    stage.fake.set(id, "tags", "lian;lian-me");
    stage.fake.rename_at("POST", "/stop", id, "database");
    let fault = provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect_err("renamed");
    assert_eq!((fault.code.as_str(), stage.fake.machines().len()), ("lian::proxmox::renamed", 2));
    stage.fake.set(id, "name", "lian-me-r-1");
    // A disk that does not exist is no machine that does not exist.
    stage.fake.trick("DELETE", "", 1, Trick::Fail("volume 'local-lvm:vm-5000-disk-0' does not exist"));
    let fault = provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect_err("not deleted");
    assert_eq!((fault.code.as_str(), stage.fake.machines().len()), ("lian::proxmox::task", 2));
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    assert_eq!(stage.fake.machines().into_keys().collect::<Vec<_>>(), [6001]);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_machines_are_shown_and_taken_back_once_they_have_expired() {
    let stage = Stage::new().await;
    let theirs = |lease: &str, expires| mark(lease, "Ana B", expires);
    let tags = ("tags", "lian;lian-ana-b");
    stage.fake.put(6001, Some(POOL), &[("name", "lian-ana-b-q-1"), tags, ("description", &theirs("q-1", FAR))]);
    stage.fake.put(6002, Some(POOL), &[("name", "lian-ana-b-q-2"), tags, ("description", &theirs("q-2", 1))]);
    let provider = stage.provider();
    let leases: Vec<_> = provider.owned().await.whole().expect("owned").into_iter().map(|owned| owned.lease).collect();
    assert_eq!(leases, [LeaseId::from("q-1"), LeaseId::from("q-2")]);
    let fault = provider.release(&LeaseId::from("q-1"), &LeaseRecord::default()).await.expect_err("in use elsewhere");
    assert_eq!(fault.code, "lian::proxmox::owner");
    assert!(fault.message.contains("Ana B"), "{}", fault.message);
    provider.release(&LeaseId::from("q-2"), &LeaseRecord::default()).await.expect("expired");
    assert_eq!(stage.fake.machines().into_keys().collect::<Vec<_>>(), [6001]);
}

#[tokio::test(flavor = "multi_thread")]
async fn expiries_stand_in_the_nodes_time_whatever_our_clock_shows() {
    for off in [0, 7 * 3600, -7 * 3600] {
        let stage = Stage::new().await;
        stage.fake.clock_ahead(off);
        let there = now().0.saturating_add_signed(off * 1000);
        let at = |hours: i64| there.saturating_add_signed(hours * 3_600_000);
        let tags = ("tags", "lian;lian-ana-b");
        for (id, lease, expires) in [(6001, "q-1", at(1)), (6002, "q-2", at(-1))] {
            let (name, theirs) = (format!("lian-ana-b-{lease}"), mark(lease, "Ana B", expires));
            stage.fake.put(id, Some(POOL), &[("name", &name), tags, ("description", &theirs)]);
        }
        let provider = stage.provider();
        let release = async |lease| provider.release(&LeaseId::from(lease), &LeaseRecord::default()).await;
        assert_eq!(release("q-1").await.expect_err("it lives").code, "lian::proxmox::owner", "off by {off}");
        release("q-2").await.expect("it has expired");
        assert_eq!(stage.fake.machines().into_keys().collect::<Vec<_>>(), [6001], "off by {off}");
        provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
        let owned = provider.owned().await.whole().expect("owned");
        lives_for(LIFETIME, owned.iter().find(|owned| owned.lease.as_str() == "r-1").expect("ours"));
        let mark = stage.fake.machines().into_values().find_map(|config| {
            let mark: serde_json::Value = serde_json::from_str(config.get("description")?).ok()?;
            (mark["lease"] == "r-1").then_some(mark)
        });
        let expires = mark.expect("marked")["expires"].as_u64().expect("milliseconds");
        assert!(expires.abs_diff(at(4)) < 30_000, "{expires} is not four hours after {there}");
    }
}

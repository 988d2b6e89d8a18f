//! Machines that are known by their ids: a release goes by them, whatever lists and marks say. Not responsible for:
//! machines that only marks tell of (see `marks`).

use lian_build::domain::base::LeaseId;
use lian_build::domain::ports::{ComputeProvider as _, Gone, LeaseRecord};

use super::{FAR, Stage, mark, request};
use crate::support::proxmox::{POOL, Trick};

/// A machine of lease `r-1`, its id, and its record as another process reads it.
async fn rented(stage: &Stage) -> (u32, LeaseRecord) {
    let record = LeaseRecord::default();
    stage.provider().acquire(&request("r-1"), &record).await.expect("a lease");
    let id = *stage.fake.machines().keys().next_back().expect("one");
    let machine = record.of("machine").remove(0);
    assert_eq!((machine.id, machine.name.as_deref()), (id.to_string(), Some("lian-me-r-1")));
    (id, LeaseRecord::read(record.known()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_its_marks_or_cannot_be_listed_goes_by_its_id() {
    let lease = LeaseId::from("r-1");
    for trouble in ["description", "tags", "list"] {
        let stage = Stage::new().await;
        let (id, record) = rented(&stage).await;
        match trouble {
            "list" => stage.fake.trick("GET", "/qemu", 99, Trick::Refuse(403, "Permission check failed")),
            dropped => stage.fake.unset(id, dropped),
        }
        assert_eq!(stage.provider().release(&lease, &record).await, Ok(Gone::Deleted), "{trouble}");
        stage.is_clean();
        // The id is another lease's by now, or a stranger's.
        let theirs = mark("q-7", "me", FAR);
        for config in [
            vec![("name", "lian-me-q-7"), ("tags", "lian;lian-me"), ("description", theirs.as_str())],
            vec![("name", "database")],
        ] {
            stage.fake.put(id, Some(POOL), &config);
            assert_eq!(stage.provider().release(&lease, &record).await, Ok(Gone::Absent), "{trouble}");
            assert!(stage.fake.machines().contains_key(&id), "another's machine was deleted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_the_token_does_not_see_any_more_is_not_gone() {
    let (stage, lease) = (Stage::new().await, LeaseId::from("r-1"));
    let (id, record) = rented(&stage).await;
    stage.fake.repool(id, None);
    let fault = stage.provider().release(&lease, &record).await.expect_err("there, and not seen");
    assert_eq!((fault.code.as_str(), stage.fake.machines().len()), ("lian::proxmox::invisible", 1));
    assert!(fault.message.contains(&id.to_string()) && fault.help.is_some(), "{fault:?}");
    stage.fake.repool(id, Some(POOL));
    assert_eq!(stage.provider().release(&lease, &record).await, Ok(Gone::Deleted));
    stage.is_clean();
    let (id, record) = rented(&stage).await;
    stage.fake.move_away(id);
    let fault = stage.provider().release(&lease, &record).await.expect_err("on another node");
    assert_eq!(fault.code, "lian::proxmox::invisible");
    stage.fake.delete_away(id);
    assert_eq!(stage.provider().release(&lease, &record).await, Ok(Gone::Absent));
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_without_our_marks_is_undone_at_once_and_told() {
    let stage = Stage::new().await;
    stage.fake.unmarked(true);
    let (provider, record) = (stage.provider(), LeaseRecord::default());
    let fault = provider.acquire(&request("r-1"), &record).await.expect_err("unmarked");
    assert_eq!(fault.code, "lian::proxmox::unmarked");
    assert!(stage.fake.machines().is_empty(), "{:?}", stage.fake.machines());
    provider.release(&LeaseId::from("r-1"), &record).await.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_looked_at_hides_no_other_and_keeps_none_alive() {
    let stage = Stage::new().await;
    let provider = stage.provider();
    stage.fake.put(5001, Some(POOL), &[("name", "lian-me-q-1"), ("tags", "lian;lian-me")]);
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    stage.fake.trick("GET", "/5001/config", 99, Trick::Refuse(500, "something is wrong with it"));
    let owned = provider.owned().await;
    assert_eq!((owned.leases.len(), owned.unseen.len()), (1, 1), "{owned:?}");
    let gone = provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await;
    assert_eq!(gone, Ok(Gone::Deleted));
    assert_eq!(stage.fake.machines().into_keys().collect::<Vec<_>>(), [5001]);
    // Where nothing of the lease is found, it might have been that one.
    let fault = provider.release(&LeaseId::from("r-2"), &LeaseRecord::default()).await.expect_err("unread");
    assert_eq!(fault.code, "lian::proxmox::refused");
}

//! Clones whose answers are lost, that nobody waits for, or that were never configured: none is left. Not responsible for:
//! machines that were configured (see `known` and `marks`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use lian_build::domain::base::LeaseId;
use lian_build::domain::model::FaultKind;
use lian_build::domain::ports::{ComputeProvider as _, LeaseRecord, Resource};

use super::{Stage, request};
use crate::support::proxmox::Trick;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_answer_is_lost_there_is_one_machine_and_then_none() {
    let stage = Stage::new().await;
    let provider = stage.provider();
    for (method, end) in
        [("POST", "/clone"), ("POST", "/config"), ("POST", "/start"), ("POST", "/stop"), ("DELETE", "")]
    {
        stage.fake.trick(method, end, 1, Trick::Lose);
    }
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(stage.fake.machines().len(), 1);
    assert!(stage.fake.count("POST", "/clone") > 1, "no answer was lost");
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_nobody_waited_for_is_found_and_purged() {
    let stage = Stage::new().await;
    stage.fake.slow(12);
    stage.fake.trick("POST", "/clone", 1, Trick::Lose);
    stage.fake.trick("POST", "/clone", 1, Trick::Refuse(403, "Permission check failed (/vms/9000, VM.Clone)"));
    let provider = stage.provider();
    let fault = provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("refused");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::proxmox::denied"));
    let machines = stage.fake.machines();
    let config = machines.values().next().expect("a clone is under way");
    assert!(config.contains_key("lock") && !config.contains_key("name"), "{config:?}");
    stage.fake.slow(1);
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
    // Whenever it ends: before, between or after the questions of whoever takes it back, by its marks or by its id.
    for (requests, is_known) in (0..8).flat_map(|requests| [(requests, false), (requests, true)]) {
        stage.fake.slow(40);
        stage.fake.trick("POST", "/clone", 1, Trick::Lose);
        stage.fake.trick("POST", "/clone", 1, Trick::Refuse(403, "Permission check failed (/vms/9000, VM.Clone)"));
        provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("refused");
        stage.fake.slow(1);
        stage.fake.due_in(requests);
        let record = LeaseRecord::default();
        if is_known {
            let id = *stage.fake.machines().keys().next().expect("a clone is under way");
            record.learn(Resource::new("machine", id).named("lian-me-r-1")).await;
        }
        let released = provider.release(&LeaseId::from("r-1"), &record).await;
        assert!(released.is_ok(), "after {requests} requests, known: {is_known}: {released:?}");
        stage.is_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_is_being_asked_for_is_heard_out_when_nobody_waits_any_more() {
    for late in [false, true] {
        let stage = Stage::new().await;
        stage.fake.hold("POST", "/clone", true);
        let boot = Duration::from_millis(if late { 300 } else { 60_000 });
        let provider = Arc::new(stage.with(stage.fake.settings(), "me", boot).expect("a provider"));
        let asking = tokio::spawn({
            let provider = Arc::clone(&provider);
            async move { provider.acquire(&request("r-1"), &LeaseRecord::default()).await }
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        while stage.fake.count("POST", "/clone") == 0 {
            assert!(Instant::now() < deadline, "nothing was asked for");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if late {
            let fault = asking.await.expect("it ran").expect_err("too late");
            assert_eq!(fault.code, "lian::proxmox::late");
        } else {
            asking.abort();
            assert!(asking.await.is_err_and(|error| error.is_cancelled()));
        }
        let lease = LeaseId::from("r-1");
        let record = LeaseRecord::default();
        let early = tokio::time::timeout(Duration::from_millis(300), provider.release(&lease, &record));
        early.await.expect_err("given back before it was there");
        stage.fake.hold("POST", "/clone", false);
        provider.release(&lease, &LeaseRecord::default()).await.expect("given back");
        assert_eq!(stage.fake.count("POST", "/clone"), 1);
        stage.is_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_cloned_and_never_configured_is_ours() {
    let stage = Stage::new().await;
    let provider = stage.provider();
    for adopted in [true, false] {
        stage.fake.trick(
            "POST",
            "/config",
            1,
            Trick::Refuse(403, "Permission check failed (/vms/5000, VM.Config.CPU)"),
        );
        assert_eq!(
            provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("refused").code,
            "lian::proxmox::denied"
        );
        let machines = stage.fake.machines();
        assert_eq!((machines.len(), machines.values().next().expect("one")["tags"].as_str()), (1, "house"));
        assert_eq!(provider.owned().await.whole().expect("owned").len(), 1);
        if adopted {
            provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
            assert_eq!(stage.fake.machines().into_keys().collect::<Vec<_>>(), machines.into_keys().collect::<Vec<_>>());
        }
        provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
        stage.is_clean();
    }
    assert_eq!(stage.fake.count("POST", "/clone"), 2);
}

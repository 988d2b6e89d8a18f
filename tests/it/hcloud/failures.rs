//! Hetzner Cloud when it fails: lost answers, empty shelves, limits, chaos. Not responsible for: a server that nobody gives back.

use std::sync::Arc;
use std::time::Duration;

use lian_build::adapters::providers::hcloud::{Access, Hcloud, Timeouts};
use lian_build::domain::base::LeaseId;
use lian_build::domain::model::FaultKind;
use lian_build::domain::ports::{ComputeProvider as _, LeaseRecord};

use super::{Cloud, pace, public_of, refused, request, settings, target};
use crate::support::hetzner::{Kind, READ_ONLY, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_one_server_which_is_adopted() {
    for (on, kind) in [
        ("POST /servers", Kind::LostAnswer),
        ("POST /servers", Kind::LostRequest),
        ("POST /servers", Kind::Hang),
        ("POST /servers", Kind::Status(500, "server_error")),
        ("POST /servers", Kind::Status(502, "bad_gateway")),
        ("POST /servers", Kind::Status(409, "conflict")),
        ("POST /ssh_keys", Kind::LostAnswer),
        ("POST /ssh_keys", Kind::Hang),
        ("GET /actions/{id}", Kind::LostAnswer),
    ] {
        let cloud = Cloud::new();
        cloud.fail(on, kind.clone());
        let provider = cloud.of(settings(), "ann", Timeouts { request: Duration::from_millis(300), ..pace() });
        let lease = provider
            .acquire(&request("r-1"), &LeaseRecord::default())
            .await
            .unwrap_or_else(|fault| panic!("{kind:?}: {fault:?}"));
        assert_eq!((cloud.fake.servers().len(), cloud.machines.orders().len()), (1, 1), "{kind:?}");
        let host = cloud.machines.orders()[0].host_key.clone().expect("a host key");
        assert_eq!(public_of(&host), target(&lease).host_key, "{kind:?}");
        provider.release(&lease.id, &LeaseRecord::default()).await.expect("given back");
        cloud.is_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_locks_do_not_keep_it_from_giving_back() {
    for (on, kind) in [
        ("DELETE /servers/{id}", Kind::LostAnswer),
        ("DELETE /servers/{id}", Kind::Status(423, "locked")),
        ("DELETE /servers/{id}", Kind::Status(503, "server_error")),
        ("DELETE /ssh_keys/{id}", Kind::LostAnswer),
        ("GET /servers", Kind::Status(500, "server_error")),
        ("GET /servers/{id}", Kind::LostRequest),
    ] {
        let cloud = Cloud::new();
        let provider = cloud.provider();
        provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
        cloud.fail(on, kind.clone());
        provider
            .release(&LeaseId::from("r-1"), &LeaseRecord::default())
            .await
            .unwrap_or_else(|fault| panic!("{kind:?}: {fault:?}"));
        cloud.is_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_wish_is_found_and_given_back() {
    let cloud = Cloud::new();
    cloud.fake.actions_take(1_000_000);
    let provider = cloud.provider();
    let wanted = request("r-1");
    let record = LeaseRecord::default();
    let made = async {
        let start = std::time::Instant::now();
        while cloud.fake.everything_gone().len() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "nothing was ever made");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = provider.acquire(&wanted, &record) => panic!("it never runs"),
        () = made => {}
    }
    cloud.fake.actions_take(1);
    assert_eq!(cloud.fake.everything_gone().len(), 2, "{:?}", cloud.fake.everything_gone());
    // Its first action is never over: it stays locked, and that is told.
    let hasty = cloud.of(settings(), "ann", Timeouts { settle: Duration::from_millis(300), ..pace() });
    let fault = hasty.release(&wanted.lease, &LeaseRecord::default()).await.expect_err("locked");
    assert_eq!(fault.code, "lian::hcloud::slow");

    // Its request is still under way when it is dropped: giving back waits for what it comes to.
    let cloud = Cloud::new();
    cloud.machines.hold(true);
    let provider = Arc::new(cloud.provider());
    let (asked, again) = (Arc::clone(&provider), wanted.clone());
    let asking = tokio::spawn(async move { asked.acquire(&again, &LeaseRecord::default()).await });
    let start = std::time::Instant::now();
    while cloud.machines.orders().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was ever ordered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asking.abort();
    assert!(asking.await.is_err_and(|error| error.is_cancelled()));
    let early = tokio::time::timeout(Duration::from_millis(300), provider.release(&wanted.lease, &record));
    early.await.expect_err("given back before it was there");
    cloud.machines.hold(false);
    provider.release(&wanted.lease, &LeaseRecord::default()).await.expect("given back");
    assert_eq!(cloud.machines.orders().len(), 1);
    cloud.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sold_out_is_sought_elsewhere_and_then_larger() {
    let cloud = Cloud::new();
    let provider = cloud.provider();
    cloud.sell_out("cax11", "fsn1");
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    cloud.sell_out("cax11", "nbg1");
    let lease = provider.acquire(&request("r-2"), &LeaseRecord::default()).await.expect("a larger one");
    assert_eq!(
        (lease.offer.runner_type.as_str(), lease.offer.price.expect("a price").hourly_micros),
        ("cax21", 11_200)
    );
    cloud.fail("POST /servers", Kind::Status(422, "placement_error"));
    provider.acquire(&request("r-3"), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(cloud.rented(), ["cax11@nbg1", "cax21@fsn1", "cax21@fsn1"]);
    cloud.sell_out("cax21", "fsn1");
    cloud.sell_out("cax21", "nbg1");
    let fault = refused(provider.acquire(&request("r-4"), &LeaseRecord::default()).await);
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::hcloud::sold_out"));
    assert!(fault.message.contains("cax11 in fsn1, cax11 in nbg1, cax21 in fsn1, cax21 in nbg1"), "{}", fault.message);
    // Who asks again for a lease that exists gets it, sold out or not.
    assert_eq!(
        provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("adopted").offer.runner_type,
        "cax11"
    );
    for lease in ["r-1", "r-2", "r-3", "r-4"] {
        provider.release(&LeaseId::from(lease), &LeaseRecord::default()).await.expect("given back");
    }
    cloud.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_to_and_refusals_are_final() {
    let cloud = Cloud::new();
    cloud.fail("POST /servers", Kind::Limited(2));
    let patient = cloud.of(settings(), "ann", Timeouts { longest: Duration::from_secs(8), ..pace() });
    patient.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let times = cloud.fake.times("POST /servers");
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] > Duration::from_millis(1200), "{:?}", times[1] - times[0]);
    // Too few requests are left of the hour's budget: one comes back each second.
    cloud.fake.budget(2);
    cloud.provider().owned().await.whole().expect("a list, in time");

    for (status, code, cause) in
        [(403, "resource_limit_exceeded", "limit"), (403, "forbidden", "forbidden"), (422, "invalid_input", "refused")]
    {
        let asked = cloud.fake.times("POST /servers").len();
        cloud.fake.budget(3600);
        cloud.fail("POST /servers", Kind::Status(status, code));
        let fault = refused(cloud.provider().acquire(&request("r-2"), &LeaseRecord::default()).await);
        assert_eq!((fault.kind, fault.code), (FaultKind::Unavailable, format!("lian::hcloud::{cause}")));
        assert!(fault.message.contains(code), "{}", fault.message);
        assert_eq!(cloud.fake.times("POST /servers").len(), asked + 1, "{code} was asked again");
    }
    for (token, cause) in [(READ_ONLY, "token_readonly"), ("nobody", "unauthorized")] {
        let access = Access::new(cloud.fake.endpoint(), token).expect("access");
        let provider = Hcloud::new(settings(), access, "ann", cloud.keys.path(), pace()).expect("a provider");
        let fault = refused(provider.acquire(&request("r-3"), &LeaseRecord::default()).await);
        assert_eq!((fault.kind, fault.code), (FaultKind::Unavailable, format!("lian::hcloud::{cause}")));
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let access = Access::new(format!("http://{free}/v1"), TOKEN).expect("access");
    let provider = Hcloud::new(settings(), access, "ann", cloud.keys.path(), pace()).expect("a provider");
    assert_eq!(
        refused(provider.acquire(&request("r-4"), &LeaseRecord::default()).await).code,
        "lian::hcloud::unreachable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_runs_is_given_up_in_time() {
    let cloud = Cloud::new();
    cloud.fake.actions_take(1_000_000);
    let provider = cloud.of(settings(), "ann", Timeouts { boot: Duration::from_millis(300), ..pace() });
    let fault = refused(provider.acquire(&request("r-1"), &LeaseRecord::default()).await);
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::hcloud::boot_timeout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_chaos_nothing_leaks() {
    let (mut rented, mut refused) = (0, 0);
    for seed in 1..=8 {
        let cloud = Cloud::new();
        let provider = cloud.provider();
        cloud.fake.chaos(seed, 200);
        for number in 0..4 {
            let lease = format!("r-{number}");
            match provider.acquire(&request(&lease), &LeaseRecord::default()).await {
                Ok(_) => rented += 1,
                Err(fault) => {
                    assert_eq!(fault.kind, FaultKind::Infrastructure, "seed {seed}: {fault:?}");
                    refused += 1;
                }
            }
            assert!(cloud.fake.servers().iter().filter(|server| server.name.ends_with(&lease)).count() <= 1);
        }
        for number in 0..4 {
            let lease = LeaseId::from(format!("r-{number}").as_str());
            let mut given_back = false;
            for _ in 0..5 {
                given_back |= provider.release(&lease, &LeaseRecord::default()).await.is_ok();
            }
            assert!(given_back, "seed {seed}: {lease} was never given back");
        }
        cloud.fake.chaos(seed, 0);
        assert!(provider.owned().await.whole().expect("a list").is_empty(), "seed {seed}");
        cloud.is_empty();
    }
    assert!(rented > refused, "{rented} rented, {refused} refused");
}

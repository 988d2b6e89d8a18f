//! Expiries stand in the API's time, whatever this machine's clock shows. Not responsible for: the servers' own clocks (see
//! `boot`).

use std::time::Duration;

use lian_build::domain::base::LeaseId;
use lian_build::domain::ports::{ComputeProvider as _, LeaseRecord, OwnedLease};
use lian_build::system::now;

use super::{Cloud, LIFETIME, request};
use crate::support::hetzner::Kind;

/// The API's clock is so many seconds ahead of ours, or behind: the same as ours being off the other way.
const OFF: [i64; 3] = [0, 7 * 3600, -7 * 3600];

/// Labels that are another each time.
pub fn differs(label: &str) -> bool {
    label.starts_with("lian-host-key") || label.starts_with("lian-expires")
}

/// A lease that was made just now, for so long, by our own clock.
#[track_caller]
pub fn lives_for(lifetime: Duration, owned: &OwnedLease) {
    let (now, created) = (now().0, owned.created.expect("told").0);
    assert!(created.abs_diff(now) < 30_000, "created at {created}, and it is {now}");
    let left = owned.expires.expect("told").0.abs_diff(now);
    assert!(left.abs_diff(u64::try_from(lifetime.as_millis()).expect("small")) < 30_000, "{left} ms left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_expires_by_the_clock_of_the_api() {
    for off in OFF {
        let cloud = Cloud::new();
        cloud.fake.clock_ahead(off);
        let provider = cloud.provider();
        provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
        let expires: i64 = cloud.fake.servers()[0].labels["lian-expires"].parse().expect("seconds");
        let left = expires - cloud.fake.seconds();
        assert!(left.abs_diff(4 * 3600) < 30, "{left} s left by the API's clock, which is off by {off}");
        lives_for(LIFETIME, &provider.owned().await.whole().expect("a list")[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_living_lease_of_another_stays_and_the_expired_one_goes_whatever_our_clock_shows() {
    for off in OFF {
        let cloud = Cloud::new();
        cloud.fake.clock_ahead(off);
        let at = |hours: i64| (cloud.fake.seconds() + hours * 3600).to_string();
        for (lease, expires) in [("b-1", at(1)), ("b-2", at(-1))] {
            let labels =
                [("lian", "1"), ("lian-owner", "ben"), ("lian-lease", lease), ("lian-expires", expires.as_str())];
            cloud.fake.add_server(&format!("lian-ben-{lease}"), &labels);
        }
        let provider = cloud.provider();
        let fault = provider.release(&LeaseId::from("b-1"), &LeaseRecord::default()).await.expect_err("it lives");
        assert_eq!(fault.code, "lian::hcloud::owner", "off by {off}");
        provider.release(&LeaseId::from("b-2"), &LeaseRecord::default()).await.expect("it has expired");
        let names: Vec<String> = cloud.fake.servers().into_iter().map(|server| server.name).collect();
        assert_eq!(names, ["lian-ben-b-1"], "off by {off}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_left_alone_until_its_budget_is_back_by_its_own_clock() {
    for off in OFF {
        let cloud = Cloud::new();
        cloud.fake.clock_ahead(off);
        cloud.fail("GET /server_types", Kind::Limited(2));
        let patient = super::Timeouts { longest: Duration::from_secs(30), ..super::pace() };
        cloud.of(super::settings(), "ann", patient).offers().await.expect("offers");
        let asked = cloud.fake.times("GET /server_types");
        let pause = asked[1].duration_since(asked[0]);
        assert!((500..10_000).contains(&pause.as_millis()), "{pause:?}, off by {off}");
    }
}

//! Hosts that fit, are taken, are ill, or come back.

use super::*;
use crate::domain::base::{LayerName, RunId};
use crate::domain::model::Size;

fn host(address: &str, memory_gb: u32) -> SshHost {
    let (address, user, host_key) = (address.to_owned(), "root".to_owned(), "ssh-ed25519 AAAA root@h".to_owned());
    let platform = "linux/amd64".into();
    SshHost { address, port: 22, user, host_key, identity: None, cpu: 2, memory_gb, platform }
}

fn request(lease: &str, memory_gb: u32) -> AcquireRequest {
    let size = Size { runner_type: "cax11".into(), cpu: 2, memory_gb, time_budget_min: 1, tier: "explicit".into() };
    let (run, layer, platform) = (RunId::from("r"), LayerName::from("l"), "linux/amd64".into());
    AcquireRequest {
        lease: LeaseId::from(lease),
        run,
        layer,
        size,
        platform,
        lifetime: Duration::from_secs(1),
        authorized_key: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_is_one_leases_alone_and_the_smallest_that_fits_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = SshSettings { hosts: vec![host("large", 16), host("small", 4)] };
    let (one, two) = (Ssh::new(settings.clone(), folder.path()), Ssh::new(settings, folder.path()));
    let taken = one.acquire(&request("a", 4), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(taken.offer.runner_type, "small");
    assert!(
        matches!(&taken.endpoint, Endpoint::Ssh(there) if there.host_key == "ssh-ed25519 AAAA"),
        "{:?}",
        taken.endpoint
    );
    assert_eq!(
        two.acquire(&request("b", 4), &LeaseRecord::default()).await.expect("a lease").offer.runner_type,
        "large"
    );
    let third = request("c", 4);
    let record = LeaseRecord::default();
    let waiting = tokio::time::timeout(Duration::from_secs(60), two.acquire(&third, &record));
    assert!(waiting.await.is_err(), "a host that is taken was leased");
    let holders = two.holders().await.whole().expect("listed");
    let held: Vec<(&str, Option<&str>)> =
        holders.iter().map(|holder| (holder.lease.as_str(), holder.run.as_ref().map(RunId::as_str))).collect();
    assert_eq!(held, [("a", Some("r")), ("b", Some("r"))]);
    assert!(holders[0].what.starts_with("host small:22, of ") && holders[0].what.ends_with(", taken for l"));
    one.release(&LeaseId::from("a"), &LeaseRecord::default()).await.expect("given back");
    one.release(&LeaseId::from("a"), &LeaseRecord::default()).await.expect("given back twice");
    assert_eq!(two.holders().await.whole().expect("listed").len(), 1, "one that is free is held by nobody");
    assert_eq!(
        two.acquire(&request("c", 4), &LeaseRecord::default()).await.expect("a lease").offer.runner_type,
        "small"
    );
}

/// Scripted answers by host name.
struct Told(Mutex<BTreeMap<String, Availability>>);

#[async_trait]
impl HostProbe for Told {
    async fn of(&self, target: &SshTarget, _: &crate::domain::base::Platform) -> Availability {
        self.0.lock().expect("whole").get(&target.address).cloned().unwrap_or(Availability::Yes)
    }

    async fn holder(&self, target: &SshTarget) -> Result<Option<Held>, Fault> {
        match self.of(target, &"linux/amd64".into()).await {
            Availability::Yes => Ok(None),
            Availability::No(held) => Ok(Some(held)),
            Availability::Unusable(fault) => Err(*fault),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_another_machine_has_is_not_leased_and_all_taken_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = SshSettings { hosts: vec![host("small", 4), host("large", 16)] };
    let told = Arc::new(Told(Mutex::new([("small".to_owned(), Availability::No(Held::default()))].into())));
    let say = |host: &str, vacant| told.0.lock().expect("whole").insert(host.to_owned(), vacant);
    let ssh = Ssh::new(settings, folder.path()).asking(Arc::clone(&told) as Arc<dyn HostProbe>);
    let first = ssh.acquire(&request("a", 4), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(first.offer.runner_type, "large");
    ssh.release(&LeaseId::from("a"), &LeaseRecord::default()).await.expect("given back");
    // An unusable host is not used while a leased one will become free.
    say("large", sick(FaultKind::Infrastructure));
    let second = request("b", 4);
    let record = LeaseRecord::default();
    let mut waiting = Box::pin(ssh.acquire(&second, &record));
    assert!(tokio::time::timeout(Duration::from_secs(600), &mut waiting).await.is_err(), "a taken host was leased");
    say("small", Availability::Yes);
    assert_eq!(waiting.await.expect("a lease").offer.runner_type, "small");
    ssh.release(&LeaseId::from("b"), &LeaseRecord::default()).await.expect("given back");
    // A service that leases to others does not probe.
    say("small", Availability::No(Held::default()));
    let other = AcquireRequest { authorized_key: Some("ssh-ed25519 AAAA".into()), ..request("d", 4) };
    assert_eq!(ssh.acquire(&other, &LeaseRecord::default()).await.expect("a lease").offer.runner_type, "small");
}

fn sick(kind: FaultKind) -> Availability {
    let fault = Fault::new(kind, "lian::remote::sick", "it is sick").help("cure it");
    Availability::Unusable(Box::new(fault))
}

/// A provider of a small and a large host, and what its probe is told.
fn asked(folder: &std::path::Path) -> (Ssh, Arc<Told>) {
    let told = Arc::new(Told(Mutex::default()));
    let settings = SshSettings { hosts: vec![host("small", 4), host("large", 16)] };
    let ssh = Ssh::new(settings, folder).asking(Arc::clone(&told) as Arc<dyn HostProbe>);
    (ssh.waiting(Duration::from_secs(180)), told)
}

#[tokio::test(start_paused = true)]
async fn a_sick_host_is_passed_over_and_taken_again_when_it_is_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ssh, told) = asked(folder.path());
    let say = |host: &str, vacant| told.0.lock().expect("whole").insert(host.to_owned(), vacant);
    for kind in [FaultKind::Infrastructure, FaultKind::Unavailable] {
        say("small", sick(kind));
        let began = Instant::now();
        assert_eq!(
            ssh.acquire(&request("a", 4), &LeaseRecord::default()).await.expect("a lease").offer.runner_type,
            "large"
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
        ssh.release(&LeaseId::from("a"), &LeaseRecord::default()).await.expect("given back");
    }
    say("small", Availability::Yes);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        ssh.acquire(&request("b", 4), &LeaseRecord::default()).await.expect("a lease").offer.runner_type,
        "small"
    );
}

#[tokio::test(start_paused = true)]
async fn hosts_that_never_worked_fail_in_seconds_and_one_that_did_may_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ssh, told) = asked(folder.path());
    let say = |host: &str, vacant| told.0.lock().expect("whole").insert(host.to_owned(), vacant);
    let fails = async |ssh: &Ssh| {
        let began = Instant::now();
        let fault = ssh.acquire(&request("a", 4), &LeaseRecord::default()).await.expect_err("it is sick");
        (began.elapsed().as_secs(), fault)
    };
    say("small", sick(FaultKind::Unavailable));
    say("large", sick(FaultKind::Unavailable));
    let (took, fault) = fails(&ssh).await;
    assert_eq!((took, fault.code.as_str()), (0, "lian::providers::no_usable_host"));
    assert!(fault.message.contains("small: it is sick") && fault.message.contains("large: it is sick"), "{fault:?}");
    say("large", sick(FaultKind::Infrastructure));
    let (took, fault) = fails(&ssh).await;
    assert!((5..30).contains(&took) && fault.class().is_refusal(), "{took} {fault:?}");
    say("large", Availability::Yes);
    ssh.acquire(&request("b", 4), &LeaseRecord::default()).await.expect("a lease");
    ssh.release(&LeaseId::from("b"), &LeaseRecord::default()).await.expect("given back");
    say("large", sick(FaultKind::Infrastructure));
    let (took, fault) = fails(&ssh).await;
    assert!((180..200).contains(&took) && !fault.class().is_refusal(), "{took} {fault:?}");
    // One host that fits alone is told in its own words.
    let fault = ssh.acquire(&request("c", 16), &LeaseRecord::default()).await.expect_err("it is sick");
    assert_eq!(fault.code, "lian::remote::sick");
}

#[tokio::test]
async fn what_no_host_has_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let ssh = Ssh::new(SshSettings { hosts: vec![host("small", 4)] }, folder.path());
    let fault = ssh.acquire(&request("a", 8), &LeaseRecord::default()).await.expect_err("too large");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::providers::no_host"));
    assert!(fault.help.expect("help").contains("small (2 CPUs, 4 GB, linux/amd64)"));
}

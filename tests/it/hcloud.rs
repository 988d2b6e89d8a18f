//! Hetzner Cloud against a fake project: nothing leaks, nothing is made twice, nobody else's server is touched. Not responsible for: a
//! fake that Hetzner's own client cannot work with.

mod boot;
pub mod clocks;
mod failures;
mod leftovers;
mod worlds;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lian_build::adapters::providers::hcloud::{Access, BuildkitRelease, Hcloud, HcloudSettings, Timeouts};
use lian_build::domain::base::{LayerName, LeaseId, RunId, Timestamp};
use lian_build::domain::model::{Fault, FaultKind, ProviderName, Size};
use lian_build::domain::ports::{AcquireRequest, ComputeProvider as _, Endpoint, Lease, LeaseRecord, SshTarget};

use crate::support::hetzner::{Fake, FaultPlan, Invented, Kind, TOKEN};

/// A fake project and a folder for keys.
struct Cloud {
    fake: Fake,
    machines: Arc<Invented>,
    keys: tempfile::TempDir,
}

fn pace() -> Timeouts {
    let ms = Duration::from_millis;
    Timeouts { boot: ms(20_000), settle: ms(20_000), lag: ms(300), request: ms(2_000), first: ms(5), longest: ms(40) }
}

fn settings() -> HcloudSettings {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    HcloudSettings {
        prepared: true,
        locations: texts(&["fsn1", "nbg1"]),
        server_types: texts(&["cax11", "cpx21", "cax21"]),
        labels: [("team".to_owned(), "build".to_owned())].into(),
        ..HcloudSettings::default()
    }
}

/// How long a lease may live.
const LIFETIME: Duration = Duration::from_secs(4 * 3600);

fn request(lease: &str) -> AcquireRequest {
    let size = Size { runner_type: "small".into(), cpu: 2, memory_gb: 4, time_budget_min: 1, tier: "explicit".into() };
    let (run, layer, platform) = (RunId::from("1a2b3c4d"), LayerName::from("app"), "linux/arm64".into());
    let (lease, lifetime) = (LeaseId::from(lease), LIFETIME);
    AcquireRequest { lease, run, layer, size, platform, lifetime, authorized_key: None }
}

impl Cloud {
    fn new() -> Self {
        let machines = Arc::new(Invented::default());
        let fake = Fake::start(Arc::clone(&machines) as Arc<dyn crate::support::machines::Machines>);
        Self { fake, machines, keys: tempfile::tempdir().expect("a folder") }
    }

    fn provider(&self) -> Hcloud {
        self.of(settings(), "ann", pace())
    }

    fn of(&self, settings: HcloudSettings, owner: &str, pace: Timeouts) -> Hcloud {
        let access = Access::new(self.fake.endpoint(), TOKEN).expect("access");
        Hcloud::new(settings, access, owner, self.keys.path().join(owner), pace).expect("a provider")
    }

    fn fail(&self, on: &str, kind: Kind) {
        self.fake.fail_next(FaultPlan::new(on, kind));
    }

    fn sell_out(&self, server_type: &str, location: &str) {
        let (server_type, location) = (server_type.to_owned(), location.to_owned());
        self.fail("*", Kind::SoldOut { server_type, location });
    }

    /// `cax11@fsn1` of each server.
    fn rented(&self) -> Vec<String> {
        self.fake.servers().iter().map(|server| format!("{}@{}", server.server_type, server.location)).collect()
    }

    #[track_caller]
    fn is_empty(&self) {
        assert_eq!(self.fake.everything_gone(), Vec::<String>::new());
        assert_eq!(self.machines.alive(), Vec::<String>::new());
    }
}

fn target(lease: &Lease) -> &SshTarget {
    let Endpoint::Ssh(target) = &lease.endpoint else { panic!("not by SSH: {lease:?}") };
    target
}

fn refused(result: Result<Lease, Fault>) -> Fault {
    let fault = result.expect_err("refused");
    assert!(fault.help.is_some() && !fault.message.contains(TOKEN), "{fault:?}");
    fault
}

fn public_of(private: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, private).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("made private");
    let output = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&file).output().expect("ssh-keygen");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_rented_listed_and_given_back() {
    let cloud = Cloud::new();
    let provider = cloud.provider();
    let before = jiff::Timestamp::now().as_millisecond();
    let lease = provider.acquire(&request("1a2b3c4d-1"), &LeaseRecord::default()).await.expect("a lease");
    // What booting took is gone from the time that it has to be ready.
    let by = i64::try_from(lease.ready_by.expect("it boots").0).expect("small");
    assert!((20_000..21_000).contains(&(by - before)), "{by} {before}");
    assert_eq!((lease.offer.runner_type.as_str(), lease.offer.cpu, lease.offer.memory_gb), ("cax11", 2, 4));
    let target = target(&lease).clone();
    assert_eq!((target.address.as_str(), target.port, target.user.as_str()), ("192.0.2.2", 22, "root"));
    let orders = cloud.machines.orders();
    assert_eq!((orders.len(), orders[0].cpu, orders[0].memory_gb), (1, 2, 4));
    assert_eq!(public_of(orders[0].host_key.as_ref().expect("a host key")), target.host_key);
    let identity = std::fs::read_to_string(target.identity.expect("our key")).expect("kept");
    assert_eq!(orders[0].authorized_keys, [public_of(&identity)]);

    let server = cloud.fake.servers().remove(0);
    assert_eq!(
        (server.name.as_str(), server.host_key.as_str()),
        ("lian-ann-1a2b3c4d-1", "ssh-ed25519 of-lian-ann-1a2b3c4d-1")
    );
    assert!(server.user_data.starts_with("#cloud-config\n") && !server.user_data.contains(TOKEN));
    let labels: Vec<String> = server.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expected = ["lian=1", "lian-lease=1a2b3c4d-1", "lian-owner=ann", "lian-run=1a2b3c4d", "team=build"];
    assert_eq!(labels.iter().filter(|label| !clocks::differs(label)).collect::<Vec<_>>(), expected.each_ref());

    let owned = provider.owned().await.whole().expect("a list");
    assert_eq!(owned.len(), 1);
    assert_eq!(
        (owned[0].lease.as_str(), &owned[0].what),
        ("1a2b3c4d-1", &format!("server {}, cax11 in fsn1", server.id))
    );
    assert_eq!(owned[0].run.as_ref().map(RunId::as_str), Some("1a2b3c4d"));
    clocks::lives_for(LIFETIME, &owned[0]);

    let again = provider.acquire(&request("1a2b3c4d-1"), &LeaseRecord::default()).await.expect("the same again");
    assert_eq!((again.id, again.offer, again.endpoint), (lease.id.clone(), lease.offer, lease.endpoint));
    for _ in 0..2 {
        provider.release(&lease.id, &LeaseRecord::default()).await.expect("given back");
        cloud.is_empty();
    }
    assert!(provider.owned().await.whole().expect("a list").is_empty());
    assert_eq!(std::fs::read_dir(cloud.keys.path().join("ann")).expect("there").count(), 0, "keys are left");
    let bills: Vec<(String, u64)> = cloud.fake.bills().into_iter().map(|bill| (bill.name, bill.hours)).collect();
    assert_eq!(bills, [("lian-ann-1a2b3c4d-1".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_are_the_settings_types_with_their_prices() {
    let cloud = Cloud::new();
    let offers = cloud.provider().offers().await.expect("offers");
    let shown = |offers: &[lian_build::domain::ports::Offer]| -> Vec<String> {
        let price = |offer: &lian_build::domain::ports::Offer| {
            offer.price.as_ref().map(|p| format!("{} {}", p.hourly_micros, p.currency))
        };
        offers
            .iter()
            .map(|o| format!("{} {} {} {} {:?}", o.runner_type, o.cpu, o.memory_gb, o.platform, price(o)))
            .collect()
    };
    insta::assert_snapshot!(shown(&offers).join("\n"), @r#"
    cax11 2 4 linux/arm64 Some("6800 EUR")
    cpx21 3 4 linux/amd64 Some("13600 EUR")
    cax21 4 8 linux/arm64 Some("11200 EUR")
    "#);
    let without = HcloudSettings { ipv4: false, ..settings() };
    let offers = cloud.of(without, "ann", pace()).offers().await.expect("offers");
    let hourly: Vec<_> = offers.iter().filter_map(|offer| Some(offer.price.as_ref()?.hourly_micros)).collect();
    assert_eq!(hourly, [6_000, 12_800, 10_400], "no address is billed where there is none");
    cloud.fake.tells_prices(false);
    cloud.fail("GET /pricing", Kind::Status(403, "forbidden"));
    let offers = cloud.provider().offers().await.expect("offers");
    assert!(offers.iter().all(|offer| offer.price.is_none()), "{offers:?}");
    // It can be rented all the same.
    cloud.provider().acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let odd = HcloudSettings { server_types: vec!["cax12".into()], ..settings() };
    let fault = cloud.of(odd, "ann", pace()).offers().await.expect_err("no such type");
    assert_eq!(fault.code, "lian::hcloud::unknown_type");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ipv4_the_first_address_of_the_network_is_taken() {
    let cloud = Cloud::new();
    // From a snapshot, which has a number.
    let odd = HcloudSettings { ipv4: false, image: "400000007".to_owned(), ..settings() };
    let provider = cloud.of(odd, "ann", pace());
    let lease = provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let address = &target(&lease).address;
    assert!(address.starts_with("2001:db8:") && address.ends_with("::1"), "{address}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_carry_our_labels_is_never_touched() {
    let cloud = Cloud::new();
    let provider = cloud.provider();
    let foreign =
        cloud.fake.add_server("lian-ann-r-1", &[("lian", "1"), ("lian-owner", "ann"), ("lian-lease", "other")]);
    let fault = refused(provider.acquire(&request("r-1"), &LeaseRecord::default()).await);
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::hcloud::name_taken"));
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("nothing of ours is there");
    assert_eq!(cloud.fake.servers().iter().map(|server| server.id).collect::<Vec<_>>(), [foreign]);
    // Ours by its labels, but somebody gave it a name of its own: neither deleted nor kept quiet about.
    cloud.fake.add_server("precious", &[("lian", "1"), ("lian-owner", "ann"), ("lian-lease", "r-2")]);
    let fault = provider.release(&LeaseId::from("r-2"), &LeaseRecord::default()).await.expect_err("renamed");
    assert_eq!(fault.code, "lian::hcloud::renamed");
    assert_eq!(cloud.fake.servers().len(), 2);
    // Whatever an API lists that was asked for one lease.
    cloud.fake.add_primary_ip(&[]);
    for on in ["GET /servers", "GET /ssh_keys", "GET /primary_ips"] {
        cloud.fail(on, Kind::Unfiltered);
    }
    provider.release(&LeaseId::from("r-3"), &LeaseRecord::default()).await.expect("nothing of it is there");
    assert_eq!(cloud.fake.everything_gone().len(), 3);
    let deleted = cloud.fake.requests().into_iter().filter(|seen| seen.what == "DELETE /servers/{id}").count();
    assert_eq!(deleted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_gone_are_told_before_anybody_waits_for_the_runner() {
    let cloud = Cloud::new();
    let provider = cloud.provider();
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    std::fs::remove_dir_all(cloud.keys.path().join("ann")).expect("removed");
    let fault = refused(provider.acquire(&request("r-1"), &LeaseRecord::default()).await);
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::hcloud::stale"));
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    cloud.is_empty();
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease again");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_owned_is_listed_and_can_be_given_back_by_anybody() {
    let cloud = Cloud::new();
    for number in 0..60 {
        let (name, lease) = (format!("lian-ben-r-{number}"), format!("r-{number}"));
        cloud
            .fake
            .add_server(&name, &[("lian", "1"), ("lian-owner", "ben"), ("lian-lease", &lease), ("lian-expires", "7")]);
    }
    cloud.fake.add_server("somebody-elses", &[]);
    cloud.fake.add_primary_ip(&[("lian", "1"), ("lian-owner", "ann"), ("lian-lease", "q-1")]);
    let ours = cloud.provider();
    // A key whose server was never made.
    cloud.fail("POST /servers", Kind::Status(403, "forbidden"));
    refused(ours.acquire(&request("k-1"), &LeaseRecord::default()).await);
    assert_eq!(cloud.fake.keys(), ["lian-ann-k-1"]);
    let owned = ours.owned().await.whole().expect("a list");
    assert_eq!(owned.len(), 62);
    let pages =
        cloud.fake.requests().into_iter().filter(|seen| seen.query.contains(&("page".into(), "2".into()))).count();
    assert_eq!(pages, 1, "the second page was asked for once");
    let of = |lease: &str| owned.iter().find(|owned| owned.lease.as_str() == lease).expect("listed");
    assert!(of("k-1").what.starts_with("SSH key ") && of("q-1").what.starts_with("primary IP "), "{owned:?}");
    assert!(of("r-7").what.ends_with("cax11 in fsn1, of ben"), "{}", of("r-7").what);
    assert_eq!(of("r-7").expires, Some(Timestamp(7_000)));
    for one in &owned {
        ours.release(&one.lease, &LeaseRecord::default()).await.expect("given back");
    }
    assert_eq!(cloud.fake.everything_gone(), ["server somebody-elses (running)"]);
    // What has not expired is its owner's to give back.
    let living = [("lian", "1"), ("lian-owner", "ben"), ("lian-lease", "b-1"), ("lian-expires", "4000000000")];
    cloud.fake.add_server("lian-ben-b-1", &living);
    let fault = ours.release(&LeaseId::from("b-1"), &LeaseRecord::default()).await.expect_err("in use elsewhere");
    assert_eq!((fault.code.as_str(), cloud.fake.servers().len()), ("lian::hcloud::owner", 2));
    assert!(fault.message.contains("`ben`"), "{}", fault.message);
    let bens = cloud.of(settings(), "ben", pace());
    bens.release(&LeaseId::from("b-1"), &LeaseRecord::default()).await.expect("given back by its owner");
    assert_eq!(cloud.fake.servers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_given_serves_many_leases() {
    let cloud = Cloud::new();
    let provider = cloud.provider();
    let given = public_of(&std::fs::read_to_string(made_key(cloud.keys.path())).expect("a key"));
    let wanted = |lease: &str| AcquireRequest { authorized_key: Some(format!("{given} me@there")), ..request(lease) };
    let one = provider.acquire(&wanted("r-1"), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(target(&one).identity, None);
    provider.acquire(&wanted("r-2"), &LeaseRecord::default()).await.expect("another with the same key");
    assert!(cloud.machines.orders().iter().all(|order| order.authorized_keys == [given.clone()]));
    provider.release(&LeaseId::from("r-2"), &LeaseRecord::default()).await.expect("given back");
    assert_eq!(cloud.fake.keys(), ["lian-ann-r-1"], "the other lease's key stays");
    // A third lease uses it where it is stored, and it goes before the server is made.
    let before = cloud.fake.times("POST /servers").len();
    cloud.fail("POST /servers", Kind::Limited(2));
    let patient = cloud.of(settings(), "ann", Timeouts { longest: Duration::from_secs(8), ..pace() });
    let third = wanted("r-3");
    let asking = tokio::spawn(async move { patient.acquire(&third, &LeaseRecord::default()).await });
    let start = std::time::Instant::now();
    while cloud.fake.times("POST /servers").len() == before {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was ever asked for");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    provider.release(&one.id, &LeaseRecord::default()).await.expect("given back");
    asking.await.expect("no panic").expect("a lease with the key stored anew");
    assert_eq!(cloud.fake.keys(), ["lian-ann-r-3"]);
    provider.release(&LeaseId::from("r-3"), &LeaseRecord::default()).await.expect("given back");
    cloud.is_empty();
}

#[tokio::test]
async fn the_documented_workflow_is_one() {
    let cloud = Cloud::new();
    let page = include_str!("../../docs/providers/hcloud.md");
    let text = page.split("```nickel\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a workflow");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hcloud.ncl");
    std::fs::write(&file, text).expect("written");
    let evaluator = lian_build::adapters::nickel::Evaluator::new(env!("CARGO_BIN_EXE_lian-build").into());
    let loaded = evaluator.workflow(&file, &[]).expect("evaluated");
    let workflow = loaded.workflow.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let documented = workflow.providers[&ProviderName::from_static("hcloud")].clone();
    let documented: HcloudSettings = serde_json::from_value(documented).expect("settings");
    let unset =
        HcloudSettings { buildkit: BuildkitRelease { url: None, ..documented.buildkit.clone() }, ..documented.clone() };
    let mut told = Vec::new();
    for settings in [documented, unset] {
        let provider = cloud.of(settings, "ann", pace());
        let lease = provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
        told.push(
            cloud.fake.servers().remove(0).user_data.lines().find(|line| line.contains("curl")).map(str::to_owned),
        );
        provider.release(&lease.id, &LeaseRecord::default()).await.expect("given back");
    }
    assert!(told[0].is_some() && told[0] == told[1], "what is documented as the default is not: {told:?}");
}

fn made_key(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("given");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status();
    assert!(made.expect("ssh-keygen").success());
    file
}

#[test]
fn the_official_client_works_with_the_fake() {
    let pinned = include_str!("../../tools/hcloud-requirements.txt");
    let version = pinned.lines().find_map(|line| line.strip_prefix("hcloud==")).expect("a pin");
    let version = version.split_whitespace().next().expect("a version");
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(std::path::PathBuf::from);
    let cache = given("XDG_CACHE_HOME").or_else(|| given("HOME").map(|home| home.join(".cache"))).expect("a home");
    let client = cache.join(format!("lian-build/tools/hcloud-{version}"));
    assert!(client.join("hcloud").is_dir(), "{} is missing: run scripts/setup.sh --test", client.display());

    let cloud = Cloud::new();
    let public = public_of(&std::fs::read_to_string(made_key(cloud.keys.path())).expect("a key"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/hetzner/client.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(&public).env("PYTHONPATH", &client).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("HCLOUD_ENDPOINT", cloud.fake.endpoint()).env("HCLOUD_TOKEN", TOKEN).env("NO_PROXY", "127.0.0.1");
    let output = command.output().expect("python3");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "done");
    assert_eq!(cloud.machines.orders().len(), 2);
    cloud.is_empty();
}

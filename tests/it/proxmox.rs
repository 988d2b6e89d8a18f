//! Machines of Proxmox VE, against a node in this process. Not responsible for: what happens on them once they are there.

mod clones;
mod known;
mod marks;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lian_build::adapters::providers::proxmox::{Proxmox, ProxmoxSettings, Token};
use lian_build::domain::base::{LayerName, LeaseId, RunId};
use lian_build::domain::model::{Fault, FaultKind, ProviderName, Size};
use lian_build::domain::ports::{AcquireRequest, ComputeProvider as _, Endpoint, Lease, LeaseRecord, SshTarget};

use crate::support::machines::{Booted, Machines, Order};
use crate::support::proxmox::{Fake, POOL, TEMPLATE, TOKEN, Trick};

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXMgaXMgbm8ga2V5LCBqdXN0IDMyIGJ5dGVz";
const FAR: u64 = 9_999_999_999_999;
/// How long a lease may live.
const LIFETIME: Duration = Duration::from_secs(4 * 3600);

/// Machines on paper: what matters here is that they are ordered and that they end.
#[derive(Default)]
struct Paper {
    orders: Mutex<Vec<Order>>,
    alive: Mutex<BTreeSet<String>>,
}

impl Machines for Paper {
    fn boot(&self, order: &Order) -> Booted {
        assert_eq!(order.host_key, None, "sshd's key is the machine's own");
        assert!(self.alive.lock().expect("alive").insert(order.name.clone()), "{} was booted twice", order.name);
        self.orders.lock().expect("orders").push(order.clone());
        Booted { address: "192.0.2.7".parse().expect("an address"), ipv6: None, host_key: HOST_KEY.to_owned() }
    }

    fn kill(&self, name: &str) {
        self.alive.lock().expect("alive").remove(name);
    }
}

struct Stage {
    fake: Fake,
    paper: Arc<Paper>,
    keys: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let paper = Arc::new(Paper::default());
        let fake = Fake::start(Arc::clone(&paper) as Arc<dyn Machines>).await;
        Self { fake, paper, keys: tempfile::tempdir().expect("a folder") }
    }

    fn with(&self, settings: ProxmoxSettings, owner: &str, boot: Duration) -> Result<Proxmox, Fault> {
        let token = Token::new(TOKEN).expect("a token");
        Proxmox::new(settings, token, owner.to_owned(), self.keys.path().to_owned(), boot)
    }

    fn provider(&self) -> Proxmox {
        self.with(self.fake.settings(), "me", Duration::from_secs(60)).expect("a provider")
    }

    /// Nothing is left of any lease, and the template is.
    fn is_clean(&self) {
        assert!(self.fake.machines().is_empty(), "{:?}", self.fake.machines());
        assert!(self.paper.alive.lock().expect("alive").is_empty(), "a machine still runs");
        assert_eq!(std::fs::read_dir(self.keys.path()).expect("keys").count(), 0, "keys are left");
    }
}

fn request(lease: &str) -> AcquireRequest {
    let (cpu, memory_gb) = (3, 6);
    let size = Size { runner_type: "cax21".into(), cpu, memory_gb, time_budget_min: 1, tier: "explicit".into() };
    AcquireRequest {
        lease: LeaseId::from(lease),
        run: RunId::from("r"),
        layer: LayerName::from("rust"),
        size,
        platform: "linux/amd64".into(),
        lifetime: LIFETIME,
        authorized_key: None,
    }
}

fn target(lease: &Lease) -> &SshTarget {
    match &lease.endpoint {
        Endpoint::Ssh(target) => target,
        other => panic!("{other:?}"),
    }
}

fn mark(lease: &str, owner: &str, expires: u64) -> String {
    format!(r#"{{"lease":"{lease}","run":"r","owner":"{owner}","expires":{expires}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_cloned_found_again_and_given_back() {
    let stage = Stage::new().await;
    let provider = stage.provider();
    let lease = provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let ssh = target(&lease);
    assert_eq!((ssh.address.as_str(), ssh.port, ssh.user.as_str()), ("192.0.2.7", 22, "root"));
    assert_eq!((ssh.host_key.as_str(), lease.offer.runner_type.as_str()), (HOST_KEY, "4c8g"));
    let identity = ssh.identity.clone().expect("a key of its own");
    let public = std::fs::read_to_string(identity.with_extension("pub")).expect("a public key");
    {
        let orders = stage.paper.orders.lock().expect("orders");
        assert_eq!((orders.len(), orders[0].cpu, orders[0].memory_gb), (1, 4, 8));
        assert_eq!(orders[0].authorized_keys, [public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")]);
    }
    let machines = stage.fake.machines();
    let (id, config) = machines.first_key_value().expect("one");
    assert!((5000..=5999).contains(id));
    let shown = [config["name"].as_str(), &config["tags"], &config["memory"], &config["ipconfig0"], &config["ciuser"]];
    assert_eq!(shown, ["lian-me-r-1", "lian;lian-me", "8192", "ip=dhcp", "root"]);

    let owned = provider.owned().await.whole().expect("owned");
    assert_eq!((owned.len(), owned[0].lease.as_str()), (1, "r-1"));
    assert_eq!(owned[0].run, Some(RunId::from("r")));
    assert!(owned[0].created.is_some() && owned[0].what.contains(&id.to_string()), "{owned:?}");

    let again = stage.provider().acquire(&request("r-1"), &LeaseRecord::default()).await.expect("the same lease");
    assert_eq!((&again.endpoint, stage.fake.count("POST", "/clone")), (&lease.endpoint, 1));
    assert!(lease.ready_by.is_some() && lease.ready_by < again.ready_by, "each request has its own time");

    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
    let purged = stage.fake.requests().into_iter().find(|seen| seen.method == "DELETE").expect("a DELETE").fields;
    assert_eq!((purged["purge"].as_str(), purged["destroy-unreferenced-disks"].as_str()), ("1", "1"));
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back twice");
    provider.release(&LeaseId::from("never"), &LeaseRecord::default()).await.expect("never was");
    assert!(provider.owned().await.whole().expect("owned").is_empty());
    assert!(!format!("{provider:?}").contains("cafe"), "the token is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_brought_is_used_and_none_is_made() {
    let stage = Stage::new().await;
    stage.fake.grant_all();
    let key = format!("{HOST_KEY} somebody+else@example");
    let asked = AcquireRequest { authorized_key: Some(key.clone()), ..request("r-1") };
    let settings = ProxmoxSettings { pool: None, full_clone: true, ..stage.fake.settings() };
    let provider = stage.with(settings, "me", Duration::from_secs(60)).expect("a provider");
    let lease = provider.acquire(&asked, &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(target(&lease).identity, None);
    assert_eq!(stage.paper.orders.lock().expect("orders")[0].authorized_keys, [key]);
    // A machine that booted with another key cannot be used: it is made anew.
    let other = AcquireRequest { authorized_key: Some(format!("{HOST_KEY} other")), ..request("r-1") };
    provider.acquire(&other, &LeaseRecord::default()).await.expect("a lease");
    assert_eq!((stage.fake.machines().len(), stage.paper.orders.lock().expect("orders").len()), (1, 2));
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_may_not_read_files_is_told_at_once() {
    let stage = Stage::new().await;
    let said = "Agent error: Command guest-file-open has been disabled";
    stage.fake.trick("GET", "/agent/file-read", 1, Trick::Refuse(500, said));
    let fault = stage.provider().acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("no files");
    assert!(fault.message.contains("guest-file-open"), "{}", fault.message);
    stage.provider().release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_use_are_passed_over_and_a_full_range_is_told() {
    let stage = Stage::new().await;
    // One that the token sees and one that it does not.
    stage.fake.put(5000, None, &[("name", "web")]);
    stage.fake.put(5001, Some(POOL), &[("name", "db")]);
    let settings = ProxmoxSettings { ids: (5000, 5002), ..stage.fake.settings() };
    let provider = stage.with(settings, "me", Duration::from_secs(60)).expect("a provider");
    for lease in ["r-1", "r-2", "r-3"] {
        provider.acquire(&request(lease), &LeaseRecord::default()).await.expect("a lease");
        assert!(stage.fake.machines().contains_key(&5002));
        let fault = provider.acquire(&request("r-9"), &LeaseRecord::default()).await.expect_err("full");
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::proxmox::no_id"));
        provider.release(&LeaseId::from("r-9"), &LeaseRecord::default()).await.expect("given back");
        provider.release(&LeaseId::from(lease), &LeaseRecord::default()).await.expect("given back");
        assert_eq!(stage.fake.machines().into_keys().collect::<Vec<_>>(), [5000, 5001]);
    }
    // An id that is taken between the question and the task.
    let exists = Trick::Fail("unable to create VM 5002: config file already exists");
    stage.fake.trick("POST", "/clone", 1, exists);
    stage.provider().acquire(&request("r-4"), &LeaseRecord::default()).await.expect("a lease");
    stage.provider().release(&LeaseId::from("r-4"), &LeaseRecord::default()).await.expect("given back");
    assert_eq!(stage.fake.machines().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_pinned_is_sent_nothing() {
    let (stage, other) = (Stage::new().await, Stage::new().await);
    let good = stage.fake.settings();
    let with = |fingerprint: Option<String>, ca: Option<&Path>| ProxmoxSettings {
        fingerprint,
        ca: ca.map(Path::to_owned),
        ..good.clone()
    };
    let boot = Duration::from_secs(60);
    let wrong = [with(other.fake.settings().fingerprint, Some(&stage.fake.ca())), with(None, Some(&other.fake.ca()))];
    for settings in wrong {
        let provider = stage.with(settings, "me", boot).expect("a provider");
        for fault in [
            provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("another's certificate"),
            provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect_err("another's certificate"),
            provider.owned().await.whole().expect_err("another's certificate"),
        ] {
            assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::proxmox::untrusted"));
        }
    }
    let seen = stage.with(with(other.fake.settings().fingerprint, None), "me", boot).expect("a provider");
    let fault = seen.owned().await.whole().expect_err("another's certificate");
    assert!(fault.message.contains(good.fingerprint.as_deref().expect("a pin")), "{}", fault.message);
    assert!(stage.fake.requests().is_empty(), "something was sent");

    let signed = stage.with(with(None, Some(&stage.fake.ca())), "me", boot).expect("a provider");
    assert!(signed.owned().await.whole().expect("trusted by its CA").is_empty());
    let lower = good.fingerprint.clone().map(|pin| pin.to_lowercase());
    assert!(stage.with(with(lower, None), "me", boot).expect("a provider").owned().await.whole().is_ok());

    let plain = ProxmoxSettings { endpoint: "http://192.0.2.1:8006".into(), ..good.clone() };
    let odd = ProxmoxSettings { endpoint: "pve.example:8006/x y".into(), ..good.clone() };
    let codes = [with(None, None), ProxmoxSettings { fingerprint: None, ..plain.clone() }, odd]
        .map(|settings| stage.with(settings, "me", boot).expect_err("refused").code);
    assert_eq!(codes, ["lian::proxmox::no_pin", "lian::proxmox::no_pin", "lian::proxmox::endpoint"]);
    assert_eq!(stage.with(plain, "me", boot).expect_err("no TLS").code, "lian::proxmox::no_pin");
    let missing = with(None, Some(Path::new("/no/such/ca.pem")));
    assert_eq!(stage.with(missing, "me", boot).expect_err("no CA").code, "lian::proxmox::ca");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_comes_ends_the_wait_and_leaves_nothing() {
    let stage = Stage::new().await;
    stage.fake.silence(None);
    let boot = Duration::from_secs(4);
    let provider = stage.with(stage.fake.settings(), "me", boot).expect("a provider");
    let began = Instant::now();
    let fault = provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("no agent");
    // Far from every other patience of the provider, and from what a busy machine adds.
    assert!(began.elapsed() < boot + Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::proxmox::late"));
    assert!(fault.message.contains("QEMU guest agent is not running"), "{}", fault.message);
    assert_eq!(stage.fake.machines().len(), 1);
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for_and_what_does_not_is_told_at_once() {
    let stage = Stage::new().await;
    let locked = "can't lock file '/var/lock/qemu-server/lock-5000.conf' - got timeout";
    stage.fake.trick("POST", "/clone", 1, Trick::Refuse(596, "Connection timed out"));
    stage.fake.trick("POST", "/config", 1, Trick::Fail(locked));
    stage.fake.trick("GET", "/qemu", 1, Trick::Refuse(502, "Bad Gateway"));
    stage.fake.trick("POST", "/stop", 1, Trick::Refuse(500, locked));
    let provider = stage.provider();
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    provider.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();

    stage.fake.terse();
    let before = stage.fake.count("POST", "/clone");
    stage.fake.trick("POST", "/clone", 1, Trick::Refuse(403, "Permission check failed (/vms/9000, VM.Clone)"));
    let fault = provider.acquire(&request("r-2"), &LeaseRecord::default()).await.expect_err("denied");
    assert_eq!(fault.code, "lian::proxmox::denied");
    assert!(fault.message.contains("VM.Clone") && fault.help.expect("help").contains("VM.GuestAgent.FileRead"));
    stage.fake.trick("POST", "/clone", 1, Trick::Fail("no space left on device"));
    let fault = provider.acquire(&request("r-2"), &LeaseRecord::default()).await.expect_err("failed");
    assert_eq!(fault.code, "lian::proxmox::task");
    assert!(fault.message.contains("no space left on device"), "{}", fault.message);
    assert_eq!(stage.fake.count("POST", "/clone"), before + 2);
    for settings in [
        ProxmoxSettings { node: "nowhere".into(), ..stage.fake.settings() },
        ProxmoxSettings { pool: Some("none".into()), ..stage.fake.settings() },
    ] {
        let provider = stage.with(settings, "me", Duration::from_secs(60)).expect("a provider");
        assert_eq!(
            provider.acquire(&request("r-2"), &LeaseRecord::default()).await.expect_err("refused").code,
            "lian::proxmox::refused"
        );
    }
    let large = AcquireRequest { platform: "linux/arm64".into(), ..request("r-2") };
    assert_eq!(
        provider.acquire(&large, &LeaseRecord::default()).await.expect_err("arm64").code,
        "lian::proxmox::no_size"
    );
    provider.release(&LeaseId::from("r-2"), &LeaseRecord::default()).await.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_something_works_on_is_waited_for() {
    let stage = Stage::new().await;
    let provider = stage.provider();
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let id = *stage.fake.machines().first_key_value().expect("one").0;
    stage.fake.set(id, "lock", "backup");
    let before = stage.fake.count("GET", "/config");
    let unlock = async {
        let deadline = Instant::now() + Duration::from_secs(30);
        while stage.fake.count("GET", "/config") < before + 4 {
            assert!(Instant::now() < deadline, "the lock was not looked at");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((stage.fake.count("POST", "/stop"), stage.fake.count("DELETE", "")), (0, 0));
        stage.fake.unset(id, "lock");
    };
    let lease = LeaseId::from("r-1");
    let record = LeaseRecord::default();
    let (released, ()) = tokio::join!(provider.release(&lease, &record), unlock);
    released.expect("given back");
    stage.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_refuses_what_the_real_one_refuses() {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let stage = Stage::new().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(stage.fake.ca()).expect("a CA")).expect("added");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().expect("a client");
    let base = format!("{}/api2/json/nodes/pve", stage.fake.settings().endpoint);
    stage.fake.put(5000, Some(POOL), &[("name", "a"), ("lock", "clone")]);
    stage.fake.put(5001, Some(POOL), &[("name", "b")]);
    let post = async |path: &str, fields: &[(&str, &str)]| {
        let request = client.post(format!("{base}/{path}")).header("Authorization", format!("PVEAPIToken={TOKEN}"));
        let response = request.form(fields).send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json::<serde_json::Value>().await.expect("JSON").to_string())
    };
    let clone = format!("qemu/{TEMPLATE}/clone");
    let once = "ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXMgaXMgbm8ga2V5LCBqdXN0IDMyIGJ5dGVz";
    let twice = once.replace('%', "%25");
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], u16, &'c str);
    let cases: [Case; 9] = [
        (&clone, &[("newid", "5000"), ("name", "x"), ("pool", POOL)], 500, "already exists"),
        (&clone, &[("newid", "5009"), ("name", "not_a_label"), ("pool", POOL)], 400, "DNS name"),
        (&clone, &[("newid", "5009"), ("name", "x"), ("pool", POOL), ("cores", "4")], 400, "not defined in schema"),
        (&clone, &[("newid", "5009"), ("name", "x")], 403, "VM.Allocate"),
        ("qemu/5001/config", &[("sshkeys", HOST_KEY)], 400, "invalid urlencoded"),
        ("qemu/5001/config", &[("sshkeys", &twice)], 500, "SSH public key validation error"),
        ("qemu/5001/config", &[("tags", "lian;Capital?")], 400, "valid tag"),
        ("qemu/7777/status/start", &[], 403, "Permission check failed"),
        ("qemu/5001/migrate", &[], 501, "not implemented"),
    ];
    for (path, fields, status, message) in cases {
        let (got, body) = post(path, fields).await;
        assert!(got == status && body.contains(message), "{path} {fields:?}: {got} {body}");
    }
    assert_eq!(post("qemu/5001/config", &[("sshkeys", once)]).await.0, 200);
    let (_, task) = post("qemu/5000/status/start", &[]).await;
    let upid = task.split('"').find(|part| part.starts_with("UPID:")).expect("a task").to_owned();
    let status = format!("{base}/tasks/{}/status", upid.replace(':', "%3A").replace('!', "%21"));
    for token in ["PVEAPIToken=lian@pve!build=other", "Bearer x"] {
        let refused = client.get(&status).header("Authorization", token).send().await.expect("an answer");
        assert_eq!(refused.status(), 401);
    }
    let answer = client.get(&status).header("Authorization", format!("PVEAPIToken={TOKEN}")).send().await;
    let answer = answer.expect("an answer").text().await.expect("a text");
    assert!(answer.contains("VM is locked (clone)"), "{answer}");
}

#[tokio::test]
async fn the_documented_workflow_is_one() {
    let stage = Stage::new().await;
    let page = include_str!("../../docs/providers/proxmox.md");
    let text = page.split("```nickel\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a workflow");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxmox.ncl");
    std::fs::write(&file, text).expect("written");
    let evaluator = lian_build::adapters::nickel::Evaluator::new(env!("CARGO_BIN_EXE_lian-build").into());
    let loaded = evaluator.workflow(&file, &[]).expect("evaluated");
    let workflow = loaded.workflow.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    for ids in ["[5999, 5000]", "[5000]", "[5000, 5001, 5002]"] {
        std::fs::write(&file, text.replace("[5000, 5999]", ids)).expect("written");
        let loaded = evaluator.workflow(&file, &[]).expect("evaluated");
        let told = loaded.diagnostics.iter().any(|one| one.message.contains("the first and the last, in this order"));
        assert!(told, "{ids}: {:?}", loaded.diagnostics);
    }
    let settings = workflow.providers[&ProviderName::from_static("proxmox")].clone();
    let settings: ProxmoxSettings = serde_json::from_value(settings).expect("settings");
    assert_eq!((settings.template, settings.ids, settings.pool.as_deref()), (TEMPLATE, (5000, 5999), Some(POOL)));
    let provider = stage.with(settings, "me", Duration::from_secs(300)).expect("a provider");
    let sizes: Vec<_> = provider.offers().await.expect("offers").into_iter().map(|offer| offer.runner_type).collect();
    assert_eq!(sizes, ["2c4g", "4c8g", "8c16g", "16c32g"]);
}

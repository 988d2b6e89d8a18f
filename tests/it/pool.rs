//! A run that rents from `lian-build serve`, which rents from the cloud: one place holds the cloud's token. And one on
//! Proxmox VE. Real machines behind both.

use std::process::Stdio;
use std::sync::Arc;

use lian_build::adapters::providers::proxmox::ProxmoxSettings;

use crate::cloud::Cloud;
use crate::serve::{Serving, start_from};
use crate::support::project::{Project, Ran};
use crate::support::sandbox::Sandboxes;
use crate::support::{hetzner, proxmox};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
pub const POOL_TOKEN: &str = "a-pool-token-of-32-characters-00";

/// A client of the pool, with this in its workflow's `runners`.
pub fn client(address: &str, runners: &str) -> Project {
    let project = Project::with_base();
    project.write(
        "workflows/local.ncl",
        &format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", parallel = 2, \
             compute_provider = 'vm_pool, providers.vm_pool = {{ endpoint = \"http://{address}\", workspace = \"w\" }}, \
             runners = {{ context_transfer = 'session, boot_timeout_s = 60, {runners} }} }} | Workflow\n"
        ),
    );
    project
}

/// The binary with these arguments, as a client of the pool.
pub fn renting(project: &Project, arguments: &[&str]) -> std::process::Command {
    let mut command = project.command(arguments);
    command.env("LIAN_POOL_TOKEN", POOL_TOKEN);
    command
}

fn rent(project: &Project, arguments: &[&str]) -> Ran {
    renting(project, arguments).output().expect("the binary starts").into()
}

/// A pool that rents one runner after the other from a cloud.
pub fn serving(cloud: &Cloud) -> Serving {
    let mut hash = cloud.project.command(&["serve", "hash-token", "--name", "ci", "--workspace", "w"]);
    let mut hash = hash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary starts");
    std::io::Write::write_all(&mut hash.stdin.take().expect("piped"), POOL_TOKEN.as_bytes()).expect("it reads");
    let tokens = hash.wait_with_output().expect("it ends").stdout;
    cloud.project.write("tokens.toml", &String::from_utf8(tokens).expect("text"));
    let mut command = cloud.command(&["serve", "--workflow", "workflows/local.ncl", "--listen", "127.0.0.1:0"]);
    command.args(["--tokens", "tokens.toml", "--max-leases", "1"]);
    start_from(command)
}

#[test]
fn a_run_rents_from_the_pool_within_its_quota_and_gives_back() {
    let cloud = Cloud::new("context_transfer = 'session", "");
    let serving = serving(&cloud);
    let project = client(&serving.address, "runner_reuse = 'per_build");
    for name in ["one", "two"] {
        project.layer(name, BASE, &format!("FROM base.example/busybox:1\nRUN echo {name}; sleep 1\n"));
    }
    let ran = rent(&project, &["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["one=built", "two=built"]);
    assert!(!ran.both().contains(POOL_TOKEN) && !ran.both().contains(hetzner::TOKEN), "a token was told");
    assert_eq!(cloud.fake.bills().len(), 2, "{:?}", cloud.fake.bills());
    // One after the other: the first server is deleted before the second is asked for.
    let seen = cloud.fake.requests();
    let (make, delete) = ("POST /servers", "DELETE /servers/{id}");
    let mut order: Vec<&str> = seen.iter().map(|seen| seen.what.as_str()).collect();
    order.retain(|what| *what == make || *what == delete);
    assert_eq!(order, [make, delete, make, delete]);
    assert!(cloud.fake.everything_gone().is_empty(), "{:?}", cloud.fake.everything_gone());
    let wrong = project.command(&["apply"]).env("LIAN_POOL_TOKEN", "another-token-of-32-characters-0").output();
    let wrong: Ran = wrong.expect("the binary starts").into();
    assert!(wrong.exits(4).stderr.contains("LIAN_POOL_TOKEN"));
}

/// A project whose runners are machines of this node.
pub fn on_proxmox(settings: &ProxmoxSettings) -> Project {
    let project = Project::with_base();
    let pin = match (&settings.fingerprint, &settings.ca) {
        (Some(pin), _) => format!("fingerprint = \"{pin}\","),
        (None, Some(ca)) => format!("ca = \"{}\",", ca.display()),
        (None, None) => String::new(),
    };
    let pool = settings.pool.as_ref().map_or(String::new(), |pool| format!("pool = \"{pool}\","));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    project.write(
        "workflows/local.ncl",
        &format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", \
             compute_provider = 'proxmox, providers.proxmox = {{ endpoint = \"{}\", node = \"{}\", template = {}, \
             ids = [{}, {}], {pin} {pool} platform = \"linux/{arch}\" }}, \
             runners = {{ context_transfer = 'session, boot_timeout_s = 60 }} }} | Workflow\n",
            settings.endpoint, settings.node, settings.template, settings.ids.0, settings.ids.1
        ),
    );
    project
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn machines_are_cloned_built_on_and_purged() {
    let hosts = Arc::new(Sandboxes::default());
    let fake = proxmox::Fake::start(Arc::clone(&hosts) as _).await;
    let project = on_proxmox(&fake.settings());
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    project.layer("app", "  build_base = \"base\",", "FROM lamina/base\nRUN cat /base\n");
    let before = fake.machines().len();
    let mut command = project.command(&["apply", "--format", "json"]);
    command.env("PROXMOX_TOKEN", proxmox::TOKEN);
    let ran = tokio::task::spawn_blocking(move || command.output().expect("the binary starts")).await;
    let ran: Ran = ran.expect("it ran").into();
    assert_eq!(ran.exits(0).outcomes(), ["app=built", "base=built"]);
    assert_eq!((fake.machines().len(), hosts.alive().len()), (before, 0), "{:?}", fake.machines());
}

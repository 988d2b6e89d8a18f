//! `doctor --workflow` on real hosts and a real registry: what each lacks is told, and nothing is left there.

use serde_json::Value;

use crate::cloud::Cloud;
use crate::runners::project_on;
use crate::support::project::{Project, Ran, text};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandbox, key_pair};

const RSYNC: &str = "runners = { boot_timeout_s = 30 }, registry_provider = 'registry, registry = ";

/// The finding of this name: its state, and what it says.
#[track_caller]
fn finding(told: &Value, name: &str) -> (String, String) {
    let findings = told["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("no {name}: {told}"));
    (text(&found["state"]).to_owned(), format!("{} {}", text(&found["detail"]), text(&found["mend"])))
}

fn doctor(project: &Project) -> Value {
    project.lian(&["doctor", "--format", "json", "--workflow", "workflows/local.ncl"]).json()
}

#[test]
fn each_host_is_logged_in_to_and_what_it_lacks_is_told_beside_what_the_others_have() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let hosts = [(); 4].map(|()| Sandbox::with(&public, 2, 4));
    let [sound, dead, gone, bare] = &hosts;
    dead.run(": >/run/lian/no-restart; pkill -9 buildkitd");
    dead.until("pgrep buildkitd >/dev/null || echo dead");
    gone.run(": >/run/lian/no-restart; pkill -9 buildkitd; rm -f /run/buildkit/buildkitd.sock");
    bare.run("mount --bind /dev/null \"$(command -v rsync)\"");
    let registry = Registry::start();
    let more = format!("{RSYNC} {{ address = \"{}/team\", plain_http = true }}", registry.address());
    let all = [(sound, 1, 1), (dead, 1, 1), (gone, 1, 1), (bare, 1, 1)];
    let told = doctor(&project_on(&all, &key, &more));
    assert_eq!(told["ok"], false, "{told}");
    let of = |host: &Sandbox| finding(&told, &host.address.to_string());
    let (state, said) = of(sound);
    assert_ne!(state, "missing", "{said}");
    assert!(said.contains("login, host key, buildkitd v0.") && said.contains("rsync, flock"), "{said}");
    assert!(said.contains(" free, ") && said.contains(" CPU, "), "{said}");
    let (state, said) = of(dead);
    assert!(state == "missing" && said.contains("the BuildKit socket is there, and nobody answers it"), "{said}");
    let (state, said) = of(gone);
    assert!(state == "missing" && said.contains("there is no BuildKit socket"), "{said}");
    let (state, said) = of(bare);
    assert!(state == "missing" && said.contains("it lacks rsync"), "{said}");
    let (state, said) = finding(&told, "images");
    assert!(state == "well" && said.contains(&format!("{}/team: reads and writes", registry.address())), "{said}");
    assert!(registry.log().contains("DELETE"), "the upload that was tried is still open");
    assert_eq!(finding(&told, "ssh").0, "well", "{told}");
    // Nothing is leased, and nothing is left.
    assert_eq!(sound.run("ls -d /run/lian-build* 2>/dev/null; ls /workspace"), "");
}

#[test]
fn a_login_a_host_key_a_pool_and_a_registry_that_refuse_are_told() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let others = tempfile::tempdir().expect("a folder");
    let (stranger, wrong) = key_pair(others.path());
    let host = Sandbox::with(&public, 2, 4);
    let registry = Registry::with_login();
    let more = format!("{RSYNC} {{ address = \"{}/team\", plain_http = true }}", registry.address());
    let told = doctor(&project_on(&[(&host, 1, 1)], &stranger, &more));
    let (state, said) = finding(&told, &host.address.to_string());
    assert!(state == "missing" && said.contains("does not accept the key") && said.contains("ssh-copy-id"), "{said}");
    let (state, said) = finding(&told, "images");
    assert!(state == "missing" && said.contains("requires a login"), "{said}");

    let project = project_on(&[(&host, 1, 1)], &key, &more);
    let workflow = std::fs::read_to_string(project.path().join("workflows/local.ncl")).expect("a workflow");
    let wrong: Vec<&str> = wrong.split(' ').take(2).collect();
    project.write("workflows/local.ncl", &workflow.replace(&host.host_key, &wrong.join(" ")));
    let (state, said) = finding(&doctor(&project), &host.address.to_string());
    assert!(state == "missing" && said.contains("another host key"), "{said}");

    project.write(
        "workflows/local.ncl",
        "let { Workflow, .. } = import \"schemas/workflow.ncl\" in { compute_provider = 'vm_pool, \
         providers.vm_pool = { endpoint = \"http://127.0.0.1:1\", workspace = \"w\" }, \
         runners.context_transfer = 'session } | Workflow\n",
    );
    let mut command = project.command(&["doctor", "--format", "json", "--workflow", "workflows/local.ncl"]);
    let ran = Ran::from(command.env("LIAN_POOL_TOKEN", "a-token-of-20-characters").output().expect("it starts"));
    let (state, said) = finding(&ran.json(), "vm-pool");
    assert!(state == "missing" && !said.trim().is_empty(), "{said}");
}

#[test]
fn a_token_that_the_pool_refuses_is_told_with_where_it_is_read_from() {
    let cloud = Cloud::new("context_transfer = 'session", "");
    let serving = crate::pool::serving(&cloud);
    let asked = |workspace: &str, token: Option<&str>| {
        let project = Project::with_base();
        project.write(
            "workflows/local.ncl",
            &format!(
                "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in {{ compute_provider = 'vm_pool, \
                 providers.vm_pool = {{ endpoint = \"http://{}\", workspace = \"{workspace}\" }}, \
                 runners.context_transfer = 'session }} | Workflow\n",
                serving.address
            ),
        );
        let mut command = project.command(&["doctor", "--format", "json", "--workflow", "workflows/local.ncl"]);
        command.env_remove("LIAN_POOL_TOKEN").envs(token.map(|token| ("LIAN_POOL_TOKEN", token)));
        let ran = Ran::from(command.output().expect("it starts"));
        assert_eq!(ran.json()["ok"].as_bool(), Some(token == Some(crate::pool::POOL_TOKEN)), "{}", ran.both());
        finding(&ran.json(), "vm-pool")
    };
    for token in [None, Some("another-token-of-32-characters-0")] {
        let (state, said) = asked("w", token);
        assert!(state == "missing" && said.contains("401") && said.contains("LIAN_POOL_TOKEN"), "{token:?}: {said}");
    }
    let (state, said) = asked("w", Some(crate::pool::POOL_TOKEN));
    assert!(state == "well" && said.contains("lets this user in"), "{said}");
}

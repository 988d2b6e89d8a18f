//! `apply` with a real registry as the image store: what is there afterwards, what another machine makes of it, and what is
//! told where it fails.

use std::path::Path;
use std::process::Command;

use lian_build::adapters::registry::{Address, Registry as Store};
use lian_build::domain::model::{FaultKind, ImageRecord, KEY_LABEL, KeyParts, RegistrySettings, Tool};
use lian_build::domain::ports::{Builder as _, ImageSource, ImageStore, PushTarget, Staged, StagedAt, VerifyRequest};

use crate::support::buildkitd::{scratch, stage};
use crate::support::project::{Project, Ran, text};
use crate::support::registry::{LOGIN, Registry};

/// base ← app, with images below `team` in the registry at this address.
fn pair(address: &str) -> Project {
    let project = Project::with_base();
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    project.layer("base", base, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    let fields = "  build_base = \"base\",\n  tools_provided = [\"greet\"],\n  artifact_paths = [\"/bin/greet\"],";
    project.layer(
        "app",
        fields,
        "FROM lamina/base\nCOPY greet /bin/greet\nRUN chmod 755 /bin/greet && test -s /base\n",
    );
    project.write("catalog/app/greet", "#!/bin/sh\necho greetings 1.2.3\n");
    workflow(&project, &format!("registry = {{ address = \"{address}/team\", plain_http = true }},"));
    project
}

fn workflow(project: &Project, fields: &str) {
    let text = format!(
        "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ registry_provider = 'registry, {fields} }} | Workflow\n"
    );
    project.write("workflows/local.ncl", &text);
}

fn apply(project: &Project) -> Ran {
    project.lian(&["apply", "--format", "json"])
}

fn with_docker_config(project: &Project, arguments: &[&str], folder: &Path) -> Ran {
    project.command(arguments).env("DOCKER_CONFIG", folder).output().expect("the binary starts").into()
}

#[test]
fn a_registry_alone_tells_every_machine_what_is_built() {
    let registry = Registry::start();
    let first = pair(&registry.address());
    assert_eq!(apply(&first).exits(0).outcomes(), ["app=built", "base=built"]);
    assert!(!first.state().join("images").exists(), "a layout was made");
    let (app, base) = (registry.tags("team/lamina/app"), registry.tags("team/lamina/base"));
    for tags in [&app, &base] {
        assert!(tags.len() == 3 && tags[2] == "latest" && tags[1] == format!("{}.parts", tags[0]), "{tags:?}");
        assert!(tags[0].starts_with("key-"), "{tags:?}");
    }
    assert_eq!(registry.tags("team/lamina/app-artifacts"), [app[0].as_str(), "latest"]);
    let image = registry.digest("team/lamina/app", "latest");
    assert_eq!(image, registry.digest("team/lamina/app", &app[0]));
    let log = registry.log();
    let mounted = |line: &&str| line.contains("from=team%2Flamina%2Fbase") && line.contains("http.response.status=201");
    assert!(log.lines().any(|line| mounted(&line)), "the base's layers were sent again:\n{log}");

    assert_eq!(apply(&first).exits(0).outcomes(), ["app=reused", "base=reused"]);
    // Another machine has the catalog and nothing else.
    let second = pair(&registry.address());
    second.lian(&["plan", "--detailed-exitcode"]).exits(0);
    assert!(!second.state().exists(), "plan wrote something");
    assert_eq!(apply(&second).exits(0).outcomes(), ["app=reused", "base=reused"]);
    second.write("catalog/app/greet", "#!/bin/sh\necho greetings 2.0.0\n");
    let plan = second.lian(&["plan", "--format", "json"]).exits(0).json();
    let app_step = plan["layers"].as_array().expect("layers").iter().find(|layer| layer["name"] == "app").expect("app");
    assert_eq!((text(&app_step["action"]), text(&app_step["why"][0]["kind"])), ("build", "context"), "{plan}");
    assert!(text(&app_step["why"][0]["detail"]).contains("greet"), "{plan}");
    assert_eq!(apply(&second).exits(0).outcomes(), ["app=built", "base=reused"]);
    assert_ne!(registry.digest("team/lamina/app", "latest"), image);
    // Back to the older key: its tag moves without anything being built.
    assert_eq!(apply(&first).exits(0).outcomes(), ["app=reused", "base=reused"]);
    assert_eq!(registry.digest("team/lamina/app", "latest"), image);
}

/// Method and path of every request since the log had this length.
fn requests(registry: &Registry, since: usize) -> Vec<String> {
    let log = registry.log();
    let field = |line: &str, name: &str| {
        let value = line.split(&format!("http.request.{name}=")).nth(1)?;
        Some(value.split(' ').next().unwrap_or("").trim_matches('"').to_owned())
    };
    let answered = log[since..].lines().filter(|line| line.contains("response completed"));
    answered.filter_map(|line| Some(format!("{} {}", field(line, "method")?, field(line, "uri")?))).collect()
}

#[test]
fn a_plan_asks_little_of_each_layer_and_reads_no_record_of_one_that_is_built() {
    let registry = Registry::start();
    let project = pair(&registry.address());
    for name in ["one", "two", "three"] {
        project.layer(name, "  build_base = \"base\",", "FROM lamina/base\nRUN true\n");
    }
    project.lian(&["plan", "--detailed-exitcode"]).exits(2);
    let nothing = requests(&registry, 0);
    // Neither the image of its key nor `latest` is there.
    assert!((5..=5 * 2).contains(&nothing.len()), "{} requests for 5 layers: {nothing:#?}", nothing.len());
    apply(&project).exits(0);
    let built = registry.log().len();
    project.lian(&["plan", "--detailed-exitcode"]).exits(0);
    let asked = requests(&registry, built);
    // The manifest, the config with the full key, and the artifact that names the parents; manifest and config of the one
    // image of artifacts, whose loss would be a reason to build.
    assert!((5..=5 * 3 + 2).contains(&asked.len()), "{} requests for 5 layers: {asked:#?}", asked.len());
    let tags = registry.tags("team/lamina/app");
    let parts = registry.blob(&registry.digest("team/lamina/app", &tags[1]));
    let parts: serde_json::Value = serde_json::from_slice(&std::fs::read(parts).expect("a manifest")).expect("JSON");
    let record = text(&parts["layers"][0]["digest"]);
    assert!(!asked.iter().any(|request| request.contains(record)), "the record was read: {asked:#?}");
}

#[test]
fn artifacts_in_a_registry_are_copied_from() {
    let registry = Registry::start();
    let project = pair(&registry.address());
    let fields = "  build_base = \"base\",\n  build_inputs = [\"app\"],";
    project.layer("user", fields, "FROM lamina/base\nCOPY --from=lamina/app-artifacts / /\nRUN greet > /said\n");
    assert_eq!(apply(&project).exits(0).outcomes(), ["app=built", "base=built", "user=built"]);
}

#[test]
fn what_was_changed_in_the_registry_is_refused() {
    let registry = Registry::start();
    let project = pair(&registry.address());
    apply(&project).exits(0);
    let manifest = registry.blob(&registry.digest("team/lamina/app", "latest"));
    let sound = std::fs::read_to_string(&manifest).expect("a manifest");
    std::fs::write(&manifest, sound.replacen("\"schemaVersion\": 2", "\"schemaVersion\":  2", 1)).expect("writable");
    assert_ne!(std::fs::read_to_string(&manifest).expect("a manifest"), sound, "nothing was changed");
    let ran = project.lian(&["plan"]).exits(4);
    assert!(ran.stderr.contains("content that does not match its digest"), "{}", ran.both());
    assert!(ran.stderr.contains("team/lamina/app") && ran.stderr.contains("help:"), "{}", ran.both());
}

#[test]
fn a_registry_that_is_down_is_an_outside_fault() {
    // Port 1 of this machine refuses at once: nothing listens there.
    let project = pair("127.0.0.1:1");
    let ran = apply(&project).exits(4);
    let shown = ran.both();
    assert!(shown.contains("lian::registries::remote") && shown.contains("127.0.0.1:1 cannot be reached"), "{shown}");
    let last = ran.events().pop().expect("events");
    assert_eq!((text(&last["type"]), text(&last["outcome"])), ("run.finished", "failure"));
}

#[test]
fn a_registry_that_wants_a_login_gets_the_one_that_docker_kept() {
    let registry = Registry::with_login();
    let project = pair(&registry.address());
    let folder = scratch();
    let stranger = with_docker_config(&project, &["plan"], folder.path()).exits(4);
    let wants = format!("{} requires a login", registry.address());
    assert!(stranger.stderr.contains(&wants), "{}", stranger.both());
    assert!(stranger.stderr.contains(&format!("docker login {}", registry.address())), "{}", stranger.both());

    let entry = serde_json::json!({"username": LOGIN.0, "password": "planted-wrong-password"});
    let config = serde_json::json!({"auths": {(registry.address()): entry}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("a file");
    let wrong = with_docker_config(&project, &["plan", "-v"], folder.path()).exits(4);
    assert!(wrong.stderr.contains("does not accept the login"), "{}", wrong.both());
    assert!(!wrong.both().contains("planted-wrong-password"), "the password is shown");

    // A helper that knows the right one: both we and buildctl ask it.
    let helper = folder.path().join("docker-credential-lian-it");
    let answer = serde_json::json!({"ServerURL": registry.address(), "Username": LOGIN.0, "Secret": LOGIN.1});
    std::fs::write(&helper, format!("#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")).expect("a file");
    assert!(Command::new("chmod").arg("+x").arg(&helper).status().expect("chmod runs").success());
    let config = serde_json::json!({"credHelpers": {(registry.address()): "lian-it"}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("a file");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    let mut command = project.command(&["apply", "--format", "json"]);
    let right: Ran =
        command.env("DOCKER_CONFIG", folder.path()).env("PATH", path).output().expect("the binary starts").into();
    assert_eq!(right.exits(0).outcomes(), ["app=built", "base=built"]);
}

#[test]
fn our_own_daemon_is_told_of_a_registry_without_tls() {
    let registry = Registry::everywhere();
    // BuildKit takes the loopback for plain HTTP by itself; any other address of this machine it must be told of.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let outward = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let host = outward.map_or_else(|_| "127.0.0.1".to_owned(), |address| address.ip().to_string());
    let project = pair(&format!("{host}:{}", registry.port()));
    let data = scratch();
    let mut command = project.command(&["apply", "--format", "json"]);
    command.env_remove("BUILDKIT_HOST").env("LIAN_DATA_DIR", data.path()).env("LIAN_DAEMON_IDLE", "1s");
    let ran: Ran = command.output().expect("the binary starts").into();
    let stopped = stopped(data.path());
    assert_eq!(ran.exits(0).outcomes(), ["app=built", "base=built"]);
    assert!(stopped, "the daemon did not stop");
}

/// Waits until nobody holds the supervisor's lock any more: then the daemon is gone, and its mounts with it.
fn stopped(data: &Path) -> bool {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let lock = std::fs::File::open(data.join("buildkit/supervisor.lock")).expect("a lock");
    while std::time::Instant::now() < deadline {
        if lock.try_lock_shared().is_ok() && !data.join("buildkit/buildkitd.sock").exists() {
            return true;
        }
        let _ = lock.unlock();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    false
}

#[test]
fn a_registry_needs_an_address_and_a_layout_that_is_named_wins() {
    let project = pair("127.0.0.1:1");
    workflow(&project, "");
    let ran = project.lian(&["plan"]).exits(64);
    assert!(ran.stderr.contains("registry.address") && ran.stderr.contains("help:"), "{}", ran.both());
    project.lian(&["plan", "--layout", ".lian/elsewhere"]).exits(0);
    workflow(&project, "registry = { address = \"docker.io/team\" },");
    let ran = project.lian(&["plan"]).exits(64);
    assert!(ran.stderr.contains("Docker Hub"), "{}", ran.both());
    // That it is the project's own makes it no less named, whoever names it.
    let own = project.state().join("images");
    let ran: Ran = project.command(&["plan"]).env("LIAN_LAYOUT", &own).output().expect("it starts").into();
    ran.exits(0);
    project.lian(&["plan", "--layout", &own.display().to_string()]).exits(0);
}

#[test]
fn gc_and_load_say_what_a_registry_means_for_them() {
    let registry = Registry::start();
    let project = pair(&registry.address());
    apply(&project).exits(0);
    let before = registry.tags("team/lamina/app");
    let gc = project.lian(&["gc"]).exits(0);
    assert!(gc.stdout.contains("registry: lian-build deletes no images there"), "{}", gc.both());
    project.lian(&["gc", "--drop", "lamina/app"]).exits(64);
    assert_eq!(registry.tags("team/lamina/app"), before);

    let bin = scratch();
    let docker = bin.path().join("docker");
    std::fs::write(&docker, format!("#!/bin/sh\ncat > {}\n", bin.path().join("loaded").display())).expect("a file");
    assert!(Command::new("chmod").arg("+x").arg(&docker).status().expect("chmod runs").success());
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").expect("a PATH"));
    let mut command = project.command(&["load", "app"]);
    command.env("PATH", path).env("BUILDKIT_HOST", stage().daemon.address());
    command.env("LIAN_BUILDKIT_BIN", crate::support::buildkitd::binaries().buildctl.parent().expect("a folder"));
    let loaded: Ran = command.output().expect("the binary starts").into();
    let digest = registry.digest("team/lamina/app", "latest");
    let from = format!("pulled from {}/team/lamina/app@{digest}", registry.address());
    assert!(loaded.stdout.contains(&from), "{}", loaded.both());
    assert!(std::fs::metadata(bin.path().join("loaded")).expect("an archive").len() > 0);
}

fn parts(dockerfile: &str) -> KeyParts {
    let parts = serde_json::json!({
        "schema": KeyParts::SCHEMA, "layer": "pushed", "dockerfile": lian_build::domain::base::Digest::of(dockerfile),
        "ignore": null, "target": null, "files": {}, "build_args": {}, "platform": "linux/amd64", "frontend": null,
        "secret_ids": [], "ssh_ids": [], "labels": {}, "tools": [], "artifact_paths": [], "parents": {},
    });
    serde_json::from_value::<KeyParts>(parts).expect("key parts")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_its_builder_pushed_is_verified_there_and_only_gets_tags() {
    let registry = tokio::task::block_in_place(Registry::start);
    let settings = RegistrySettings { address: format!("{}/team", registry.address()), plain_http: true };
    let folder = scratch();
    let store = Store::new(Address::try_from(&settings).expect("an address"), folder.path()).expect("a store");
    let store: std::sync::Arc<dyn ImageStore> = std::sync::Arc::new(store);
    let dockerfile =
        "FROM base AS made\nFROM scratch\nENV PATH=/opt/bin\nCOPY --from=made /bin/busybox /opt/bin/hello\n";
    let (parts, name) = (parts(dockerfile), "lamina/pushed".to_owned());
    let key = parts.key();
    let mut request = stage().request(folder.path(), dockerfile);
    request.labels.insert(KEY_LABEL.to_owned(), key.to_string());
    request.push = store.push_target(&name);
    let target = PushTarget { name: format!("{}/team/lamina/pushed", registry.address()), plain_http: true };
    assert_eq!(request.push, Some(target));
    let built = stage().builder().build(&request, &|_| ()).await.expect("built");
    assert_eq!(registry.tags("team/lamina/pushed"), Vec::<String>::new(), "a tag moved before the image was verified");
    assert_eq!(std::fs::read_dir(&request.staging).expect("a folder").count(), 0, "something was exported");

    let platform = built.platforms.first().clone();
    let config = store.config(&name, &built.digest, &platform).await.expect("an answer").expect("a config");
    assert_eq!(config.env, ["PATH=/opt/bin"]);
    let verify = VerifyRequest {
        image: store.source(&name, &built.digest),
        platforms: built.platforms.clone(),
        tools: vec![Tool { name: "hello".into(), version: None, probe: None }],
        artifact_paths: vec!["/opt/bin/hello".into()],
        staging: folder.path().join("artifacts"),
        push_artifacts: store.push_target("lamina/pushed-artifacts"),
        labels: [].into(),
        configs: [(built.platforms.first().clone(), config)].into(),
    };
    assert!(matches!(verify.image, ImageSource::Registry { .. }));
    let artifacts = stage().builder().verify(&verify).await.expect("verified").expect("an artifacts image");

    let record = ImageRecord { parts, built_on: [].into() };
    let staged = Staged {
        name: name.as_str().into(),
        staging: StagedAt::Pushed,
        digest: built.digest.clone(),
        key: key.clone(),
        record: record.clone(),
        artifacts: Some((StagedAt::Pushed, artifacts)),
    };
    store.promote(&staged).await.expect("promoted");
    let absent = Staged { digest: lian_build::domain::base::Digest::of("nobody"), ..staged };
    let refused = store.promote(&absent).await.expect_err("it is not there").to_string();
    let (found, kept) = (store.find(&name, "latest").await, store.record(&name, "latest").await);
    let found = found.expect("an answer").expect("found");
    assert_eq!((found.digest, found.key), (built.digest, Some(key.clone())));
    assert_eq!(kept.expect("an answer"), Some(record));
    assert!(refused.contains("lacks a part of the image"), "{refused}");
    assert_eq!(registry.tags("team/lamina/pushed-artifacts"), [key.tag().as_str(), "latest"]);
}

/// Multi-threaded: starting a registry blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_is_told_as_one_by_whose_fault_it_is() {
    let registry = tokio::task::block_in_place(Registry::with_login);
    let folder = scratch();
    let mut request = stage().request(folder.path(), "FROM base\nRUN true\n");
    let mut push = async |host: &str| {
        request.push = Some(PushTarget { name: format!("{host}/acme/api"), plain_http: true });
        stage().builder().build(&request, &|_| ()).await.expect_err("it cannot be pushed")
    };
    // Nobody has logged in.
    let refused = push(&registry.address()).await;
    assert_eq!((refused.kind, refused.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::push_denied"));
    assert!(refused.help.is_some_and(|help| help.contains(&format!("docker login {}", registry.address()))));
    // Nobody listens there any more.
    let address = registry.address();
    drop(registry);
    let lost = push(&address).await;
    assert_eq!((lost.kind, lost.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::push_failed"));
    assert!(lost.evidence.as_ref().is_some_and(|evidence| evidence.contains("connection refused")), "{lost:?}");
}

//! `lian-build serve` does what its OpenAPI document says, and nothing else: Schemathesis makes requests out of the
//! document, sound and unsound ones, and holds each answer to it. Not responsible for: what an answer means (`serve`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::serve::{ask, start_from};
use crate::support::project::Project;

const TOKEN: &str = "a-token-of-the-tests-0";

/// Where `scripts/setup.sh --test` put Schemathesis.
fn installed() -> PathBuf {
    let pinned = include_str!("../../tools/schemathesis-requirements.txt");
    let version = pinned.lines().find_map(|line| line.strip_prefix("schemathesis==")).expect("a pin");
    let version = version.split_whitespace().next().expect("a version");
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = given("XDG_CACHE_HOME").or_else(|| given("HOME").map(|home| home.join(".cache"))).expect("a home");
    let folder = cache.join(format!("lian-build/tools/schemathesis-{version}"));
    assert!(folder.join("schemathesis").is_dir(), "{} is missing: run scripts/setup.sh --test", folder.display());
    folder
}

/// A service with hosts for every sound request.
fn service(project: &Project) -> crate::serve::Serving {
    let hosts = "std.array.generate (fun n => { address = \"host-%{std.string.from_number n}.example\", \
                 host_key = \"ssh-ed25519 AAAA\", cpu = 1024, memory_gb = 65536, \
                 platform = if n % 2 == 0 then \"linux/amd64\" else \"linux/arm64\" }) 2000";
    project.write("pool.ncl", &format!("{{ compute_provider = 'ssh, providers.ssh.hosts = {hosts} }}\n"));
    let sha256 = lian_build::domain::base::Digest::of(TOKEN).hex().to_owned();
    let tokens = json!({ "tokens": [{ "name": "all", "sha256": sha256, "workspaces": ["*"] }] });
    project.write("tokens.json", &tokens.to_string());
    let mut command = project.command(&["serve", "--workflow", "pool.ncl", "--tokens", "tokens.json"]);
    command.args(["--listen", "127.0.0.1:0", "--max-leases", "60000"]).env("LIAN_DATA_DIR", project.data());
    start_from(command)
}

#[test]
fn schemathesis_finds_no_difference_between_the_service_and_its_document() {
    let (project, tool) = (Project::new(), installed());
    let serving = service(&project);
    let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/schemathesis");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let seed = std::env::var("LIAN_SEED").unwrap_or_else(|_| now.to_string());
    println!("LIAN_SEED={seed}");
    let address = format!("http://{}", serving.address);
    let mut command = Command::new("python3");
    command.arg("-c").arg("from schemathesis.cli import schemathesis; schemathesis()");
    command.args(["--config-file", &support.join("schemathesis.toml").display().to_string(), "run"]);
    command.arg(format!("{address}/api/v1/openapi.json")).args(["--url", &address, "--seed", &seed]);
    command.args([
        "--checks",
        "all",
        "--max-examples",
        "12",
        "--request-timeout",
        "30",
        "--no-color",
        "--warnings",
        "off",
    ]);
    command.env("LIAN_TOKEN", TOKEN);
    command.env("PYTHONPATH", format!("{}:{}", tool.display(), support.display()));
    command.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "127.0.0.1");
    let output = command.current_dir(project.path()).stdin(Stdio::null()).output().expect("python3");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "LIAN_SEED={seed}\n{told}");
    // All but the document itself.
    assert!(told.contains("Tested: 9") && !told.contains("Failures"), "it tried less:\n{told}");
    assert_eq!(ask(&serving, "GET", "/healthz", "", "").0, 200);
    assert!(!serving.killed().contains("panicked"), "LIAN_SEED={seed}");
}

#[test]
fn the_document_says_how_bodies_are_bound() {
    let project = Project::new();
    let serving = service(&project);
    let (status, document) = ask(&serving, "GET", "/api/v1/openapi.json", "", "");
    assert_eq!(status, 200);
    let schemas = &document["components"]["schemas"];
    let lease = &schemas["LeaseRequest"];
    assert_eq!((&lease["additionalProperties"], lease["required"].as_array().map(Vec::len)), (&json!(false), Some(6)));
    let cpu = &lease["properties"]["cpu"];
    assert_eq!((&cpu["minimum"], &cpu["maximum"]), (&json!(1), &json!(1024)));
    assert!(lease["properties"]["ttl_s"]["maximum"].is_u64(), "{lease}");
    let paths = document["paths"].as_object().expect("paths");
    let operations = || paths.values().flat_map(|path| path.as_object().expect("methods").values());
    assert_eq!(operations().count(), 10);
    for operation in operations() {
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let content = &response["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{status}: {operation}");
        }
        assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{operation}");
    }
    let of_lease: Vec<&String> =
        paths["/api/v1/vm-pool"]["post"]["responses"].as_object().expect("responses").keys().collect();
    for status in ["400", "401", "403", "406", "408", "409", "410", "413", "415", "422", "429", "501", "503"] {
        assert!(of_lease.iter().any(|known| *known == status), "{status}: {of_lease:?}");
    }
    let text = document.to_string();
    for after in text.split("#/components/schemas/").skip(1) {
        let name = after.split('"').next().unwrap_or("");
        assert!(!schemas[name].is_null(), "{name} leads nowhere");
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], json!("bearer"));
    assert_eq!(paths["/healthz"]["get"]["security"], json!([{}]), "anybody may ask");
    assert_eq!(paths["/api/v1/vm-pool"]["post"]["requestBody"]["required"], json!(true));
}

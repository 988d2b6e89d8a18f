//! Servers that answer without end, slowly, in circles or with a way elsewhere, for each client that speaks HTTP: the
//! command ends soon, with little memory and a clear word, and nobody else hears of a token.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;

use super::Peer;
use super::reads::watched;
use crate::support::project::Project;

/// How a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    EndlessBody,
    DrippingBody,
    EndlessHeaders,
    EndlessHeader,
    EndlessInterim,
    /// A redirect to the same address.
    Loop,
    /// A redirect to another path, each time.
    Chain,
    /// A redirect to somebody else.
    Elsewhere,
    /// A refusal for a very long time.
    Later,
    /// Pages of a list, each of which names a next one.
    Pages,
}

const WAYS: [Way; 10] = [
    Way::EndlessBody,
    Way::DrippingBody,
    Way::EndlessHeaders,
    Way::EndlessHeader,
    Way::EndlessInterim,
    Way::Loop,
    Way::Chain,
    Way::Elsewhere,
    Way::Later,
    Way::Pages,
];

/// Answers until all is said or nobody listens any more.
fn answer(way: Way, elsewhere: &str, request: &str, stream: &TcpStream) -> std::io::Result<()> {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let path = request.split(' ').nth(1).unwrap_or("/");
    let say = |text: &str| {
        let mut stream = stream;
        stream.write_all(text.as_bytes())
    };
    let redirect =
        |to: &str| format!("HTTP/1.1 307 Other\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let again = |first: &str, more: String| {
        say(first)?;
        loop {
            say(&more)?;
        }
    };
    match way {
        Way::EndlessBody => again(&format!("{OK}\r\n"), " ".repeat(1 << 16)),
        Way::EndlessHeaders => again(OK, "X-A: b\r\n".repeat(1000)),
        Way::EndlessHeader => again(&format!("{OK}X-A: "), "a".repeat(1 << 16)),
        Way::EndlessInterim => again("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100)),
        Way::DrippingBody => {
            say(&format!("{OK}Content-Length: 1000000\r\n\r\n"))?;
            loop {
                say(" ")?;
                // How slowly it comes, and nothing that is waited for.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Way::Loop => say(&redirect(path)),
        Way::Chain => say(&redirect(&format!("{path}x"))),
        Way::Elsewhere => say(&redirect(&format!("http://{elsewhere}/stolen"))),
        Way::Later => {
            say("HTTP/1.1 429 Too Many\r\nRetry-After: 999999999\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Way::Pages => {
            let page = path.split("page=").nth(1).and_then(|rest| rest.split('&').next()?.parse::<u64>().ok());
            let next = page.unwrap_or(1) + 1;
            let body = format!(
                "{{\"servers\":[],\"ssh_keys\":[],\"primary_ips\":[],\"leases\":[],\"data\":[],\"next\":\"/?page={next}\",\
                 \"meta\":{{\"pagination\":{{\"next_page\":{next}}}}}}}"
            );
            say(&format!("{OK}Link: <{path}?page={next}>; rel=next\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        }
    }
}

/// What a client is, and how its commands speak of the other side.
struct Client {
    /// Of the workflow; `ADDRESS` is the server's.
    fields: &'static str,
    arguments: &'static [&'static str],
    named: &'static str,
    /// Whether it follows redirects, without a login.
    follows: bool,
    /// Whether it reads lists page by page.
    pages: bool,
}

const SECRETS: [&str; 5] = [
    "hcloud-token-0123456789",
    "pool-token-0123456789-abcdef",
    "00000000-0000-0000-0000-000000000000",
    "the-password-of-a-registry",
    "uthorization",
];

/// The server at its worst, each way at once: most of it is waiting.
fn each_way(client: &Client) {
    std::thread::scope(|scope| {
        for way in WAYS {
            scope.spawn(move || is_outlived(client, way));
        }
    });
}

fn is_outlived(client: &Client, way: Way) {
    let sink = Peer::new(|_, mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let (elsewhere, follows) = (sink.address.clone(), client.follows);
    let server = Peer::new(move |request, mut stream| {
        let has_login = request.to_lowercase().contains("\r\nauthorization: ");
        // A registry asks for a login first.
        let _ = match follows && !has_login && !request.contains("x HTTP/") {
            true => stream.write_all(
                b"HTTP/1.1 401 Login\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            false => answer(way, &elsewhere, request, &stream),
        };
    });
    let project = Project::new();
    project.layer("app", "  build_base = { image = \"scratch\" },", "FROM scratch\nCOPY . /\n");
    let fields = client.fields.replace("ADDRESS", &server.address);
    let text = format!(
        "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", {fields} }} | Workflow\n"
    );
    project.write("workflows/local.ncl", &text);
    let login = base64::engine::general_purpose::STANDARD.encode("user:the-password-of-a-registry");
    let config = serde_json::json!({ "auths": { (server.address.as_str()): { "auth": login } } });
    std::fs::write(project.data().join("config.json"), config.to_string()).expect("writable");
    let mut command = project.command(client.arguments);
    command.env("DOCKER_CONFIG", project.data()).env("LIAN_POOL_TOKEN", SECRETS[1]);
    command.env("HCLOUD_TOKEN", SECRETS[0]).env("HCLOUD_ENDPOINT", format!("http://{}/v1", server.address));
    command.env("PROXMOX_TOKEN", format!("root@pam!t={}", SECRETS[2]));
    let (code, text) = watched(&project, command);
    let named = client.named.replace("ADDRESS", &server.address);
    // Who has nothing, or nothing more, is no fault.
    let has_none = (way == Way::Pages && !client.pages) || (way == Way::Elsewhere && follows);
    let is_sound = has_none && code == 0;
    assert!(is_sound || (code == 4 && text.contains(&named)), "{named}, {way:?}: exit {code}\n{text}");
    let has_login = |request: &String| request.to_lowercase().contains("\r\nauthorization: ");
    assert!(server.heard().iter().any(has_login), "{way:?}: it was not asked with a login\n{text}");
    let word = match way {
        Way::EndlessBody => "bytes",
        Way::DrippingBody | Way::EndlessInterim => "not answer",
        Way::EndlessHeaders | Way::EndlessHeader => "message head is too large",
        Way::Loop | Way::Chain if follows => "too many redirects",
        Way::Loop | Way::Chain => "another address",
        Way::Elsewhere if !follows => "another address",
        Way::Later => "429",
        Way::Elsewhere | Way::Pages => "",
    };
    let line = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(line.contains(word), "{named}, {way:?} does not say `{word}`: {text}");
    let elsewhere = sink.heard();
    assert_eq!(!elsewhere.is_empty(), follows && way == Way::Elsewhere, "{named}, {way:?}: {elsewhere:?}");
    let said = format!("{text}{}", elsewhere.join(""));
    for secret in SECRETS {
        assert!(!said.contains(secret), "{named}, {way:?}: `{secret}` in {said}");
    }
    assert!(elsewhere.iter().all(|request| !request.contains(&server.address)), "whence it came: {elsewhere:?}");
}

#[test]
fn a_cloud_at_its_worst_ends_the_command_and_hears_of_no_token_elsewhere() {
    each_way(&Client {
        fields: "compute_provider = 'hcloud, runners.context_transfer = 'session",
        arguments: &["leases"],
        named: "Hetzner Cloud",
        follows: false,
        pages: true,
    });
}

#[test]
fn a_node_at_its_worst_ends_the_command_and_hears_of_no_token_elsewhere() {
    each_way(&Client {
        fields: "compute_provider = 'proxmox, providers.proxmox = { endpoint = \"http://ADDRESS\", node = \"n\", \
                 template = 100, ids = [5000, 5001] }, runners.context_transfer = 'session",
        arguments: &["leases"],
        named: "Proxmox VE",
        follows: false,
        pages: false,
    });
}

#[test]
fn a_pool_at_its_worst_ends_the_command_and_hears_of_no_token_elsewhere() {
    each_way(&Client {
        fields: "compute_provider = 'vm_pool, providers.vm_pool = { endpoint = \"http://ADDRESS\", workspace = \"w\" }, \
                 runners.context_transfer = 'session",
        arguments: &["leases"],
        named: "pool",
        follows: false,
        pages: false,
    });
}

#[test]
fn a_registry_at_its_worst_ends_the_command_and_hears_of_no_login_elsewhere() {
    each_way(&Client {
        fields: "registry_provider = 'registry, registry = { address = \"ADDRESS/team\", plain_http = true }",
        arguments: &["plan"],
        named: "ADDRESS",
        follows: true,
        pages: false,
    });
}

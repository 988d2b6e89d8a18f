//! What a stranger's names, files and steps write to a screen, a log and a CI.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::pool::client;
use crate::support::project::{Project, Ran};

const SECRET: &str = "planted?secret-VALUE";
const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// What a step writes: a secret byte by byte, in Base64, commands to a CI, a title, moves of the cursor, and a colour.
const STEP: &str = r#"FROM base.example/busybox:1
RUN --mount=type=secret,id=token <<'EOF'
s=$(cat /run/secrets/token)
printf 'bytes '
while [ -n "$s" ]; do printf '%s' "${s%"${s#?}"}"; s=${s#?}; usleep 5000; done
echo
printf 'user:%s' "$(cat /run/secrets/token)" | base64
printf '::error::from a step\n  ::stop-commands::x\n##[error]x\n##vso[task.complete]x\n'
printf '\033]0;title\007\033[2J\033[31mred\n\302\2332J\302\205::error::x\342\200\256\n10%%\r20%%\n'
printf '::error::last line' >&2
exit 7
EOF
"#;

/// Asserts that nothing in an output commands a terminal or a CI, or is the secret.
#[track_caller]
fn commands_nobody(output: &str, colours: bool) {
    let mut text = output.replace("\r\n", "\n");
    if colours {
        for number in ["0", "1", "2", "31", "32", "33", "36", "31;1", "33;1", "35;1", "36;1;4"] {
            text = text.replace(&format!("\u{1b}[{number}m"), "");
        }
    }
    let odd = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || "\u{2028}\u{2029}\u{202e}".contains(*c);
    assert_eq!(text.chars().find(odd), None, "{output:?}");
    for line in text.lines() {
        let obeyed = line.trim_start().starts_with("::") || ["##[", "##vso["].iter().any(|word| line.contains(word));
        assert!(!obeyed, "{line:?} in {output:?}");
    }
    for value in [SECRET, "cGxhbnRlZD9zZWNyZXQtVkFMVU", "bnRlZD9zZWNyZXQ", "ZD9zZWNyZXQtVkFM"] {
        assert!(!output.contains(value), "{value} in {output}");
    }
}

fn run(project: &Project, arguments: &[&str]) -> Ran {
    let ran: Ran = project.command(arguments).env("PRINT_TEST_TOKEN", SECRET).output().expect("it starts").into();
    commands_nobody(&ran.stdout, false);
    commands_nobody(&ran.stderr, false);
    ran
}

/// The same, and no value began a line of its own.
fn run_in_lines(project: &Project, arguments: &[&str]) -> Ran {
    let ran = run(project, arguments);
    let broken = ran.both().lines().any(|line| line.trim_start_matches([' ', '│', '·']).starts_with("\\::"));
    assert!(!broken, "{}", ran.both());
    ran
}

/// The same on a terminal with colours.
fn on_a_terminal(project: &Project, arguments: &[&str]) -> String {
    super::on_a_terminal(project.command(arguments).env_remove("NO_COLOR"), "").1
}

#[test]
fn what_a_step_writes_commands_nobody_and_holds_no_secret() {
    let project = Project::with_base();
    let secret = "  secrets = [{ id = \"token\", env = \"PRINT_TEST_TOKEN\", required = true }],";
    project.layer("app", &format!("{BASE}\n{secret}"), STEP);
    let ran = run(&project, &["apply", "-vv"]).exits(1);
    assert!(ran.stderr.contains("bytes ***") && ran.both().contains("::error::last line"), "{}", ran.both());
    run(&project, &["apply", "--format", "json"]).exits(1);
    run(&project, &["runs"]).exits(0);
    let log = run(&project, &["logs", "latest", "app"]).exits(0).stdout;
    let bytes = log.lines().find(|line| line.contains("bytes ")).expect("a line");
    assert!(bytes.ends_with("bytes ***") && log.contains("[stage-0 1/2] 20%\n"), "{log}");
    assert!(log.contains("\\u{9b}2J\\u{85}::error::x\\u{202e}") && log.contains("#\\#vso[task"), "{log}");
    run(&project, &["logs", "--format", "json"]).exits(0);
    let raw = project.lian(&["logs", "--raw", "latest", "app"]).exits(0).stdout;
    assert!(raw.contains("\u{1b}[2J") && raw.contains("bytes ***"), "{raw:?}");
    let seen = on_a_terminal(&project, &["logs", "latest", "app"]);
    commands_nobody(&seen, true);
    assert!(seen.contains("\u{1b}[31mred\u{1b}[0m"), "{seen:?}");
}

#[test]
fn what_a_catalog_names_commands_nobody() {
    let evil = "x\\n::error::y\\n##vso[task]\\u{1b}[2J\\u{202e}\\r::z";
    let named = Project::new();
    named.layer("app", &format!("  build_base = \"{evil}\","), "FROM scratch\n");
    let image = Project::new();
    image.layer("app", &format!("  build_base = {{ image = \"{evil}\" }},"), "FROM scratch\n");
    let file = Project::new();
    let words =
        "FROM base.example/busybox:1\n\u{1b}[2JEVIL \u{1b}]0;x\u{7}\u{9b}2J\rx\n::error::x y\n##[error]\nEVIL x\n";
    file.layer("app", BASE, words);
    for project in [&named, &image, &file] {
        for command in ["check", "plan", "apply"] {
            for format in ["text", "json"] {
                let ran = run_in_lines(project, &[command, "--format", format]);
                assert_ne!(ran.code, 0, "{}", ran.both());
            }
        }
        commands_nobody(&on_a_terminal(project, &["check"]), true);
    }
}

#[test]
fn what_is_typed_commands_nobody() {
    let project = Project::new();
    project.layer("app", BASE, "FROM base.example/busybox:1\n");
    let evil = "x\n::error::y\u{1b}[2J";
    let flag = format!("--{evil}");
    for arguments in [&[evil] as &[&str], &["plan", "--target", evil], &["logs", evil], &["plan", &flag]] {
        assert_ne!(run(&project, arguments).code, 0, "{arguments:?}");
    }
}

/// A pool that is hostile in every word of its answers; returns its address.
fn hostile_pool(evil: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let offer = |currency: &str| {
        serde_json::json!({
            "runner_type": evil, "cpu": 8, "memory_gb": 32, "platform": "linux/amd64",
            "price": { "currency": currency, "hourly_micros": 1000 },
        })
    };
    let lease = serde_json::json!({
        "lease_id": evil, "idempotency_key": evil, "runner_type": evil, "address": evil, "state": evil,
        "created_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
    });
    let offers = serde_json::json!({ "offers": [offer(evil)] }).to_string();
    let leases = serde_json::json!({ "leases": [lease], "workspaces": ["w"] }).to_string();
    let refusal = serde_json::json!({ "error": { "code": evil, "message": evil, "help": evil } }).to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 16 * 1024];
            let read = stream.read(&mut head).unwrap_or(0);
            let (status, body) = match &head[..read] {
                head if head.starts_with(b"GET /api/v1/offers") => ("200 OK", &offers),
                head if head.starts_with(b"GET") => ("200 OK", &leases),
                _ => ("403 Forbidden", &refusal),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn what_a_pool_answers_commands_nobody() {
    let project =
        client(&hostile_pool("x\n::error::y\r\u{1b}]0;t\u{7}\u{1b}[2J##[error]\u{9b}2J\u{202e}\u{2028}::z"), "");
    project.layer("app", BASE, "FROM base.example/busybox:1\n");
    let plan = run_in_lines(&project, &["plan"]);
    assert!(plan.stdout.contains("x\\n::error::y\\r\\x1b]0;t"), "{}", plan.both());
    commands_nobody(&on_a_terminal(&project, &["plan"]), true);
    let leases = run_in_lines(&project, &["leases"]);
    assert!(leases.stdout.contains("x\\n::error::y\\r\\x1b]0;t"), "{}", leases.both());
    let refused = run_in_lines(&project, &["apply"]);
    assert!(refused.code == 5 && refused.both().contains("x\\n::error::y\\r\\x1b]0;t"), "{}", refused.both());
    for arguments in [&["plan"] as &[&str], &["apply"], &["leases"], &["leases", "gc"], &["doctor"], &["gc"]] {
        run_in_lines(&project, &[arguments, &["--format", "json"]].concat());
    }
    for arguments in [&["leases", "gc"] as &[&str], &["doctor"], &["runs"], &["logs"]] {
        run_in_lines(&project, arguments);
    }
}

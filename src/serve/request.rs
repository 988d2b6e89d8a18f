//! Parses request bodies from JSON and reports all faults at once. Not responsible for: whether such a machine
//! exists.

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::domain::base::Platform;

/// Shortest lifetime of a lease, in seconds.
pub const MIN_TTL_S: u64 = 60;

const FIELDS: [&str; 6] = ["workspace", "cpu", "memory_gb", "platform", "ttl_s", "ssh_public_key"];
const KEY_KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A valid request for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Workspace that the lease belongs to.
    pub workspace: String,
    /// Minimum number of virtual CPUs.
    pub cpu: u32,
    /// Minimum memory, in GB.
    pub memory_gb: u32,
    /// `linux/amd64` or `linux/arm64`.
    pub platform: Platform,
    /// Lifetime, in seconds.
    pub ttl_s: u64,
    /// SSH key that may log in: type and key, without comment.
    pub ssh_public_key: String,
}

/// Whether a workspace or token name is valid as a cloud label: 1 to 63 of `[A-Za-z0-9._-]`.
pub fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=63).contains(&text.len()) && text.chars().all(sound) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Parses a lease request.
pub fn read_wish(body: &[u8], max_ttl_s: u64) -> Result<LeaseRequest, Problem> {
    let fields = object(body)?;
    let mut faults = unknown(&fields, &FIELDS);
    let workspace = text(&fields, "workspace", &mut faults);
    if !workspace.is_empty() && !is_name(workspace) {
        faults.push("workspace: 1 to 63 letters, digits, `.`, `_` or `-` are expected".to_owned());
    }
    let cpu = number(&fields, "cpu", 1, 1024, &mut faults);
    let memory_gb = number(&fields, "memory_gb", 1, 65_536, &mut faults);
    let platform = text(&fields, "platform", &mut faults);
    if !platform.is_empty() && !matches!(platform, "linux/amd64" | "linux/arm64") {
        faults.push("platform: `linux/amd64` or `linux/arm64` is expected".to_owned());
    }
    let ttl_s = number(&fields, "ttl_s", MIN_TTL_S.min(max_ttl_s), max_ttl_s, &mut faults);
    let key = text(&fields, "ssh_public_key", &mut faults);
    let ssh_public_key = if key.is_empty() { None } else { public_key(key) };
    if !key.is_empty() && ssh_public_key.is_none() {
        faults.push("ssh_public_key: one line such as `ssh-ed25519 AAAA…` is expected".to_owned());
    }
    if !faults.is_empty() {
        return Err(invalid(&faults));
    }
    let narrow = |number: u64| u32::try_from(number).expect("invariant: the range was checked");
    Ok(LeaseRequest {
        workspace: workspace.to_owned(),
        cpu: narrow(cpu),
        memory_gb: narrow(memory_gb),
        platform: platform.into(),
        ttl_s,
        ssh_public_key: ssh_public_key.unwrap_or_default(),
    })
}

/// Parses a renewal: the new lifetime, in seconds from now.
pub fn read_renewal(body: &[u8], max_ttl_s: u64) -> Result<u64, Problem> {
    let fields = object(body)?;
    let mut faults = unknown(&fields, &["ttl_s"]);
    let ttl_s = number(&fields, "ttl_s", MIN_TTL_S.min(max_ttl_s), max_ttl_s, &mut faults);
    if faults.is_empty() { Ok(ttl_s) } else { Err(invalid(&faults)) }
}

fn invalid(faults: &[String]) -> Problem {
    Problem::new(422, "invalid", faults.join("; "), "correct these fields; /api/v1/openapi.json describes them")
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let help = "send a JSON object; /api/v1/openapi.json describes it";
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::new(400, "malformed", "the body is not a JSON object", help)),
        Err(error) => Err(Problem::new(400, "malformed", format!("the body is not JSON: {error}"), help)),
    }
}

fn unknown(fields: &Map<String, Value>, known: &[&str]) -> Vec<String> {
    let shown = |name: &str| name.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
    let strangers = fields.keys().filter(|name| !known.contains(&name.as_str()));
    strangers.map(|name| format!("{}: there is no such field", shown(name))).collect()
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str, faults: &mut Vec<String>) -> &'a str {
    match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => text,
        None => {
            faults.push(format!("{name}: it is missing"));
            ""
        }
        Some(_) => {
            faults.push(format!("{name}: a text is expected"));
            ""
        }
    }
}

fn number(fields: &Map<String, Value>, name: &str, least: u64, most: u64, faults: &mut Vec<String>) -> u64 {
    match fields.get(name).map(Value::as_u64) {
        Some(Some(number)) if (least..=most).contains(&number) => return number,
        None => faults.push(format!("{name}: it is missing")),
        Some(_) => faults.push(format!("{name}: a whole number from {least} to {most} is expected")),
    }
    least
}

/// Type and key of a public key line. Drops the comment, which must not reach the machine's boot script.
fn public_key(line: &str) -> Option<String> {
    if line.len() > 8192 || line.chars().any(char::is_control) {
        return None;
    }
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let (kind, encoded) = (words.next()?, words.next()?);
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    // The key repeats its type, prefixed by its length in four bytes.
    let (length, rest) = decoded.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let sound = rest.len() > length && rest[..length] == *kind.as_bytes();
    (KEY_KINDS.contains(&kind) && sound).then(|| format!("{kind} {encoded}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb me@here";

    #[test]
    fn a_sound_wish_is_read_and_a_keys_comment_is_left_out() {
        let body = format!(
            r#"{{"workspace":"w","cpu":2,"memory_gb":4,"platform":"linux/arm64","ttl_s":600,"ssh_public_key":"{KEY}"}}"#
        );
        let lease_request = read_wish(body.as_bytes(), 3600).expect("sound");
        assert_eq!((lease_request.cpu, lease_request.ttl_s), (2, 600));
        assert_eq!(lease_request.ssh_public_key, KEY.trim_end_matches(" me@here"));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let body = br#"{"workspace":"a b","cpu":0,"memory_gb":1.5,"platform":"windows","ttl_s":3601,"ssh_public_key":"ssh-ed25519 AAAA","extra":1}"#;
        let problem = read_wish(body, 3600).expect_err("faulty");
        assert_eq!((problem.status, problem.code.as_str()), (422, "invalid"));
        for field in ["workspace", "cpu", "memory_gb", "platform", "ttl_s", "ssh_public_key", "extra"] {
            assert!(problem.message.contains(&format!("{field}: ")), "{field}: {}", problem.message);
        }
        let missing = read_wish(b"{}", 3600).expect_err("empty").message;
        assert_eq!(missing.matches("it is missing").count(), 6, "{missing}");
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in [&b""[..], b"[]", b"{", b"\xff"] {
            assert_eq!(read_wish(body, 3600).expect_err("malformed").status, 400);
        }
        assert_eq!(read_renewal(br#"{"ttl_s":60}"#, 3600), Ok(60));
        assert_eq!(read_renewal(br#"{"ttl_s":1}"#, 3600).expect_err("too short").status, 422);
    }

    #[test]
    fn a_key_that_smuggles_is_refused() {
        let base = KEY.trim_end_matches(" me@here");
        for key in
            [format!("{base}\nssh-rsa x"), format!("command=\"x\" {base}"), base.replace("ssh-ed25519", "ssh-rsa")]
        {
            assert_eq!(public_key(&key), None, "{key}");
        }
    }
}

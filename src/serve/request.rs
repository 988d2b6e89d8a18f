//! What callers send: bodies from JSON, with all faults at once. Not responsible for: whether such a machine exists.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::fields::{Field, FieldFault, Kind, checked};
use super::json::object;
use super::problem::Problem;
use crate::domain::base::Platform;

/// Shortest lifetime of a lease, in seconds.
const MIN_TTL_S: u64 = 60;
/// A public key for examples; its private half was thrown away.
const EXAMPLE_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb";

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

/// The fields of a request for a machine, where no lease lives longer than this.
pub(super) fn lease_fields(max_ttl_s: u64) -> [Field; 6] {
    let field = |name, about, kind, example| Field { name, about, kind, example };
    let whole = |most| Kind::Whole { least: 1, most };
    [
        field("workspace", "The workspace that the lease belongs to", Kind::Name, json!("acme")),
        field("cpu", "At least so many virtual CPUs", whole(1024), json!(2)),
        field("memory_gb", "At least so much memory, GB", whole(65_536), json!(4)),
        field("platform", "The platform of the machine", Kind::Platform, json!("linux/amd64")),
        ttl(max_ttl_s, "For how long, seconds"),
        field("ssh_public_key", "Who may log in: a key, not a certificate", Kind::SshKey, json!(EXAMPLE_KEY)),
    ]
}

/// The fields of a renewal, where no lease lives longer than this.
pub(super) fn renewal_fields(max_ttl_s: u64) -> [Field; 1] {
    [ttl(max_ttl_s, "For how long from now, seconds")]
}

fn ttl(most: u64, about: &'static str) -> Field {
    let least = MIN_TTL_S.min(most);
    Field { name: "ttl_s", about, kind: Kind::Whole { least, most }, example: json!(600.min(most)) }
}

/// Parses a lease request.
pub fn read_wish(body: &[u8], max_ttl_s: u64) -> Result<LeaseRequest, Problem> {
    let fields = read(&lease_fields(max_ttl_s), body)?;
    Ok(serde_json::from_value(Value::Object(fields)).expect("invariant: the fields were checked"))
}

/// Parses a renewal: the new lifetime, in seconds from now.
pub fn read_renewal(body: &[u8], max_ttl_s: u64) -> Result<u64, Problem> {
    let fields = read(&renewal_fields(max_ttl_s), body)?;
    Ok(fields["ttl_s"].as_u64().expect("invariant: the fields were checked"))
}

fn read(table: &[Field], body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let help = "send a JSON object; /api/v1/openapi.json describes it";
    let fields = object(body).map_err(|why| Problem::new(400, "malformed", why, help))?;
    checked(table, &fields).map_err(invalid)
}

fn invalid(faults: Vec<FieldFault>) -> Problem {
    let told: Vec<String> = faults.iter().take(20).map(|fault| format!("{}: {}", fault.field, fault.what)).collect();
    let help = "correct these fields; /api/v1/openapi.json describes them";
    Problem { faults, ..Problem::new(422, "invalid", told.join("; "), help) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb me@here";

    #[test]
    fn a_sound_wish_is_read_and_a_keys_comment_is_left_out() {
        let body = format!(
            r#"{{"workspace":"w","cpu":2.0,"memory_gb":4,"platform":"linux/arm64","ttl_s":600,"ssh_public_key":"{KEY}"}}"#
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
            assert!(problem.faults.iter().any(|fault| fault.field == field), "{field}");
        }
        let missing = read_wish(b"{}", 3600).expect_err("empty").message;
        assert_eq!(missing.matches("it is missing").count(), 6, "{missing}");
        for number in ["-1", "1e300", "18446744073709551616", "4294967298", "\"60\"", "null", "true", "[60]"] {
            let problem = read_renewal(format!("{{\"ttl_s\":{number}}}").as_bytes(), 3600).expect_err(number);
            assert_eq!(problem.status, 422, "{number}");
        }
    }

    #[test]
    fn every_example_is_one_that_is_taken() {
        let examples =
            |table: &[Field]| table.iter().map(|field| (field.name.to_owned(), field.example.clone())).collect();
        let lease: Map<String, Value> = examples(&lease_fields(300));
        assert!(checked(&lease_fields(300), &lease).is_ok(), "{lease:?}");
        let renewal: Map<String, Value> = examples(&renewal_fields(30));
        assert!(checked(&renewal_fields(30), &renewal).is_ok(), "{renewal:?}");
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in [&b""[..], b"[]", b"{", b"\xff"] {
            assert_eq!(read_wish(body, 3600).expect_err("malformed").status, 400);
        }
        assert_eq!(read_renewal(br#"{"ttl_s":60}"#, 3600), Ok(60));
        assert_eq!(read_renewal(br#"{"ttl_s":1}"#, 3600).expect_err("too short").status, 422);
    }
}

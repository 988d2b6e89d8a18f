//! Names and labels that mark our objects. Not responsible for: objects that lack any of them (not ours).

use super::model::Labels;
use crate::domain::base::{Digest, Timestamp};
use crate::domain::model::Fault;
use crate::domain::ports::AcquireRequest;
use crate::system::RemoteTime;

/// Label of everything that lian-build creates.
pub(super) const MARK: &str = "lian";
pub(super) const OWNER: &str = "lian-owner";
pub(super) const RUN: &str = "lian-run";
pub(super) const LEASE: &str = "lian-lease";
/// Label with the expiry by the API's clock, Unix seconds.
pub(super) const EXPIRES: &str = "lian-expires";
/// Label with the server's host key: a server created with another key is unreachable.
pub(super) const HOST_KEY: &str = "lian-host-key";

/// Maximum length of names and label values.
const LONGEST: usize = 63;

/// A text as a label value: unchanged if valid, otherwise readable and unique.
pub(super) fn value(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    fitted(text, &text.chars().map(safe).collect::<String>())
}

/// The name of a lease's server and key; a valid host name (RFC 1123).
pub(super) fn server(owner: &str, lease: &str) -> String {
    let whole = format!("lian-{owner}-{lease}");
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    fitted(&whole, &whole.chars().map(safe).collect::<String>())
}

/// The sanitized text; adds a digest of the original if the two differ or it is too long.
fn fitted(original: &str, safe: &str) -> String {
    let trimmed = |text: &str| text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let whole = trimmed(safe);
    if whole == original && (1..=LONGEST).contains(&whole.len()) {
        return whole;
    }
    let digest = Digest::of(original);
    let digest = &digest.hex()[..8];
    let head = trimmed(&whole[..whole.len().min(LONGEST - 9)]);
    if head.is_empty() { digest.to_owned() } else { format!("{head}-{digest}") }
}

/// The labels of all objects of a lease.
pub(super) fn labels(
    settings: &Labels,
    owner: &str,
    request: &AcquireRequest,
    expires: RemoteTime,
    host_key: &str,
) -> Labels {
    let ours = [
        (MARK, "1".to_owned()),
        (OWNER, value(owner)),
        (RUN, value(request.run.as_str())),
        (LEASE, value(request.lease.as_str())),
        (EXPIRES, expires.0.0.div_ceil(1000).to_string()),
        (HOST_KEY, Digest::of(host_key).hex()[..16].to_owned()),
    ];
    let mut labels = settings.clone();
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    labels
}

/// Whether a label's key is one of ours.
pub(super) fn is_ours(key: &str) -> bool {
    key == MARK || key.starts_with("lian-")
}

/// Whether an object has all of our labels as they were asked for.
pub(super) fn are_kept(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().filter(|(key, _)| is_ours(key)).all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether labels belong to an owner's lease.
pub(super) fn are_of(labels: &Labels, owner: &str, lease: &str) -> bool {
    let is = |key: &str, wanted: &str| labels.get(key).is_some_and(|value| value == wanted);
    is(MARK, "1") && is(OWNER, owner) && is(LEASE, lease)
}

/// The expiry in the labels.
pub(super) fn expires(labels: &Labels) -> Option<RemoteTime> {
    let seconds: u64 = labels.get(EXPIRES)?.parse().ok()?;
    Some(RemoteTime(Timestamp(seconds.saturating_mul(1000))))
}

/// Rejects a workflow's labels that the API would reject or that collide with ours.
pub(super) fn check(labels: &Labels) -> Result<(), Fault> {
    for (key, text) in labels {
        let (prefix, name) = key.split_once('/').unwrap_or(("x", key));
        let fits = !name.is_empty() && value(name) == name && !prefix.is_empty() && value(prefix) == prefix;
        if is_ours(key) || !fits || !(text.is_empty() || value(text) == *text) {
            let message = format!("`{key}: {text}` cannot be a label of servers");
            return Err(Fault::configuration("lian::hcloud::label", message).help(
                "in `providers.hcloud.labels`, write at most 63 letters, digits, dots, dashes and underscores, a letter \
                 or digit at both ends, and no key that begins with `lian-`",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_names_and_no_two_are_alike() {
        assert_eq!(server("ann", "1a2b3c4d-1"), "lian-ann-1a2b3c4d-1");
        let long = server(&"x".repeat(80), "1");
        assert_eq!(long.len(), LONGEST);
        let names = [server("A", "1"), server("a", "1"), server("a_", "1"), server("ü", "1"), long];
        for name in &names {
            let fits = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            assert!(fits && name.len() <= LONGEST && !name.ends_with('-'), "{name}");
        }
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn values_are_the_same_where_they_can_be() {
        assert_eq!(value("1a2b3c4d-1"), "1a2b3c4d-1");
        for text in ["ann@host", "-a", "", "ä", &"y".repeat(64)] {
            let once = value(text);
            assert!(once.len() <= LONGEST && once.is_ascii() && !once.is_empty(), "{once}");
            assert_eq!(value(&once), once);
        }
        assert_ne!(value("a b"), value("a/b"));
    }

    #[test]
    fn labels_that_cannot_be_are_refused() {
        let labels = |key: &str, text: &str| Labels::from([(key.to_owned(), text.to_owned())]);
        for (key, text) in [("team", "build"), ("example.org/team", ""), ("a", "A.b_c-d")] {
            check(&labels(key, text)).expect("a label");
        }
        for (key, text) in [("lian", "1"), ("lian-owner", "x"), ("team", "a b"), ("", "x"), ("/x", "x"), ("-x", "x")] {
            assert_eq!(check(&labels(key, text)).expect_err("no label").code, "lian::hcloud::label", "{key}");
        }
    }
}

//! The marks that identify our machines: name, tags, description and id. Not responsible for: API requests.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::domain::base::{Digest, LeaseId, RunId};
use crate::system::RemoteTime;

/// Tag of every machine that lian-build creates.
pub(super) const TAG: &str = "lian";

/// How many ids to try before the range counts as full.
const IDS: u32 = 32;

/// Content of a machine's description, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) lease: LeaseId,
    pub(super) run: RunId,
    pub(super) owner: String,
    /// By the node's clock, as what is below.
    pub(super) expires: RemoteTime,
    #[serde(default)]
    pub(super) created: Option<RemoteTime>,
}

impl Mark {
    /// Parses a description; `None` if it is not ours.
    pub(super) fn read(description: &str) -> Option<Self> {
        serde_json::from_str(description.trim()).ok()
    }

    /// Serializes to a description.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("invariant: texts and numbers are JSON")
    }

    /// The name that the machine must have.
    pub(super) fn name(&self) -> String {
        name(&self.owner, &self.lease)
    }
}

/// A DNS label: lower-case letters, digits and dashes.
fn label(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(safe).collect()
}

/// A machine's name: at most 63 characters; a truncated name ends in a digest of the full one.
pub(super) fn name(owner: &str, lease: &LeaseId) -> String {
    let whole = label(&format!("lian-{owner}-{lease}"));
    if whole.len() <= 63 {
        return whole.trim_end_matches('-').to_owned();
    }
    format!("{}-{}", whole[..50].trim_end_matches('-'), Digest::of(&whole).short())
}

/// Whether a name may belong to a lease's machine, of any owner.
pub(super) fn could_be(name: &str, lease: &LeaseId) -> bool {
    let end = label(lease.as_str());
    name.starts_with("lian-") && (name.ends_with(end.trim_end_matches('-')) || name.len() > 50)
}

/// The tags of an owner's machines.
pub(super) fn tags(owner: &str) -> [String; 2] {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let owner: String = owner.chars().take(50).map(safe).collect();
    [TAG.to_owned(), format!("{TAG}-{owner}")]
}

/// Ids for the clone, in the order to try them. Pseudorandom, but fixed per lease, so that a retry after a
/// lost response finds the machine.
pub(super) fn ids((first, last): (u32, u32), template: u32, lease: &LeaseId) -> Vec<u32> {
    let (first, last) = (first.min(last), first.max(last));
    let count = last - first + 1;
    let seed = u64::from_str_radix(&Digest::of(lease.as_str()).hex()[..15], 16).unwrap_or(0);
    let start = u32::try_from(seed % u64::from(count)).unwrap_or(0);
    let nth = |step: u32| first + u32::try_from((u64::from(start) + u64::from(step)) % u64::from(count)).unwrap_or(0);
    (0..count.min(IDS)).map(nth).filter(|id| *id != template).collect()
}

/// Percent-encodes all but letters, digits and `-._~`, as `sshkeys` and task ids require.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Timestamp;

    #[test]
    fn names_are_dns_labels_and_long_ones_stay_apart() {
        assert_eq!(name("Ana's laptop", &LeaseId::from("7f3-1")), "lian-ana-s-laptop-7f3-1");
        let long = |end: &str| name(&"o".repeat(60), &LeaseId::from(end));
        assert_ne!(long("1"), long("2"));
        assert!(long("1").len() <= 63 && could_be(&long("1"), &LeaseId::from("1")));
        assert!(could_be("lian-other-7f3-1", &LeaseId::from("7f3-1")));
        assert!(!could_be("web-7f3-1", &LeaseId::from("7f3-1")));
        assert_eq!(tags("Ana's laptop"), ["lian", "lian-ana-s-laptop"]);
    }

    #[test]
    fn ids_stay_in_their_range_and_are_the_leases_own() {
        let all = |lease: &str| ids((900, 909), 903, &LeaseId::from(lease));
        let mut sorted = all("a");
        sorted.sort_unstable();
        assert_eq!(sorted, [900, 901, 902, 904, 905, 906, 907, 908, 909]);
        assert_eq!(all("a"), all("a"));
        assert!((0..20).any(|n| all(&n.to_string())[0] != all("a")[0]));
        assert_eq!(ids((5000, 9000), 1, &LeaseId::from("a")).len(), 32);
        assert!(ids((7, 7), 7, &LeaseId::from("a")).is_empty());
    }

    #[test]
    fn a_description_is_read_back_and_others_are_not() {
        let (lease, run, owner) = (LeaseId::from("r-1"), RunId::from("r"), "me".to_owned());
        let mark = Mark { lease, run, owner, expires: RemoteTime(Timestamp(7)), created: None };
        assert_eq!(Mark::read(&format!("{}\n", mark.text())), Some(mark));
        assert_eq!(Mark::read("qmclone temporary file\n"), None);
        assert_eq!(percent("ssh-ed25519 AA+/=\n"), "ssh-ed25519%20AA%2B%2F%3D%0A");
    }
}

//! What is wrong with the API for a while, request after request. Not responsible for: single faults (see `faults`).

use std::collections::BTreeMap;
use std::time::Duration;

/// What an API, a proxy or a colleague does to labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LabelTrouble {
    /// They are kept.
    #[default]
    Kept,
    /// They are dropped before anything is made: the create's answer lacks them.
    Dropped,
    /// They are gone once the create is answered.
    Forgotten,
}

/// What is wrong; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    /// What happens to the labels of what is made from now on.
    pub labels: LabelTrouble,
    /// How long lists do not show what was made.
    pub lag: Duration,
    /// How long a server is locked by its first action, which runs as long.
    pub locked: Duration,
    /// Lists that fail: `primary_ips` with a status and a code.
    pub lists: BTreeMap<&'static str, (u16, &'static str)>,
}

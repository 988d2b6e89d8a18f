//! What is known of the hosts' health, and how long a host that cannot be used is waited for. Not responsible for: probing
//! hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::SshHost;
use crate::domain::model::{Fault, FaultClass, FaultKind};

/// How long a host that was found unusable is looked at last.
const MEMORY: Duration = Duration::from_secs(15);
/// How long hosts that were never used are waited for: fixed hosts do not boot, but sshd or a daemon may be starting.
const STARTING: Duration = Duration::from_secs(12);

/// The hosts' health, by address and port.
#[derive(Default)]
pub(super) struct Health {
    /// When a host was found unusable, and for what.
    ill: Mutex<BTreeMap<String, (Instant, String)>>,
    /// Hosts that were used: one that worked once may come back.
    proven: Mutex<BTreeSet<String>>,
}

impl Health {
    /// Whether the host was found unusable a moment ago.
    pub(super) fn is_ill(&self, host: &SshHost) -> bool {
        locked(&self.ill).get(&name(host)).is_some_and(|(seen, _)| seen.elapsed() < MEMORY)
    }

    /// The host is used now.
    pub(super) fn is_well(&self, host: &SshHost) {
        locked(&self.ill).remove(&name(host));
        locked(&self.proven).insert(name(host));
    }

    /// The host cannot be used. Says so once for each reason where there are others.
    pub(super) fn is_unusable(&self, host: &SshHost, fault: &Fault, others: bool) {
        let told = locked(&self.ill).insert(name(host), (Instant::now(), fault.code.clone()));
        if others && told.is_none_or(|(_, code)| code != fault.code) {
            tracing::warn!("a host is passed over: {}", fault.message);
        }
    }

    /// How long it is worth to wait for one of these hosts, all that fit and none of them usable.
    pub(super) fn patience(&self, all: &[(SshHost, Fault)], boot_timeout: Duration) -> Duration {
        if all.iter().all(|(_, fault)| fault.class().is_refusal()) {
            return Duration::ZERO;
        }
        if self.any_proven(all) { boot_timeout.max(STARTING) } else { STARTING }
    }

    /// The fault of these hosts. Another try may help only if one of them worked before.
    pub(super) fn fault(&self, mut all: Vec<(SshHost, Fault)>) -> Fault {
        let refused = all.iter().all(|(_, fault)| fault.class().is_refusal());
        let class = match self.any_proven(&all) {
            _ if refused => None,
            true => Some(FaultClass::Infrastructure),
            false => Some(FaultClass::Unavailable),
        };
        let fault = if all.len() == 1 { all.remove(0).1 } else { of_all(&all) };
        match class {
            Some(class) => fault.with_class(class),
            None => fault,
        }
    }

    fn any_proven(&self, all: &[(SshHost, Fault)]) -> bool {
        let proven = locked(&self.proven);
        all.iter().any(|(host, _)| proven.contains(&name(host)))
    }
}

/// One fault for several hosts.
fn of_all(all: &[(SshHost, Fault)]) -> Fault {
    let causes: Vec<String> = all.iter().map(|(host, fault)| format!("{}: {}", host.address, fault.message)).collect();
    let message = format!("none of the {} hosts that fit can be used: {}", all.len(), causes.join("; "));
    let fault = Fault::new(FaultKind::Unavailable, "lian::providers::no_usable_host", message);
    match all.iter().find_map(|(_, fault)| fault.help.clone()) {
        Some(help) => fault.help(help),
        None => fault,
    }
}

fn name(host: &SshHost) -> String {
    format!("{}:{}", host.address, host.port)
}

fn locked<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

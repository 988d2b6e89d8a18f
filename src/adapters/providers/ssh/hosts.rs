//! Leases the workflow's hosts by locking them. Not responsible for: how a host is probed (see `HostProbe`).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::health::Health;
use super::local_lock::{self, Note, Seen};
use super::settings::{SshHost, SshSettings};
use super::waiting::Waiting;
use crate::adapters::providers::host_probe::{Availability, HostProbe};
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{
    AcquireRequest, ComputeProvider, Endpoint, Gone, Held, Holder, Lease, LeaseRecord, Offer, OwnedLease, OwnedLeases,
    SshTarget,
};
use crate::system::retry::Backoff;
use crate::system::{lock, now};

/// Poll interval while all hosts are locked.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest poll interval when hosts are probed over the network.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Provider of the workflow's fixed hosts.
pub struct Ssh {
    hosts: Vec<SshHost>,
    folder: PathBuf,
    held: Mutex<BTreeMap<LeaseId, File>>,
    probe: Option<Arc<dyn HostProbe>>,
    health: Health,
    boot_timeout: Duration,
}

/// What a search for a host finds.
enum Search {
    /// This one is locked now.
    Locked(Box<SshHost>, File),
    /// Those that fit are leased, and will come free; who holds each, by its address.
    Taken(Vec<(String, Held)>),
    /// All that fit cannot be used.
    Unusable(Vec<(SshHost, Fault)>),
}

impl Ssh {
    /// Uses these hosts and keeps their locks in a folder that all runs of this user share.
    pub fn new(settings: SshSettings, folder: impl Into<PathBuf>) -> Self {
        let mut hosts = settings.hosts;
        hosts.sort_by_key(|host| (host.memory_gb, host.cpu));
        let (folder, health) = (folder.into(), Health::default());
        Self { hosts, folder, held: Mutex::default(), probe: None, health, boot_timeout: Duration::ZERO }
    }

    /// Probes each host before leasing it to a run on this machine. A service skips this for its clients: it has no
    /// key to log in with, and the clients check for themselves.
    #[must_use]
    pub fn asking(mut self, probe: Arc<dyn HostProbe>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Waits this long for a host to come back that was used before, as long as for a machine that boots.
    #[must_use]
    pub fn waiting(mut self, boot_timeout: Duration) -> Self {
        self.boot_timeout = boot_timeout;
        self
    }

    /// Locks the smallest host that fits, is free and is well. One that is not well is passed over.
    async fn lock(&self, request: &AcquireRequest) -> Result<Search, Fault> {
        let fits = |host: &&SshHost| {
            let large = host.cpu >= request.size.cpu && host.memory_gb >= request.size.memory_gb;
            large && host.platform == request.platform
        };
        let mut fitting: Vec<&SshHost> = self.hosts.iter().filter(fits).collect();
        if fitting.is_empty() {
            return Err(self.none_fits(request));
        }
        // Those that were just found unusable come last: each costs seconds.
        fitting.sort_by_key(|host| self.health.is_ill(host));
        let (mut taken, mut unusable) = (Vec::new(), Vec::new());
        for &host in &fitting {
            let file = self.open(host).map_err(|error| here(&error))?;
            let locked =
                lock::try_exclusive(&file).and_then(|free| Ok(free && lock::is_at(&file, &self.lock_file(host))?));
            if !locked.map_err(|error| here(&error))? {
                taken.push((host.address.clone(), self.held_here(host)));
                continue;
            }
            // What an earlier holder wrote is not true of this one. Only people read it.
            let _ = local_lock::clear(&file);
            let probe = self.probe.as_ref().filter(|_| request.authorized_key.is_none());
            let Some(probe) = probe else { return Ok(Search::Locked(Box::new(host.clone()), file)) };
            if !taken.is_empty() && self.health.is_ill(host) {
                continue;
            }
            match probe.of(&target(host), &host.platform).await {
                Availability::Yes => {
                    self.health.is_well(host);
                    return Ok(Search::Locked(Box::new(host.clone()), file));
                }
                Availability::No(held) => taken.push((host.address.clone(), held)),
                Availability::Unusable(fault) => {
                    self.health.is_unusable(host, &fault, fitting.len() > 1);
                    unusable.push((host.clone(), *fault));
                }
            }
        }
        Ok(if taken.is_empty() { Search::Unusable(unusable) } else { Search::Taken(taken) })
    }

    /// Who holds a host that another run of this user on this machine has locked.
    fn held_here(&self, host: &SshHost) -> Held {
        match local_lock::look(&self.lock_file(host)) {
            Ok(Seen::Held(Some(note))) => note.held(),
            // It was just taken, or has just been released; the next look tells more.
            Ok(Seen::Held(None) | Seen::Free) | Err(_) => Held::default(),
        }
    }

    /// The lease that holds a host, of this machine or of another one.
    async fn holder(&self, host: &SshHost) -> Result<Option<OwnedLease>, Fault> {
        let named = format!("host {}:{}", host.address, host.port);
        let here = match local_lock::look(&self.lock_file(host)).map_err(|error| unknown(host, &error))? {
            Seen::Held(Some(note)) => return Ok(Some(noted(note, &named))),
            // Whoever has just locked it may still be asking the host itself.
            Seen::Held(None) => true,
            Seen::Free => false,
        };
        let Some(probe) = &self.probe else { return Ok(here.then(|| unnamed(&named, None))) };
        Ok(match probe.holder(&target(host)).await? {
            Some(held) => Some(elsewhere(held, &named)),
            None => here.then(|| unnamed(&named, None)),
        })
    }

    fn open(&self, host: &SshHost) -> std::io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        lock::open(&self.lock_file(host))
    }

    fn lock_file(&self, host: &SshHost) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let name: String = host.address.chars().map(safe).collect();
        self.folder.join(format!("{name}-{}", host.port))
    }

    fn none_fits(&self, request: &AcquireRequest) -> Fault {
        let (size, platform) = (&request.size, &request.platform);
        let message =
            format!("no host of `providers.ssh.hosts` has {} CPUs and {} GB for {platform}", size.cpu, size.memory_gb);
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| format!("{} ({} CPUs, {} GB, {})", host.address, host.cpu, host.memory_gb, host.platform))
            .collect();
        let help = match hosts.as_slice() {
            [] => "name hosts in the workflow's `providers.ssh.hosts`".to_owned(),
            hosts => format!("there are: {}; ask for less in .build-spec.ncl, or add a host", hosts.join(", ")),
        };
        Fault::new(FaultKind::Unavailable, "lian::providers::no_host", message).help(help)
    }
}

fn offer(host: &SshHost) -> Offer {
    Offer {
        runner_type: host.address.clone(),
        cpu: host.cpu,
        memory_gb: host.memory_gb,
        platform: host.platform.clone(),
        price: None,
    }
}

fn target(host: &SshHost) -> SshTarget {
    let SshHost { address, port, user, host_key, identity, .. } = host.clone();
    SshTarget { address, port, user, host_key: bare(&host_key), identity, is_configured: true }
}

/// A public key in sshd's format: type and key, without the trailing comment of a `.pub` file.
fn bare(host_key: &str) -> String {
    host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// The lease of a run on this machine.
fn noted(note: Note, host: &str) -> OwnedLease {
    OwnedLease {
        what: format!("{host}, of {}, taken for {}", note.owner, note.layer),
        lease: note.lease,
        run: Some(note.run),
        created: Some(note.since),
        expires: Some(note.expires),
    }
}

/// The lease that the host itself names.
fn elsewhere(held: Held, host: &str) -> OwnedLease {
    let created = held.age.map(|age| now().minus(age));
    let Some(Holder { owner, run, workspace, lease }) = held.by else { return unnamed(host, created) };
    let what = format!("{host}, of {owner}, workspace {workspace}");
    OwnedLease { lease: LeaseId::new(lease), run: Some(RunId::new(run)), what, created, expires: None }
}

/// A lease of whoever left no name: it was just taken, or by a version that wrote nothing.
fn unnamed(host: &str, created: Option<Timestamp>) -> OwnedLease {
    let what = format!("{host}, of somebody who left no name");
    OwnedLease { lease: LeaseId::from("?"), run: None, what, created, expires: None }
}

fn unknown(host: &SshHost, error: &std::io::Error) -> Fault {
    let message = format!("whether a run here holds {} is not known: its lock cannot be read: {error}", host.address);
    Fault::new(FaultKind::Unavailable, "lian::providers::lock", message)
        .help("make lian-build's data folder readable, or set LIAN_DATA_DIR to another one")
}

fn here(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::providers::lock", format!("a host cannot be locked: {error}"))
        .help("make lian-build's data folder writable, or set LIAN_DATA_DIR to another one")
}

#[async_trait]
impl ComputeProvider for Ssh {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(self.hosts.iter().map(offer).collect())
    }

    fn hosts(&self) -> Vec<(SshTarget, Offer)> {
        self.hosts.iter().map(|host| (target(host), offer(host))).collect()
    }

    fn ends_with_process(&self) -> bool {
        true
    }

    /// Waits while all fitting hosts are leased.
    async fn acquire(&self, request: &AcquireRequest, _record: &LeaseRecord) -> Result<Lease, Fault> {
        // Probing goes over the network, so poll less often; local locks are cheap to check.
        let longest = if self.probe.is_some() { LONGEST_PAUSE } else { PAUSE };
        let mut polls = Backoff::of_polls(PAUSE, longest).pauses();
        let mut waiting = Waiting::default();
        let mut ill_since = None;
        let (host, file) = loop {
            match self.lock(request).await? {
                Search::Locked(host, file) => break (*host, file),
                Search::Taken(taken) => {
                    ill_since = None;
                    waiting.tell(request, &taken);
                }
                Search::Unusable(all) => {
                    let since = *ill_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.health.patience(&all, self.boot_timeout) {
                        return Err(self.health.fault(all));
                    }
                }
            }
            polls.poll().await;
        };
        // Only `leases` reads it: a full disk must not keep a host from being used.
        if let Err(error) = Note::of(request).write(&file) {
            tracing::debug!(host = host.address, "who holds it is not written down: {error}");
        }
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(request.lease.clone(), file);
        let endpoint = Endpoint::Ssh(target(&host));
        let (runner_type, platform) = (host.address, host.platform);
        let offer = Offer { runner_type, cpu: host.cpu, memory_gb: host.memory_gb, platform, price: None };
        Ok(Lease { id: request.lease.clone(), offer, endpoint, ready_by: None })
    }

    async fn release(&self, lease: &LeaseId, _record: &LeaseRecord) -> Result<Gone, Fault> {
        let held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(lease);
        Ok(if held.is_some() { Gone::Deleted } else { Gone::Absent })
    }

    /// Always empty: a lock ends with the process that holds it.
    async fn owned(&self) -> OwnedLeases {
        OwnedLeases::default()
    }

    /// Who holds the hosts, here and elsewhere; all are asked at once.
    async fn holders(&self) -> OwnedLeases {
        let mut holders = OwnedLeases::default();
        for holder in futures_util::future::join_all(self.hosts.iter().map(|host| self.holder(host))).await {
            match holder {
                Ok(lease) => holders.leases.extend(lease),
                Err(fault) => holders.unseen.push(fault),
            }
        }
        holders
    }
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;

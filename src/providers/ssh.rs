//! A fixed list of hosts: a lease is an exclusive lock on one. Refuses: making them ready; and telling other machines: the
//! host itself keeps a second lock for that (`remote`).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::FlockOperation;

use crate::base::LeaseId;
use crate::model::{Fault, FaultKind, SshHost, SshSettings};
use crate::ports::{AcquireRequest, ComputeProvider, Lease, Offer, OwnedLease, Reach, SshTarget};

/// How often the locks are looked at while all hosts are taken.
const PAUSE: Duration = Duration::from_millis(200);

/// Hosts of the workflow.
#[derive(Debug)]
pub struct Ssh {
    hosts: Vec<SshHost>,
    folder: PathBuf,
    held: Mutex<BTreeMap<LeaseId, File>>,
}

impl Ssh {
    /// These hosts, with their locks in a folder that all runs of this user share.
    pub fn new(settings: SshSettings, folder: impl Into<PathBuf>) -> Self {
        let mut hosts = settings.hosts;
        hosts.sort_by_key(|host| (host.memory_gb, host.cpu));
        Self { hosts, folder: folder.into(), held: Mutex::default() }
    }

    /// Locks the smallest free host that fits.
    fn lock(&self, request: &AcquireRequest) -> Result<Option<(SshHost, File)>, Fault> {
        let fits = |host: &&SshHost| {
            let large = host.cpu >= request.size.cpu && host.memory_gb >= request.size.memory_gb;
            large && host.platform == request.platform
        };
        let mut any = false;
        for host in self.hosts.iter().filter(fits) {
            any = true;
            let file = self.open(host).map_err(|error| here(&error))?;
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Some((host.clone(), file)));
            }
        }
        if any { Ok(None) } else { Err(self.none_fits(request)) }
    }

    fn open(&self, host: &SshHost) -> std::io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let name: String = host.address.chars().map(safe).collect();
        File::options().create(true).truncate(false).write(true).open(self.folder.join(format!("{name}-{}", host.port)))
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

fn here(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::providers::lock", format!("a host cannot be locked: {error}"))
        .help("make lian-build's data folder writable, or set LIAN_DATA_DIR to another one")
}

#[async_trait]
impl ComputeProvider for Ssh {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        let offer = |host: &SshHost| Offer {
            runner_type: host.address.clone(),
            cpu: host.cpu,
            memory_gb: host.memory_gb,
            platform: host.platform.clone(),
            price: None,
        };
        Ok(self.hosts.iter().map(offer).collect())
    }

    fn is_abandonable(&self) -> bool {
        true
    }

    /// Waits while all fitting hosts are taken.
    async fn acquire(&self, request: &AcquireRequest) -> Result<Lease, Fault> {
        let (host, file) = loop {
            match self.lock(request)? {
                Some(locked) => break locked,
                None => tokio::time::sleep(PAUSE).await,
            }
        };
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(request.lease.clone(), file);
        let offer = Offer {
            runner_type: host.address.clone(),
            cpu: host.cpu,
            memory_gb: host.memory_gb,
            platform: host.platform,
            price: None,
        };
        let SshHost { address, port, user, host_key, identity, .. } = host;
        let reach = Reach::Ssh(SshTarget { address, port, user, host_key, identity });
        Ok(Lease { id: request.lease.clone(), offer, reach, ready_by: None })
    }

    async fn release(&self, lease: &LeaseId) -> Result<(), Fault> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(lease);
        Ok(())
    }

    /// None: a lock ends with the process that held it.
    async fn owned(&self) -> Result<Vec<OwnedLease>, Fault> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LayerName, RunId, Timestamp};
    use crate::model::Size;

    fn host(address: &str, memory_gb: u32) -> SshHost {
        let (address, user, host_key) = (address.to_owned(), "root".to_owned(), "ssh-ed25519 AAAA".to_owned());
        let platform = "linux/amd64".to_owned();
        SshHost { address, port: 22, user, host_key, identity: None, cpu: 2, memory_gb, platform }
    }

    fn request(lease: &str, memory_gb: u32) -> AcquireRequest {
        let size = Size { runner_type: "cax11".into(), cpu: 2, memory_gb, time_budget_min: 1, tier: "explicit".into() };
        let (run, layer, platform) = (RunId::from("r"), LayerName::from("l"), "linux/amd64".into());
        AcquireRequest {
            lease: LeaseId::from(lease),
            run,
            layer,
            size,
            platform,
            expires: Timestamp(1),
            authorized_key: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_one_leases_alone_and_the_smallest_that_fits_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = SshSettings { hosts: vec![host("large", 16), host("small", 4)] };
        let (one, two) = (Ssh::new(settings.clone(), folder.path()), Ssh::new(settings, folder.path()));
        let taken = one.acquire(&request("a", 4)).await.expect("a lease");
        assert_eq!(taken.offer.runner_type, "small");
        assert_eq!(two.acquire(&request("b", 4)).await.expect("a lease").offer.runner_type, "large");
        let third = request("c", 4);
        let waiting = tokio::time::timeout(Duration::from_secs(60), two.acquire(&third));
        assert!(waiting.await.is_err(), "a host that is taken was leased");
        one.release(&LeaseId::from("a")).await.expect("given back");
        one.release(&LeaseId::from("a")).await.expect("given back twice");
        assert_eq!(two.acquire(&request("c", 4)).await.expect("a lease").offer.runner_type, "small");
    }

    #[tokio::test]
    async fn what_no_host_has_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let ssh = Ssh::new(SshSettings { hosts: vec![host("small", 4)] }, folder.path());
        let fault = ssh.acquire(&request("a", 8)).await.expect_err("too large");
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::providers::no_host"));
        assert!(fault.help.expect("help").contains("small (2 CPUs, 4 GB, linux/amd64)"));
    }
}

//! A provider of this program's own: benches of a workshop. Each is this machine's daemon under another name, and a lease is
//! a file in a folder. Not responsible for: anything that lian-build does with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lian_build::adapters::providers::{
    Descriptor, Login, ProviderOptions, RunnerTraits, Settings, SettingsSchema, no_reach, resolved,
};
use lian_build::domain::base::{Digest, LeaseId, Timestamp};
use lian_build::domain::model::{Fault, FaultKind, Offer, ProviderName};
use lian_build::domain::ports::{
    AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, OwnedLease, OwnedLeases, Resource,
};
use lian_build::system::now;
use serde::{Deserialize, Serialize};

/// All that lian-build gets to know.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("workshop"),
    flag: "workshop",
    summary: "A bench of the workshop",
    runners: RunnerTraits {
        remote: false,
        leased: true,
        free_of_charge: true,
        outlive_process: true,
        fixed_hosts: true,
        stands_in: false,
        boot: Duration::ZERO,
    },
    login: Login::WHILE_BOOTING,
    settings: Some(SettingsSchema {
        summary: "Benches of a workshop.",
        contract: include_str!("workshop.ncl"),
        records: &[("workshop", &["folder", "benches"]), ("benches", &["name", "cpu", "memory_gb"])],
        resolve: |settings, path| {
            resolved(settings, |settings: &mut WorkshopSettings| settings.folder = path(&settings.folder))
        },
    }),
    size_aliases: &[],
    location_setting: None,
    credential: None,
    reach: |settings| {
        panics_at("reach");
        no_reach(settings)
    },
    account: |settings, salt| {
        let settings: WorkshopSettings = settings.demand()?;
        Ok(Some(Digest::of(format!("{salt} {}", settings.folder.display()))))
    },
    build,
};

/// Set to where this provider has a fault.
pub const PANICS: &str = "WORKSHOP_PANICS";

fn panics_at(place: &str) {
    assert!(std::env::var_os(PANICS).is_none_or(|at| at != place), "the workshop burns");
}

#[derive(Debug, Serialize, Deserialize)]
struct WorkshopSettings {
    folder: PathBuf,
    benches: Vec<Bench>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bench {
    name: String,
    cpu: u32,
    memory_gb: u32,
}

struct Workshop {
    settings: WorkshopSettings,
    platform: lian_build::domain::base::Platform,
}

fn build(settings: &Settings<'_>, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault> {
    Ok(Arc::new(Workshop { settings: settings.demand()?, platform: options.platform }))
}

fn broken(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::workshop::folder", error.to_string())
}

#[async_trait]
impl ComputeProvider for Workshop {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        panics_at("offers");
        let offer = |bench: &Bench| Offer {
            runner_type: bench.name.clone(),
            cpu: bench.cpu,
            memory_gb: bench.memory_gb,
            platform: self.platform.clone(),
            price: None,
        };
        Ok(self.settings.benches.iter().map(offer).collect())
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let size = &request.size;
        let offers = self.offers().await?;
        let fitting = offers.into_iter().find(|offer| offer.cpu >= size.cpu && offer.memory_gb >= size.memory_gb);
        let offer = fitting
            .ok_or_else(|| Fault::new(FaultKind::Unavailable, "lian::workshop::none", "no bench is large enough"))?;
        std::fs::create_dir_all(&self.settings.folder).map_err(|error| broken(&error))?;
        let file = self.settings.folder.join(request.lease.as_str());
        // The folder is this machine's, and so is the clock.
        let expires = now().plus(request.lifetime);
        std::fs::write(&file, expires.0.to_string()).map_err(|error| broken(&error))?;
        record.learn(Resource::new("bench", file.display())).await;
        panics_at("acquire");
        Ok(Lease { id: request.lease.clone(), offer, endpoint: Endpoint::Here, ready_by: None })
    }

    async fn release(&self, lease: &LeaseId, _record: &LeaseRecord) -> Result<Gone, Fault> {
        panics_at("release");
        match std::fs::remove_file(self.settings.folder.join(lease.as_str())) {
            Ok(()) => Ok(Gone::Deleted),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Gone::Absent),
            Err(error) => Err(broken(&error)),
        }
    }

    async fn owned(&self) -> OwnedLeases {
        panics_at("owned");
        let Ok(files) = std::fs::read_dir(&self.settings.folder) else { return OwnedLeases::default() };
        let owned = |file: std::fs::DirEntry| {
            let expires = std::fs::read_to_string(file.path()).ok()?.parse().ok().map(Timestamp);
            let lease = LeaseId::from(file.file_name().to_str()?);
            Some(OwnedLease { lease, run: None, what: "a bench".to_owned(), created: None, expires })
        };
        OwnedLeases { leases: files.flatten().filter_map(owned).collect(), unseen: Vec::new() }
    }
}

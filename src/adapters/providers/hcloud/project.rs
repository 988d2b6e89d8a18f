//! The Hetzner Cloud project as a provider: the state that all requests share. Not responsible for: settings that
//! cannot lead to a runner.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::access::Access;
use super::api::{Api, Timeouts};
use super::creation::Creations;
use super::error::ApiError;
use super::model::ServerType;
use super::offers::{self, Fees};
use super::settings::HcloudSettings;
use super::{boot, names};
use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{AcquireRequest, ComputeProvider, Gone, Lease, LeaseRecord, Offer, OwnedLeases};

/// How long types and prices are cached.
const FRESH: Duration = Duration::from_secs(300);

/// The API's types and prices at one moment.
#[derive(Debug, Clone)]
pub(super) struct Market {
    seen: Instant,
    pub(super) types: Arc<Vec<ServerType>>,
    pub(super) fees: Fees,
}

/// A Hetzner Cloud project.
#[derive(Debug)]
pub struct Hcloud {
    pub(super) settings: HcloudSettings,
    pub(super) api: Arc<Api>,
    pub(super) owner: String,
    pub(super) keys: PathBuf,
    /// Held while querying the API, so that concurrent leases query it once.
    market: tokio::sync::Mutex<Option<Market>>,
    /// Pending create requests, which may outlive the future that sent them; `release` waits for them.
    pub(super) creations: Creations,
}

impl Hcloud {
    /// Creates the provider. `owner` identifies this user's leases; the key pairs of each lease are kept in its own
    /// folder below `keys`.
    ///
    /// # Errors
    /// `lian::hcloud::no_buildkit`, `lian::hcloud::label`, `lian::hcloud::no_type`, `lian::hcloud::client`.
    pub fn new(
        settings: HcloudSettings,
        access: Access,
        owner: impl Into<String>,
        keys: impl Into<PathBuf>,
        pace: Timeouts,
    ) -> Result<Self, Fault> {
        boot::check(&settings)?;
        names::check(&settings.labels)?;
        for (field, list) in [("server_types", &settings.server_types), ("locations", &settings.locations)] {
            if list.is_empty() {
                let message = format!("`providers.hcloud.{field}` is empty");
                return Err(Fault::configuration("lian::hcloud::no_type", message)
                    .help(format!("name at least one, or leave `{field}` out")));
            }
        }
        Ok(Self {
            settings,
            api: Arc::new(Api::new(access, pace)?),
            owner: names::value(&owner.into()),
            keys: keys.into(),
            market: tokio::sync::Mutex::default(),
            creations: Creations::default(),
        })
    }

    /// Current types and prices, at most a few minutes old.
    pub(super) async fn market(&self) -> Result<Market, Fault> {
        let mut known = self.market.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.seen.elapsed() < FRESH) {
            return Ok(known.clone());
        }
        let all = self.api.list("server_types", &[]).await.map_err(|error| error.into_fault("list server types"))?;
        let types = Arc::new(offers::configured(&self.settings, all)?);
        let pricing = match self.api.patiently(Method::GET, "/pricing", &[]).await {
            Ok(answer) => answer,
            // Some tokens may not read the prices.
            Err(ApiError::Refused { .. }) => Value::Null,
            Err(error) => return Err(error.into_fault("read prices")),
        };
        let fees = Fees::read(&pricing, self.settings.ipv4);
        Ok(known.insert(Market { seen: Instant::now(), types, fees }).clone())
    }

    /// Time limit for everything except creating servers.
    pub(super) async fn settled<T>(
        &self,
        wanted: &str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let limit = self.api.pace().settle;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let message = format!("Hetzner Cloud did not {wanted} within {} s", limit.as_secs());
            Err(Fault::new(FaultKind::Infrastructure, "lian::hcloud::slow", message)
                .help("see https://status.hetzner.com and the project in the Hetzner console, then run it again"))
        })
    }
}

#[async_trait]
impl ComputeProvider for Hcloud {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        self.settled("list server types", async {
            let market = self.market().await?;
            let places = || self.settings.locations.iter().map(String::as_str);
            Ok(market.types.iter().map(|known| offers::offer(known, places(), &market.fees)).collect())
        })
        .await
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let limit = self.api.pace().boot;
        tokio::time::timeout(limit, self.rent(request, record)).await.unwrap_or_else(|_| {
            let name = names::server(&self.owner, &names::value(request.lease.as_str()));
            let message = format!("the server {name} is not running after {} s", limit.as_secs());
            Err(Fault::new(FaultKind::Infrastructure, "lian::hcloud::boot_timeout", message)
                .help("raise `runners.boot_timeout_s`, or see https://status.hetzner.com"))
        })
    }

    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        self.give_back(lease, record).await
    }

    async fn owned(&self) -> OwnedLeases {
        let listed = self.settled("list what is rented", async { Ok(self.list_owned().await) }).await;
        listed.unwrap_or_else(|fault| OwnedLeases::from(Err(fault)))
    }
}

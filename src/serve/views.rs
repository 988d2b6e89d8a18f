//! What callers are shown: the types of all answers, which become the schemas in the OpenAPI document. Not responsible
//! for: problems (`problem`), deciding who may see what (`http`).

use serde::Serialize;
use utoipa::ToSchema;

use super::machine::{Row, State};
use crate::domain::base::Timestamp;
use crate::domain::ports::Offer;

/// A lease and, once it is granted, its machine.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lease)]
pub(super) struct LeaseView {
    /// The pool's name for the lease
    #[schema(pattern = "^pool-[0-9a-f]{24}$", example = "pool-0123456789abcdef01234567")]
    lease_id: String,
    /// The workspace that it belongs to; empty if no request has used its key
    #[schema(max_length = 63)]
    workspace: String,
    state: StateView,
    /// IPv4, IPv6 or a name
    #[schema(example = "192.0.2.7")]
    address: Option<String>,
    /// sshd's port
    port: Option<u16>,
    /// Who logs in
    #[schema(example = "root")]
    user: Option<String>,
    /// The only host key to accept
    host_key: Option<String>,
    /// The provider's name for the size
    #[schema(example = "cax21")]
    runner_type: Option<String>,
    /// Virtual CPUs: granted, else asked for
    #[schema(minimum = 1)]
    cpu: Option<u32>,
    /// Memory, GB: granted, else asked for
    #[schema(minimum = 1)]
    memory_gb: Option<u32>,
    /// The platform: granted, else asked for
    #[schema(example = "linux/amd64")]
    platform: Option<String>,
    /// When it was asked for
    #[schema(format = "date-time")]
    created_at: String,
    /// When it ends by itself
    #[schema(format = "date-time")]
    expires_at: String,
    /// How often giving it back failed
    failures: u32,
    /// Why it failed last
    fault: Option<String>,
    /// The caller's own key; for its own leases only
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    idempotency_key: Option<String>,
}

/// What becomes of a lease
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LeaseState)]
enum StateView {
    /// Written down; the provider has not answered yet
    Asked,
    /// Granted
    Held,
    /// Being given back
    Releasing,
    /// Giving it back failed several times; the pool goes on trying
    Stuck,
    /// Gone
    Released,
}

/// Leases, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Leases)]
pub(super) struct LeasesView {
    pub leases: Vec<LeaseView>,
    /// The workspaces that the token is for; `*` is all
    #[schema(example = json!(["acme"]))]
    pub workspaces: Vec<String>,
}

/// A size that can be leased.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Offer)]
pub(super) struct OfferView {
    /// The provider's name for it
    #[schema(example = "cax21")]
    runner_type: String,
    /// Virtual CPUs
    #[schema(minimum = 1)]
    cpu: u32,
    /// Memory, GB
    #[schema(minimum = 1)]
    memory_gb: u32,
    /// Its platform
    #[schema(example = "linux/amd64")]
    platform: String,
    price: Option<PriceView>,
}

/// The price of a started hour
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Price)]
struct PriceView {
    /// ISO 4217
    #[schema(example = "EUR")]
    currency: String,
    /// Millionths of the currency's unit
    hourly_micros: u64,
}

/// Sizes, as the provider lists them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Offers)]
pub(super) struct OffersView {
    pub offers: Vec<OfferView>,
}

/// The service and its ledger work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthView {
    /// Always true: what does not work is a problem
    pub ok: bool,
}

impl LeaseView {
    /// A lease as this caller may see it: the idempotency key is its owner's.
    pub fn of(row: &Row, caller: &str) -> Self {
        let (machine, asked) = (row.machine.as_ref(), row.lease_request.as_ref());
        Self {
            lease_id: row.id.to_string(),
            workspace: row.workspace().to_owned(),
            state: match row.state {
                State::Asked => StateView::Asked,
                State::Held => StateView::Held,
                State::Releasing => StateView::Releasing,
                State::Stuck => StateView::Stuck,
                State::Released => StateView::Released,
            },
            address: machine.map(|machine| machine.address.clone()),
            port: machine.map(|machine| machine.port),
            user: machine.map(|machine| machine.user.clone()),
            host_key: machine.map(|machine| machine.host_key.clone()),
            runner_type: machine.map(|machine| machine.runner_type.clone()),
            cpu: machine.map(|machine| machine.cpu).or(asked.map(|asked| asked.cpu)),
            memory_gb: machine.map(|machine| machine.memory_gb).or(asked.map(|asked| asked.memory_gb)),
            platform: machine
                .map(|machine| machine.platform.to_string())
                .or(asked.map(|asked| asked.platform.to_string())),
            created_at: rfc3339(row.asked),
            expires_at: rfc3339(row.expires),
            failures: row.failures,
            fault: row.fault.clone(),
            idempotency_key: (row.owner == caller).then(|| row.key.clone()),
        }
    }
}

impl From<Offer> for OfferView {
    fn from(offer: Offer) -> Self {
        let Offer { runner_type, cpu, memory_gb, platform, price } = offer;
        let price = price.map(|price| PriceView { currency: price.currency, hourly_micros: price.hourly_micros });
        Self { runner_type, cpu, memory_gb, platform: platform.to_string(), price }
    }
}

/// Formats a time like `2026-11-23T08:00:00Z`.
fn rfc3339(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

//! The API's objects, limited to the fields that we use. Not responsible for: fields that no code needs.

use std::collections::BTreeMap;

use serde::Deserialize;

pub(super) type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Server {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) status: String,
    /// ISO 8601.
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) labels: Labels,
    pub(super) public_net: PublicNet,
    pub(super) server_type: ServerType,
    pub(super) location: Option<Named>,
}

impl Server {
    /// Location of the server.
    pub(super) fn place(&self) -> &str {
        self.location.as_ref().map_or("", |location| location.name.as_str())
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct PublicNet {
    pub(super) ipv4: Option<Ip>,
    /// IPv6 network, e.g. `2001:db8::/64`.
    pub(super) ipv6: Option<Ip>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Ip {
    pub(super) ip: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ServerType {
    pub(super) name: String,
    pub(super) cores: u32,
    /// Memory in GB; may have a fraction.
    pub(super) memory: f64,
    /// `x86` or `arm`.
    pub(super) architecture: String,
    pub(super) prices: Option<Vec<PriceAt>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PriceAt {
    pub(super) location: String,
    pub(super) price_hourly: Option<Money>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Money {
    /// Decimal number as a string.
    pub(super) net: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Action {
    pub(super) id: u64,
    /// `running`, `success` or `error`.
    pub(super) status: String,
    pub(super) error: Option<ActionError>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ActionError {
    pub(super) code: String,
    pub(super) message: String,
}

/// Response of `POST /servers`. It also holds a root password, which we never read.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Created {
    pub(super) server: Server,
    pub(super) action: Action,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SshKey {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) public_key: String,
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) labels: Labels,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PrimaryIp {
    pub(super) id: u64,
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) labels: Labels,
}

//! What `providers.vm_pool` says (`schemas/providers/vm_pool.ncl`). Not responsible for: the token, which comes from the environment.

use serde::{Deserialize, Serialize};

/// A service that leases runners. The token is `LIAN_POOL_TOKEN`'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPoolSettings {
    /// `https://pool.example`.
    pub endpoint: String,
    /// The workspace that leases are asked for.
    pub workspace: String,
}

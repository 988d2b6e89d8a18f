//! The settings `providers.vm_pool` (`schemas/providers/vm_pool.ncl`). Not responsible for: the token, which comes
//! from the environment.

use serde::{Deserialize, Serialize};

/// Settings of the pool service. The token comes from `LIAN_POOL_TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPoolSettings {
    /// Base URL, e.g. `https://pool.example`.
    pub endpoint: String,
    /// Workspace named in lease requests.
    pub workspace: String,
}

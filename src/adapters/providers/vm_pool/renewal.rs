//! The renewal of a held lease. Not responsible for: acquiring and releasing it (see `client`).

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use super::service::{LEASES, Service};
use crate::system::error_chain::with_causes;

/// Lifetime requested per renewal. Short, so that the lease of a dead run expires soon.
pub const TTL: Duration = Duration::from_secs(15 * 60);
/// The shortest lifetime that the pool accepts.
pub const LEAST_TTL: Duration = Duration::from_secs(60);

/// A task that is aborted on drop.
#[derive(Debug)]
pub struct Renewal(tokio::task::JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Renewal {
    /// Renews a lease periodically until it expires. A failed renewal is retried at the next interval; three
    /// intervals fit into the remaining lifetime.
    pub fn of(service: Service, lease_id: &str, expires: Instant, beat: Duration) -> Self {
        let path = format!("{LEASES}/{lease_id}/renew");
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(beat).await;
                let left = expires.saturating_duration_since(Instant::now());
                if left < LEAST_TTL {
                    return;
                }
                let lease_request = serde_json::json!({ "ttl_s": left.min(TTL).as_secs() });
                let renew = service.request(Method::POST, &path).json(&lease_request);
                match service.ask_once(renew).await {
                    Ok(status) if status.is_success() => {}
                    Ok(StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE) => return,
                    Ok(status) => tracing::warn!(%status, "the pool does not renew a lease"),
                    Err(error) => tracing::warn!("a lease is not renewed: {}", with_causes(&error)),
                }
            }
        }))
    }
}

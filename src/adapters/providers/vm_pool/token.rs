//! The token of a pool. Not responsible for: showing it.

use reqwest::header::HeaderValue;

use super::answers::{TOKEN_HELP, denied};
use crate::domain::base::Digest;
use crate::domain::model::Fault;
use crate::system::read::{self, Cap};

/// Bearer token for the service. Never printed.
#[derive(Clone)]
pub struct PoolToken(pub(super) HeaderValue);

impl PoolToken {
    /// Parses a token; fails if it cannot be an HTTP header value.
    pub fn new(token: &str) -> Result<Self, Fault> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| denied("token", "the pool's token holds characters that no token has", TOKEN_HELP))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Reads `LIAN_POOL_TOKEN`, or the file named by `LIAN_POOL_TOKEN_FILE`; `None` if neither is set.
    pub fn from_env() -> Result<Option<Self>, Fault> {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(token) = given("LIAN_POOL_TOKEN") {
            return Self::new(&token.to_string_lossy()).map(Some);
        }
        let Some(file) = given("LIAN_POOL_TOKEN_FILE") else { return Ok(None) };
        let text = read::text_of_user(std::path::Path::new(&file), Cap::Credential).map_err(|error| {
            let message = format!("LIAN_POOL_TOKEN_FILE cannot be read: {error}");
            denied("token", message, "name a readable file with the token alone in it")
        })?;
        Self::new(&text).map(Some)
    }

    /// Salted digest that identifies this token without revealing it.
    pub fn digest(&self, salt: &str) -> Digest {
        Digest::of([salt.as_bytes(), self.0.as_bytes()].join(&b' '))
    }
}

impl std::fmt::Debug for PoolToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PoolToken(…)")
    }
}

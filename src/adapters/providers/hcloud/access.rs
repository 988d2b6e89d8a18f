//! The API's address and token. Not responsible for: showing the token.

use std::fmt;

use reqwest::Url;

use crate::domain::base::Digest;
use crate::domain::model::Fault;
use crate::system::http::is_loopback;
use crate::system::read::{self, Cap};

/// The API's address unless HCLOUD_ENDPOINT is set.
const ENDPOINT: &str = "https://api.hetzner.cloud/v1";

/// The API's address and the project's token.
#[derive(Clone)]
pub struct Access {
    endpoint: String,
    address: Url,
    token: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("endpoint", &self.endpoint).field("token", &"[redacted]").finish()
    }
}

impl Access {
    /// Uses this API (`https://host/v1`) with this token.
    ///
    /// # Errors
    /// `lian::hcloud::no_token` if the token is invalid, `lian::hcloud::endpoint` if the address is invalid.
    pub fn new(endpoint: impl Into<String>, token: impl Into<String>) -> Result<Self, Fault> {
        let (endpoint, token) = (endpoint.into(), token.into());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let bad = |what: &str| {
            let message = format!("HCLOUD_ENDPOINT {what}: `{endpoint}`");
            Fault::configuration("lian::hcloud::endpoint", message)
                .help(format!("unset HCLOUD_ENDPOINT, or write it like {ENDPOINT}"))
        };
        let address: Url = endpoint.parse().map_err(|_| bad("is not the address of an API"))?;
        match address.scheme() {
            "https" => {}
            "http" if is_loopback(&address) => {}
            "http" => return Err(bad("would send the token unencrypted")),
            _ => return Err(bad("is not the address of an API")),
        }
        let token = token.trim().to_owned();
        if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(no_token("the Hetzner Cloud token is empty, or no token at all"));
        }
        Ok(Self { endpoint, address, token })
    }

    /// Reads HCLOUD_TOKEN, or the file named by HCLOUD_TOKEN_FILE, and HCLOUD_ENDPOINT.
    ///
    /// # Errors
    /// `lian::hcloud::no_token`, `lian::hcloud::endpoint`.
    pub fn from_env() -> Result<Self, Fault> {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let token = match (given("HCLOUD_TOKEN"), given("HCLOUD_TOKEN_FILE")) {
            (Some(token), _) => token,
            (None, Some(path)) => read::text_of_user(std::path::Path::new(&path), Cap::Credential)
                .map_err(|error| no_token(&format!("HCLOUD_TOKEN_FILE names {path}, which cannot be read: {error}")))?,
            (None, None) => return Err(no_token("there is no token for Hetzner Cloud")),
        };
        Self::new(given("HCLOUD_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()), token)
    }

    /// The API's address without a trailing slash.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Salted digest that identifies this token and address without revealing the token.
    pub fn digest(&self, salt: &str) -> Digest {
        Digest::of(format!("{salt} {} {}", self.endpoint, self.token))
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn address(&self) -> &Url {
        &self.address
    }
}

fn no_token(message: &str) -> Fault {
    Fault::denied("lian::hcloud::no_token", message).help(
        "make one with read and write permission in the Hetzner console (project > Security > API tokens), \
         and set HCLOUD_TOKEN to it, or HCLOUD_TOKEN_FILE to a file that holds it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::FaultKind;

    fn of(variables: &[(&str, &str)]) -> Result<Access, Fault> {
        Access::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_or_a_file_gives_the_token_and_nothing_shows_it() {
        let access = of(&[("HCLOUD_TOKEN", "sesame")]).expect("access");
        assert_eq!((access.endpoint(), access.token(), is_loopback(access.address())), (ENDPOINT, "sesame", false));
        assert!(!format!("{access:?}").contains("sesame"));
        let other = of(&[("HCLOUD_TOKEN", "simsim")]).expect("access");
        let digests = [access.digest("salt"), access.digest("pepper"), other.digest("salt")];
        assert!(digests[0] == access.digest("salt") && !digests[1..].contains(&digests[0]), "{digests:?}");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "open\n").expect("written");
        let path = file.display().to_string();
        let access =
            of(&[("HCLOUD_TOKEN_FILE", &path), ("HCLOUD_ENDPOINT", "http://127.0.0.1:1/v1/")]).expect("access");
        assert_eq!(
            (access.endpoint(), access.token(), is_loopback(access.address())),
            ("http://127.0.0.1:1/v1", "open", true)
        );
    }

    #[test]
    fn says_what_is_missing() {
        for variables in
            [&[][..], &[("HCLOUD_TOKEN", " ")], &[("HCLOUD_TOKEN_FILE", "/nowhere")], &[("HCLOUD_TOKEN", "a b")]]
        {
            let fault = of(variables).expect_err("no token");
            assert_eq!((fault.code.as_str(), fault.kind), ("lian::hcloud::no_token", FaultKind::Unavailable));
            assert!(fault.help.expect("help").contains("HCLOUD_TOKEN_FILE"));
        }
        for endpoint in ["ftp://x", "x y", "http://", "http://api.example/v1", "http://127.0.0.1.example/v1"] {
            let fault = of(&[("HCLOUD_TOKEN", "t"), ("HCLOUD_ENDPOINT", endpoint)]).expect_err("no address");
            assert_eq!(fault.code, "lian::hcloud::endpoint", "{endpoint}");
        }
        for endpoint in ["https://api.example/v1", "http://[::1]:8080/v1", "http://localhost/v1"] {
            of(&[("HCLOUD_TOKEN", "t"), ("HCLOUD_ENDPOINT", endpoint)]).expect(endpoint);
        }
    }
}

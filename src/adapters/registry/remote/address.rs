//! Parses a registry address, `host[:port][/prefix]`. Not responsible for: addresses that BuildKit would parse
//! differently; they are rejected.

use crate::domain::model::{Classified, FaultClass, RegistrySettings};
use crate::domain::ports::PushTarget;

/// A registry, and the repository prefix for images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    prefix: Option<String>,
    plain_http: bool,
}

/// The address is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`registry.address = \"{address}\"` in the workflow {what}")]
#[diagnostic(code(lian::registries::address), help("{help}"))]
pub struct AddressError {
    /// As written.
    pub address: String,
    /// What is wrong with it.
    pub what: String,
    /// The next action.
    pub help: String,
}

impl Classified for AddressError {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

impl Address {
    /// As people write it.
    pub(super) fn shown(&self) -> String {
        self.prefix.as_ref().map_or_else(|| self.host.clone(), |prefix| format!("{}/{prefix}", self.host))
    }
}

impl TryFrom<&RegistrySettings> for Address {
    type Error = AddressError;

    fn try_from(settings: &RegistrySettings) -> Result<Self, AddressError> {
        let text = settings.address.trim_end_matches('/');
        let wrong = |what: &str, help: &str| {
            let (address, what, help) = (settings.address.clone(), what.to_owned(), help.to_owned());
            Err(AddressError { address, what, help })
        };
        if text.contains("://") {
            return wrong(
                "names a scheme",
                "write `host[:port][/prefix]`, and `plain_http = true` where there is no TLS",
            );
        }
        let (host, prefix) = match text.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (text, None),
        };
        if !is_host(host) {
            return wrong(
                "names no host",
                "write `host[:port][/prefix]`; a host has a dot or a port (`registry.example/team`, `box:5000`)",
            );
        }
        let hub = matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        if hub && prefix.is_some() {
            return wrong(
                "has a prefix, and Docker Hub keeps names of two parts only",
                "write `docker.io`, and name the catalog's `namespace` after the account",
            );
        }
        if prefix.is_some_and(|prefix| !prefix.split('/').all(is_component)) {
            return wrong("has an odd prefix", "write it in small letters and digits, its parts joined by `/`");
        }
        let host = if hub { "docker.io" } else { host };
        Ok(Self { host: host.to_owned(), prefix: prefix.map(str::to_owned), plain_http: settings.plain_http })
    }
}

impl Address {
    /// `host[:port]`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether to use plain HTTP.
    pub fn plain_http(&self) -> bool {
        self.plain_http
    }

    /// The repository of an image, without the host.
    pub(super) fn repository(&self, name: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{name}"),
            None => name.to_owned(),
        }
    }

    /// The reference with which a builder pulls and pushes an image.
    pub(super) fn target(&self, name: &str) -> PushTarget {
        PushTarget { name: format!("{}/{}", self.host, self.repository(name)), plain_http: self.plain_http }
    }
}

/// `name`, `name:port`, `[::1]:port`: distinguished from a repository's first part by Docker's rule.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let named = !name.is_empty() && name.bytes().all(plain);
    let sound = named || literal.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    let distinct = port.is_some() || literal.is_some() || name.contains('.') || name == "localhost";
    sound && distinct && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_component(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(byte);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, plain_http: bool) -> Result<Address, AddressError> {
        Address::try_from(&RegistrySettings { address: text.to_owned(), plain_http })
    }

    #[test]
    fn names_images_below_the_prefix() {
        let team = address("registry.example:5000/team/images/", false).expect("an address");
        assert_eq!((team.host(), team.plain_http()), ("registry.example:5000", false));
        assert_eq!(team.repository("lamina/app"), "team/images/lamina/app");
        assert_eq!(team.target("lamina/app").name, "registry.example:5000/team/images/lamina/app");
        let bare = address("[::1]:5000", true).expect("an address");
        assert_eq!((bare.plain_http(), bare.repository("a/b").as_str()), (true, "a/b"));
        let hub = address("index.docker.io", false).expect("an address");
        assert_eq!((hub.host(), hub.target("me/x").name.as_str()), ("docker.io", "docker.io/me/x"));
    }

    #[test]
    fn refuses_what_is_read_otherwise_elsewhere() {
        for odd in
            ["", "https://host.example", "team/images", "host:99999", "host.example/Team", "docker.io/me", "a b.c"]
        {
            let error = address(odd, false).expect_err(odd);
            assert!(error.to_string().contains("registry.address"), "{error}");
        }
    }
}

//! Whose address an address is. Not responsible for: resolving names.

use std::net::IpAddr;

use reqwest::Url;

/// Whether an address is this machine's own: nothing else hears what is sent there, and no proxy leads there.
pub fn is_loopback(address: &Url) -> bool {
    let host = address.host_str().unwrap_or("").trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

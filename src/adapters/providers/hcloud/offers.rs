//! Server types, their prices, and the order in which to try them. Not responsible for: prices as floats.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::ServerType;
use super::settings::HcloudSettings;
use crate::domain::base::{Platform, nearest};
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{AcquireRequest, Offer, Price};

/// A server type in a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    pub(super) server_type: &'a str,
    pub(super) location: &'a str,
}

/// Platform of an architecture: `linux/arm64` for `arm`.
pub(super) fn platform(architecture: &str) -> Platform {
    let name = match architecture {
        "arm" => "arm64",
        "x86" => "amd64",
        other => other,
    };
    Platform::of("linux", name, "")
}

/// Whole GB.
fn memory_gb(server_type: &ServerType) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a server has at most some thousand GB"
    )]
    let whole = server_type.memory.clamp(0.0, 1e9) as u32;
    whole
}

/// Prices besides the servers themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fees {
    /// ISO 4217.
    pub(super) currency: String,
    /// Hourly price of an IPv4 address in millionths, by location; empty if servers get none.
    ipv4: BTreeMap<String, u64>,
}

impl Fees {
    /// Parses the response of `/pricing`; without one, assumes euros, the only currency seen so far.
    pub(super) fn read(answer: &Value, ipv4: bool) -> Self {
        let pricing = &answer["pricing"];
        let currency = pricing["currency"].as_str().unwrap_or("EUR").to_owned();
        let addresses = pricing["primary_ips"].as_array().into_iter().flatten().filter(|ip| ip["type"] == "ipv4");
        let prices = addresses.filter_map(|ip| ip["prices"].as_array()).flatten();
        let price = |price: &Value| {
            let net = micros(price["price_hourly"]["net"].as_str()?)?;
            Some((price["location"].as_str()?.to_owned(), net))
        };
        Self { currency, ipv4: if ipv4 { prices.filter_map(price).collect() } else { BTreeMap::new() } }
    }
}

/// A type as an offer, priced at the first of these locations that has a price; includes the IPv4 address.
pub(super) fn offer<'a>(server_type: &ServerType, locations: impl IntoIterator<Item = &'a str>, fees: &Fees) -> Offer {
    let prices = server_type.prices.as_deref().unwrap_or_default();
    let hourly = |location: &str| {
        let price = prices.iter().find(|price| price.location == location)?;
        let server = micros(price.price_hourly.as_ref()?.net.as_deref()?)?;
        Some(server.saturating_add(fees.ipv4.get(location).copied().unwrap_or(0)))
    };
    let price = locations.into_iter().find_map(hourly);
    Offer {
        runner_type: server_type.name.clone(),
        cpu: server_type.cores,
        memory_gb: memory_gb(server_type),
        platform: platform(&server_type.architecture),
        price: price.map(|hourly_micros| Price { currency: fees.currency.clone(), hourly_micros }),
    }
}

/// A decimal number as millionths, rounded up so that costs are never understated.
fn micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(6));
    let millionths: u64 = format!("{kept:0<6}").parse().ok()?;
    let up = u64::from(rest.bytes().any(|byte| byte != b'0'));
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(millionths + up)
}

/// The API's data of the configured types, in the settings' order.
pub(super) fn configured(settings: &HcloudSettings, known: Vec<ServerType>) -> Result<Vec<ServerType>, Fault> {
    let unknown = |name: &String| {
        let near = nearest(name, known.iter().map(|known| known.name.as_str()));
        let all: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
        let help = match near {
            Some(near) => format!("did you mean `{near}`? There are: {}", all.join(", ")),
            None => format!("write one of these into `providers.hcloud.server_types`: {}", all.join(", ")),
        };
        Fault::configuration("lian::hcloud::unknown_type", format!("there is no server type `{name}`")).help(help)
    };
    let find = |name: &String| known.iter().find(|known| known.name == *name).cloned().ok_or_else(|| unknown(name));
    settings.server_types.iter().map(find).collect()
}

/// Every fitting type in every location that has it: all locations of the smallest type first, then larger types. A
/// type requested by name is never replaced by a smaller one.
pub(super) fn candidates<'a>(
    settings: &'a HcloudSettings,
    types: &'a [ServerType],
    request: &AcquireRequest,
) -> Result<Vec<Candidate<'a>>, Fault> {
    let fits = |known: &&ServerType| {
        let large = known.cores >= request.size.cpu && memory_gb(known) >= request.size.memory_gb;
        large && platform(&known.architecture) == request.platform
    };
    let fitting: Vec<&ServerType> = types.iter().filter(fits).collect();
    let first = fitting.iter().position(|known| known.name == request.size.runner_type).unwrap_or(0);
    let mut all = Vec::new();
    for known in &fitting[first..] {
        let prices = known.prices.as_deref().unwrap_or_default();
        let sold = |place: &&String| prices.is_empty() || prices.iter().any(|price| price.location == **place);
        let places = settings.locations.iter().filter(sold);
        all.extend(places.map(|location| Candidate { server_type: &known.name, location }));
    }
    if all.is_empty() { Err(none_fits(settings, types, request)) } else { Ok(all) }
}

fn none_fits(settings: &HcloudSettings, types: &[ServerType], request: &AcquireRequest) -> Fault {
    let (cpu, memory) = (request.size.cpu, request.size.memory_gb);
    let message = format!(
        "none of `providers.hcloud.server_types` has {cpu} CPUs and {memory} GB for {} in {}",
        request.platform,
        settings.locations.join(", ")
    );
    let shown = |known: &ServerType| {
        format!("{} ({} CPUs, {} GB, {})", known.name, known.cores, memory_gb(known), platform(&known.architecture))
    };
    let all: Vec<String> = types.iter().map(shown).collect();
    let help = format!("there are: {}; add a type or a location, or ask for less in .build-spec.ncl", all.join(", "));
    Fault::new(FaultKind::Unavailable, "lian::hcloud::no_type", message).help(help)
}

/// Fault: every candidate is sold out.
pub(super) fn sold_out(tried: &[Candidate<'_>]) -> Fault {
    let all: Vec<String> = tried.iter().map(|one| format!("{} in {}", one.server_type, one.location)).collect();
    let message = format!("Hetzner Cloud has no server to rent now; tried: {}", all.join(", "));
    Fault::new(FaultKind::Infrastructure, "lian::hcloud::sold_out", message)
        .help("try later, or add locations or larger types of this platform to `providers.hcloud`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::{LayerName, LeaseId, RunId};
    use crate::domain::model::Size;

    fn known(name: &str, cores: u32, memory: f64, architecture: &str, places: &[&str]) -> ServerType {
        let prices: Vec<_> = places
            .iter()
            .map(|place| serde_json::json!({"location": place, "price_hourly": {"net": "0.0060000000"}}))
            .collect();
        let value = serde_json::json!({
            "name": name, "cores": cores, "memory": memory, "architecture": architecture, "prices": prices
        });
        serde_json::from_value(value).expect("a type")
    }

    fn request(runner_type: &str, memory_gb: u32) -> AcquireRequest {
        let (time_budget_min, tier) = (1, "explicit".to_owned());
        let size = Size { runner_type: runner_type.into(), cpu: 2, memory_gb, time_budget_min, tier };
        let (run, layer, platform) = (RunId::from("r"), LayerName::from("l"), "linux/arm64".into());
        let (lease, lifetime) = (LeaseId::from("r-1"), std::time::Duration::ZERO);
        AcquireRequest { lease, run, layer, size, platform, lifetime, authorized_key: None }
    }

    #[test]
    fn prices_are_read_without_floats() {
        let read = ["0.0060000000", "0.0104", "1", "12.5", "0.0000001", "18446744073709551616", "", "-1", "1e3", "."];
        let expected =
            [Some(6_000), Some(10_400), Some(1_000_000), Some(12_500_000), Some(1), None, None, None, None, None];
        assert_eq!(read.map(micros), expected);
    }

    #[test]
    fn all_places_of_the_smallest_first_then_larger_ones_of_the_platform() {
        let settings =
            HcloudSettings { locations: vec!["ash".into(), "fsn1".into(), "nbg1".into()], ..Default::default() };
        let types = [
            known("cax11", 2, 4.0, "arm", &["fsn1", "nbg1"]),
            known("cpx11", 2, 8.0, "x86", &["ash", "fsn1"]),
            known("cax21", 4, 8.0, "arm", &["nbg1"]),
            known("cax31", 8, 16.0, "arm", &[]),
        ];
        let asked = |request: &AcquireRequest| -> Vec<String> {
            let all = candidates(&settings, &types, request).expect("some fit");
            all.iter().map(|one| format!("{}@{}", one.server_type, one.location)).collect()
        };
        let all = ["cax11@fsn1", "cax11@nbg1", "cax21@nbg1", "cax31@ash", "cax31@fsn1", "cax31@nbg1"];
        assert_eq!(asked(&request("small", 4)), all);
        assert_eq!(asked(&request("cax21", 4)), all[2..]);
        assert_eq!(asked(&request("small", 16)), all[3..]);
        let fault = candidates(&settings, &types, &request("small", 17)).expect_err("too large");
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::hcloud::no_type"));
        assert!(fault.help.expect("help").contains("cax31 (8 CPUs, 16 GB, linux/arm64)"));
    }

    #[test]
    fn an_unknown_type_names_near_ones() {
        let settings = HcloudSettings { server_types: vec!["cax12".into()], ..Default::default() };
        let fault = configured(&settings, vec![known("cax11", 2, 4.0, "arm", &[])]).expect_err("unknown");
        assert_eq!(fault.code, "lian::hcloud::unknown_type");
        assert!(fault.help.expect("help").contains("did you mean `cax11`"));
    }
}

//! What the fake sells. Not responsible for: prices as numbers: the API writes them as text.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A type: name, id, cores, GB, architecture, net price an hour, places.
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) id: u64,
    pub(super) cores: u32,
    pub(super) memory_gb: u32,
    pub(super) architecture: &'static str,
    net: &'static str,
    pub(super) places: &'static [&'static str],
}

const ARM_PLACES: &[&str] = &["fsn1", "nbg1", "hel1"];
const ALL_PLACES: &[&str] = &["fsn1", "nbg1", "hel1", "ash", "hil"];

/// As listed in 2026; the prices are made up.
pub(super) const TYPES: &[Type] = &[
    one("cpx11", 22, 2, 2, "x86", "0.0074000000", ALL_PLACES),
    one("cpx21", 23, 3, 4, "x86", "0.0128000000", ALL_PLACES),
    one("cpx31", 24, 4, 8, "x86", "0.0235000000", ALL_PLACES),
    one("cax11", 45, 2, 4, "arm", "0.0060000000", ARM_PLACES),
    one("cax21", 93, 4, 8, "arm", "0.0104000000", ARM_PLACES),
    one("cax31", 94, 8, 16, "arm", "0.0200000000", ARM_PLACES),
    one("cax41", 95, 16, 32, "arm", "0.0392000000", ARM_PLACES),
];

const fn one(
    name: &'static str,
    id: u64,
    cores: u32,
    memory_gb: u32,
    architecture: &'static str,
    net: &'static str,
    places: &'static [&'static str],
) -> Type {
    Type { name, id, cores, memory_gb, architecture, net, places }
}

/// Name, id, country, city, zone.
const LOCATIONS: &[(&str, u64, &str, &str, &str)] = &[
    ("fsn1", 1, "DE", "Falkenstein", "eu-central"),
    ("nbg1", 2, "DE", "Nuremberg", "eu-central"),
    ("hel1", 3, "FI", "Helsinki", "eu-central"),
    ("ash", 4, "US", "Ashburn, VA", "us-east"),
    ("hil", 5, "US", "Hillsboro, OR", "us-west"),
];

/// Id, name, architecture, type. A system image has one id an architecture; a snapshot has no name.
const IMAGES: &[(u64, &str, &str, &str)] = &[
    (310_000_001, "debian-13", "x86", "system"),
    (310_000_002, "debian-13", "arm", "system"),
    (161_547_269, "ubuntu-24.04", "x86", "system"),
    (161_547_270, "ubuntu-24.04", "arm", "system"),
    (400_000_007, "", "arm", "snapshot"),
];

pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// By name or by id, as requests name things.
fn names(wanted: &Value, name: &str, id: u64) -> bool {
    wanted.as_u64() == Some(id) || wanted.as_str().is_some_and(|text| text == name || text == id.to_string())
}

pub(super) fn find_type(wanted: &Value) -> Option<&'static Type> {
    TYPES.iter().find(|known| names(wanted, known.name, known.id))
}

pub(super) fn find_location(wanted: &Value) -> Option<&'static str> {
    LOCATIONS.iter().find(|known| names(wanted, known.0, known.1)).map(|known| known.0)
}

/// The image for an architecture; an id of another architecture's image is a mistake.
pub(super) fn find_image(wanted: &Value, architecture: &str) -> Result<u64, &'static str> {
    let all: Vec<_> = IMAGES.iter().filter(|image| names(wanted, image.1, image.0) && wanted != "").collect();
    match all.iter().find(|image| image.2 == architecture) {
        Some(image) => Ok(image.0),
        None if all.is_empty() => Err("image not found"),
        None => Err("image architecture is not compatible with the server type"),
    }
}

impl Type {
    pub(super) fn json(&self, tells_prices: bool) -> Value {
        let places: &[&str] = if tells_prices { self.places } else { &[] };
        let money = |net: &str| json!({"net": net, "gross": format!("{net}000000")});
        let price = |place: &&str| {
            json!({
                "location": place, "price_hourly": money(self.net), "price_monthly": money("3.2900000000"),
                "included_traffic": 21_990_232_555_520_u64, "price_per_tb_traffic": money("1.0000000000"),
            })
        };
        let at = |place: &&str| {
            let mut location = location(place);
            location["deprecation"] = Value::Null;
            location["available"] = json!(true);
            location["recommended"] = json!(true);
            location
        };
        json!({
            "id": self.id, "name": self.name, "description": self.name.to_uppercase(), "category": "Shared vCPU",
            "cores": self.cores, "memory": f64::from(self.memory_gb), "disk": 40, "storage_type": "local",
            "cpu_type": "shared", "architecture": self.architecture, "deprecated": false, "deprecation": null,
            "prices": places.iter().map(price).collect::<Vec<_>>(),
            "locations": self.places.iter().map(at).collect::<Vec<_>>(),
        })
    }
}

pub(super) fn location(name: &str) -> Value {
    let known = LOCATIONS.iter().find(|known| known.0 == name).expect("a known location");
    json!({
        "id": known.1, "name": known.0, "description": format!("{} DC Park 1", known.3), "country": known.2,
        "city": known.3, "latitude": 50.47612, "longitude": 12.370071, "network_zone": known.4,
    })
}

pub(super) fn image(id: u64) -> Value {
    let known = IMAGES.iter().find(|known| known.0 == id).expect("a known image");
    let name = if known.1.is_empty() { Value::Null } else { json!(known.1) };
    json!({
        "id": id, "type": known.3, "status": "available", "name": name, "description": "An image", "image_size": null,
        "disk_size": 5, "created": "2026-01-01T00:00:00Z", "created_from": null, "bound_to": null, "os_flavor": "debian",
        "os_version": "13", "rapid_deploy": true, "protection": {"delete": false}, "deprecated": null, "deleted": null,
        "labels": {}, "architecture": known.2,
    })
}

pub(super) fn locations() -> Vec<Value> {
    LOCATIONS.iter().map(|known| location(known.0)).collect()
}

pub(super) fn images() -> Vec<Value> {
    IMAGES.iter().map(|known| image(known.0)).collect()
}

pub(super) fn pricing() -> Value {
    let money = |net: &str| json!({"net": net, "gross": format!("{net}000000")});
    let at = |place: &&str| json!({"location": place, "price_hourly": money("0.0008000000"), "price_monthly": money("0.5000000000")});
    let addresses: Vec<Value> = ALL_PLACES.iter().map(at).collect();
    let free: Vec<Value> = Vec::new();
    json!({"pricing": {"currency": "EUR", "vat_rate": "19.000000", "server_types": [], "primary_ips": [
        {"type": "ipv6", "prices": free}, {"type": "ipv4", "prices": addresses},
    ]}})
}

//! `POST /servers`: everything that the API checks, and the machine. Not responsible for: `datacenter`, and fields that it never heard of.

use std::net::Ipv6Addr;
use std::time::Instant;

use serde_json::{Value, json};

use super::market::{self, Type};
use super::rules::{self, Refusal, invalid, refuse};
use super::state::{Server, World};
use super::{Shared, locked};
use crate::support::machines::{Booted, Order};

const FIELDS: &[&str] = &[
    "name",
    "server_type",
    "image",
    "location",
    "labels",
    "ssh_keys",
    "user_data",
    "public_net",
    "start_after_create",
    "automount",
    "volumes",
    "networks",
    "firewalls",
    "placement_group",
];

/// What a request came to, before there is a machine.
struct Draft {
    order: Order,
    server_type: &'static Type,
    location: &'static str,
    image: u64,
    labels: std::collections::BTreeMap<String, String>,
    user_data: String,
    ipv4: bool,
    ipv6: bool,
}

impl Shared {
    pub(super) fn create_server(&self, body: &Value) -> Result<(u16, Value), Refusal> {
        let draft = {
            let mut world = locked(&self.world);
            let draft = draft(&world, body)?;
            world.booting.insert(draft.order.name.clone());
            draft
        };
        let mut order = draft.order.clone();
        {
            let mut world = locked(&self.world);
            if world.others_keys > 0 {
                world.others_keys -= 1;
                order.host_key = None;
            }
        }
        let booted = self.machines.boot(&order);
        let has_keys = !draft.order.authorized_keys.is_empty();
        let mut world = locked(&self.world);
        let id = insert(&mut world, draft, &booted);
        let (action, next) = (world.servers[&id].action, world.start("start_server", id));
        let server = world.server_json(&world.servers[&id]);
        let kept = world.kept(world.servers[&id].labels.clone());
        world.servers.get_mut(&id).expect("just made").labels = kept;
        let password = if has_keys { Value::Null } else { json!("YItygq1v3GYjjMomLaKc") };
        let actions = [action, next].map(|action| world.actions[&action].json());
        let [action, next] = actions;
        Ok((201, json!({"server": server, "action": action, "next_actions": [next], "root_password": password})))
    }
}

fn insert(world: &mut World, draft: Draft, booted: &Booted) -> u64 {
    let id = world.id();
    let labels = world.made_with(draft.labels);
    let network = |address: Ipv6Addr| format!("{}/64", Ipv6Addr::from_bits(address.to_bits() >> 64 << 64));
    let v6 = booted.ipv6.map_or_else(|| format!("2001:db8:{:x}::/64", id & 0xffff), network);
    let (v4, v6) = (Some(booted.address.to_string()), Some(v6));
    let server = Server {
        id,
        name: draft.order.name.clone(),
        server_type: draft.server_type,
        location: draft.location,
        image: draft.image,
        labels,
        ipv4: v4.filter(|_| draft.ipv4),
        ipv6: v6.filter(|_| draft.ipv6),
        status: "initializing",
        host_key: Some(booted.host_key.clone()),
        user_data: draft.user_data,
        created: world.now(),
        since: Instant::now(),
        action: 0,
    };
    world.booting.remove(&server.name);
    world.servers.insert(id, server);
    let action = world.start("create_server", id);
    world.servers.get_mut(&id).expect("just made").action = action;
    id
}

fn draft(world: &World, body: &Value) -> Result<Draft, Refusal> {
    let fields = body.as_object().ok_or_else(|| refuse(400, "json_error", "the body is no object"))?;
    if let Some(odd) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(invalid(format!("{odd}: unknown field")));
    }
    let name = body["name"].as_str().ok_or_else(|| invalid("name: missing"))?;
    rules::host_name(name)?;
    let server_type = market::find_type(&body["server_type"])
        .ok_or_else(|| invalid(format!("server_type: {} not found", body["server_type"])))?;
    let image = market::find_image(&body["image"], server_type.architecture)
        .map_err(|what| invalid(format!("image: {what}")))?;
    let place = if body["location"].is_null() { json!("fsn1") } else { body["location"].clone() };
    let location = market::find_location(&place).ok_or_else(|| invalid(format!("location: {place} not found")))?;
    if !server_type.places.contains(&location) {
        return Err(invalid("unsupported location for server type"));
    }
    let labels = rules::labels(&body["labels"])?;
    let user_data = body["user_data"].as_str().unwrap_or_default();
    if user_data.len() > 32 * 1024 {
        return Err(invalid("user_data: must not be longer than 32768 bytes"));
    }
    let flag = |name: &str| body["public_net"][name].as_bool().unwrap_or(true);
    let (ipv4, ipv6) = (flag("enable_ipv4"), flag("enable_ipv6"));
    let mut authorized_keys = Vec::new();
    for wanted in body["ssh_keys"].as_array().into_iter().flatten() {
        let mut all = world.keys.values();
        let named =
            |key: &super::state::Key| wanted.as_u64() == Some(key.id) || wanted.as_str() == Some(key.name.as_str());
        let key = all.find(|key| named(key)).ok_or_else(|| invalid(format!("ssh_keys: {wanted} not found")))?;
        authorized_keys.push(key.public_key.clone());
    }
    if world.booting.contains(name) || world.servers.values().any(|server| server.name == name) {
        return Err(refuse(409, "uniqueness_error", "server name is already used"));
    }
    if world.sold_out.contains(&(server_type.name.to_owned(), location.to_owned())) {
        return Err(refuse(412, "resource_unavailable", "error during placement"));
    }
    let order = Order {
        name: name.to_owned(),
        cpu: server_type.cores,
        memory_gb: server_type.memory_gb,
        authorized_keys,
        host_key: rules::cloud_config(user_data)?.host_key.map(|(private, _)| private),
    };
    let user_data = user_data.to_owned();
    Ok(Draft { order, server_type, location, image, labels, user_data, ipv4, ipv6 })
}

//! The API's endpoints. Not responsible for: everything else, with 404.

use serde_json::{Value, json};

use super::rules::{self, Refusal, invalid, refuse};
use super::state::{Key, World};
use super::{Shared, locked, market};

pub(super) type Answer = Result<(u16, Value), Refusal>;

/// A request, taken apart.
pub(super) struct Asked {
    pub(super) method: String,
    /// Below `/v1`.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Value,
}

impl Asked {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The method and the path with `{id}` for numbers.
    pub(super) fn what(&self) -> String {
        let part = |part: &String| {
            if part.bytes().all(|byte| byte.is_ascii_digit()) { "/{id}".to_owned() } else { format!("/{part}") }
        };
        format!("{} {}", self.method, self.path.iter().map(part).collect::<String>())
    }

    /// Every number of the path.
    fn ids(&self) -> Vec<u64> {
        self.path.iter().filter_map(|part| part.parse().ok()).collect()
    }
}

fn not_found(what: &str, id: u64) -> Refusal {
    refuse(404, "not_found", format!("{what} with ID '{id}' not found"))
}

impl Shared {
    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        let id = asked.ids().first().copied().unwrap_or(0);
        if asked.what() == "POST /servers" {
            return self.create_server(&asked.body);
        }
        if asked.what() == "DELETE /servers/{id}" {
            return self.delete_server(id);
        }
        let mut world = locked(&self.world);
        if let ("GET", [kind]) = (asked.method.as_str(), asked.path.as_slice())
            && let Some((status, code)) = world.troubles.lists.get(kind.as_str())
        {
            return Err(refuse(*status, code, "this list fails"));
        }
        match asked.what().as_str() {
            "GET /servers" => {
                let seen = world.servers.values().filter(|server| world.is_listed(server.since));
                page(asked, "servers", seen.map(|server| world.server_json(server)).collect())
            }
            "GET /servers/{id}" => {
                let action = world.servers.get(&id).map(|server| server.action);
                world.look(action.unwrap_or(0));
                let server = world.servers.get(&id).ok_or_else(|| not_found("server", id))?;
                Ok((200, json!({"server": world.server_json(server)})))
            }
            "PUT /servers/{id}" => {
                let labels = rules::labels(&asked.body["labels"])?;
                let server = world.servers.get_mut(&id).ok_or_else(|| not_found("server", id))?;
                server.labels = labels;
                Ok((200, json!({"server": world.server_json(&world.servers[&id])})))
            }
            "GET /servers/{id}/actions" => {
                let of_it = world.actions.values().filter(|action| action.server == id);
                page(asked, "actions", of_it.map(|action| action.json()).collect())
            }
            "GET /actions/{id}" | "GET /servers/actions/{id}" => one_action(&mut world, id),
            "GET /servers/{id}/actions/{id}" => one_action(&mut world, asked.ids().last().copied().unwrap_or(0)),
            "POST /ssh_keys" => create_key(&mut world, &asked.body),
            "GET /ssh_keys" => {
                let seen = world.keys.values().filter(|key| world.is_listed(key.since));
                page(asked, "ssh_keys", seen.map(Key::json).collect())
            }
            "GET /ssh_keys/{id}" => {
                let key = world.keys.get(&id).ok_or_else(|| not_found("ssh_key", id))?;
                Ok((200, json!({"ssh_key": key.json()})))
            }
            "DELETE /ssh_keys/{id}" => {
                world.keys.remove(&id).map(|_| (204, Value::Null)).ok_or_else(|| not_found("ssh_key", id))
            }
            "GET /primary_ips" => page(asked, "primary_ips", world.ips.values().map(super::state::Ip::json).collect()),
            "DELETE /primary_ips/{id}" => {
                world.ips.remove(&id).map(|_| (204, Value::Null)).ok_or_else(|| not_found("primary_ip", id))
            }
            _ => sold(asked, world.tells_prices, id),
        }
    }

    fn delete_server(&self, id: u64) -> Answer {
        let (name, is_booted, action) = {
            let mut world = locked(&self.world);
            let server = world.servers.get(&id).ok_or_else(|| not_found("server", id))?;
            if world.is_locked(server) {
                let action = server.action;
                world.look(action);
                return Err(refuse(423, "locked", "server is locked by another action"));
            }
            let (name, is_booted) = (server.name.clone(), server.is_booted());
            let server = world.servers.get_mut(&id).expect("just seen");
            server.status = "deleting";
            let action = world.start("delete_server", id);
            if let Some(server) = world.servers.get_mut(&id) {
                server.action = action;
            }
            // The name is free again when the machine is gone.
            world.booting.insert(name.clone());
            (name, is_booted, world.actions[&action].json())
        };
        if is_booted {
            self.machines.kill(&name);
        }
        locked(&self.world).booting.remove(&name);
        Ok((200, json!({"action": action})))
    }
}

fn one_action(world: &mut World, id: u64) -> Answer {
    world.look(id);
    let action = world.actions.get(&id).ok_or_else(|| not_found("action", id))?;
    Ok((200, json!({"action": action.json()})))
}

fn create_key(world: &mut World, body: &Value) -> Answer {
    let text = |name: &str| {
        body[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| invalid(format!("{name}: missing")))
    };
    let (name, public_key) = (text("name")?.to_owned(), text("public_key")?.to_owned());
    let (labels, fingerprint) = (rules::labels(&body["labels"])?, rules::fingerprint(&public_key)?);
    if world.keys.values().any(|key| key.name == name || key.fingerprint == fingerprint) {
        return Err(refuse(409, "uniqueness_error", "SSH key with the same fingerprint or name already exists"));
    }
    let id = world.id();
    let (labels, since) = (world.made_with(labels), std::time::Instant::now());
    let mut key = Key { id, name, fingerprint, public_key, labels, created: world.now(), since };
    let answer = json!({"ssh_key": key.json()});
    key.labels = world.kept(key.labels);
    world.keys.insert(id, key);
    Ok((201, answer))
}

/// What is the same for everybody.
fn sold(asked: &Asked, tells_prices: bool, id: u64) -> Answer {
    let types = || market::TYPES.iter().map(|known| known.json(tells_prices)).collect::<Vec<_>>();
    let by_id = |all: Vec<Value>, key: &str| {
        let found = all.into_iter().find(|one| one["id"] == id).ok_or_else(|| not_found(key, id))?;
        Ok((200, json!({key: found})))
    };
    match asked.what().as_str() {
        "GET /server_types" => page(asked, "server_types", types()),
        "GET /server_types/{id}" => by_id(types(), "server_type"),
        "GET /locations" => page(asked, "locations", market::locations()),
        "GET /locations/{id}" => by_id(market::locations(), "location"),
        "GET /images" => page(asked, "images", market::images()),
        "GET /images/{id}" => by_id(market::images(), "image"),
        "GET /pricing" => Ok((200, market::pricing())),
        _ => Err(refuse(404, "not_found", "endpoint not found")),
    }
}

/// The page of a list that was asked for: filtered first.
fn page(asked: &Asked, key: &str, all: Vec<Value>) -> Answer {
    let mut kept = Vec::new();
    for one in all {
        let is = |name: &str| asked.query(name).is_none_or(|wanted| one[name] == wanted);
        let selected = match asked.query("label_selector") {
            Some(selector) => rules::selects(selector, &rules::labels(&one["labels"])?)?,
            None => true,
        };
        if is("name") && is("fingerprint") && is("architecture") && is("status") && selected {
            kept.push(one);
        }
    }
    let number = |name: &str, default: usize| match asked.query(name).map(str::parse) {
        None => Ok(default),
        Some(Ok(number)) if number > 0 => Ok(number),
        Some(_) => Err(invalid(format!("{name}: must be a positive number"))),
    };
    let (page, per_page) = (number("page", 1)?, number("per_page", 25)?.min(50));
    let total = kept.len();
    let last = total.div_ceil(per_page).max(1);
    let shown: Vec<Value> = kept.into_iter().skip((page - 1) * per_page).take(per_page).collect();
    let meta = json!({"pagination": {
        "page": page, "per_page": per_page, "total_entries": total, "last_page": last,
        "previous_page": (page > 1).then(|| page - 1), "next_page": (page < last).then(|| page + 1),
    }});
    Ok((200, json!({key: shown, "meta": meta})))
}

//! What the project holds, and how it is written as JSON. Not responsible for: names that are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::market::{self, Type};
use super::troubles::{LabelTrouble, Troubles};
use super::{Bill, ServerView};

pub(super) struct Server {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) server_type: &'static Type,
    pub(super) location: &'static str,
    pub(super) image: u64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ipv4: Option<String>,
    /// A network, `2001:db8::/64`.
    pub(super) ipv6: Option<String>,
    pub(super) status: &'static str,
    /// Of the machine, where there is one.
    pub(super) host_key: Option<String>,
    pub(super) user_data: String,
    pub(super) created: String,
    pub(super) since: Instant,
    /// The action that has it locked.
    pub(super) action: u64,
}

impl Server {
    pub(super) fn is_booted(&self) -> bool {
        self.host_key.is_some()
    }

    pub(super) fn view(&self) -> ServerView {
        ServerView {
            id: self.id,
            name: self.name.clone(),
            server_type: self.server_type.name.to_owned(),
            location: self.location.to_owned(),
            labels: self.labels.clone(),
            host_key: self.host_key.clone().unwrap_or_default(),
            user_data: self.user_data.clone(),
        }
    }

    pub(super) fn json(&self, locked: bool, tells_prices: bool) -> Value {
        let id = self.id;
        let ipv4 = self.ipv4.as_ref().map(
            |ip| json!({"id": id + 1, "ip": ip, "blocked": false, "dns_ptr": format!("static.{ip}.clients.example")}),
        );
        let ipv6 = self.ipv6.as_ref().map(|ip| json!({"id": id + 2, "ip": ip, "blocked": false, "dns_ptr": []}));
        json!({
            "id": id, "name": self.name, "status": self.status, "created": self.created, "locked": locked,
            "public_net": {"ipv4": ipv4, "ipv6": ipv6, "floating_ips": [], "firewalls": []},
            "private_net": [], "server_type": self.server_type.json(tells_prices), "location": market::location(self.location),
            "image": market::image(self.image), "iso": null, "rescue_enabled": false, "backup_window": null,
            "outgoing_traffic": 0, "ingoing_traffic": 0, "included_traffic": 21_990_232_555_520_u64,
            "protection": {"delete": false, "rebuild": false}, "labels": self.labels, "volumes": [], "load_balancers": [],
            "primary_disk_size": 40, "placement_group": null,
        })
    }
}

pub(super) struct Key {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) fingerprint: String,
    pub(super) public_key: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: String,
    pub(super) since: Instant,
}

impl Key {
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "fingerprint": self.fingerprint, "public_key": self.public_key,
            "labels": self.labels, "created": self.created,
        })
    }
}

pub(super) struct Ip {
    pub(super) id: u64,
    pub(super) ip: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: String,
}

impl Ip {
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id, "name": format!("primary_ip-{}", self.id), "ip": self.ip, "type": "ipv4", "blocked": false,
            "dns_ptr": [], "location": market::location("fsn1"), "protection": {"delete": false}, "labels": self.labels,
            "created": self.created, "assignee_id": null, "assignee_type": "server", "auto_delete": false,
        })
    }
}

pub(super) struct Action {
    pub(super) id: u64,
    pub(super) command: &'static str,
    pub(super) server: u64,
    started: String,
    /// See `World::clock`.
    clock: i64,
    /// It is over when it was looked at so often.
    left: u32,
}

impl Action {
    pub(super) fn is_running(&self) -> bool {
        self.left > 0
    }

    pub(super) fn json(&self) -> Value {
        let running = self.is_running();
        json!({
            "id": self.id, "command": self.command, "status": if running { "running" } else { "success" },
            "progress": if running { 50 } else { 100 }, "started": self.started,
            "finished": if running { Value::Null } else { json!(stamp(self.clock)) },
            "resources": [{"id": self.server, "type": "server"}], "error": null,
        })
    }
}

/// 3,600 requests an hour, one back a second.
pub(super) struct Budget {
    left: f64,
    seen: Instant,
}

impl Budget {
    pub(super) const LIMIT: f64 = 3600.0;

    pub(super) fn set(&mut self, left: u32) {
        (self.left, self.seen) = (f64::from(left), Instant::now());
    }

    /// Takes one; how many are left, or none where there was none.
    pub(super) fn take(&mut self) -> Option<f64> {
        self.left = (self.left + self.seen.elapsed().as_secs_f64()).min(Self::LIMIT);
        self.seen = Instant::now();
        (self.left >= 1.0).then(|| {
            self.left -= 1.0;
            self.left.floor()
        })
    }
}

pub(super) struct World {
    pub(super) servers: BTreeMap<u64, Server>,
    pub(super) keys: BTreeMap<u64, Key>,
    pub(super) ips: BTreeMap<u64, Ip>,
    pub(super) actions: BTreeMap<u64, Action>,
    pub(super) sold_out: BTreeSet<(String, String)>,
    /// Names of servers whose machine is being booted or killed.
    pub(super) booting: BTreeSet<String>,
    pub(super) looks: u32,
    pub(super) tells_prices: bool,
    /// So many machines to come have another host key than the one they were told.
    pub(super) others_keys: u32,
    pub(super) budget: Budget,
    pub(super) troubles: Troubles,
    /// By how many seconds its clock is ahead of this machine's.
    pub(super) clock: i64,
    gone: Vec<Bill>,
    next: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            servers: BTreeMap::new(),
            keys: BTreeMap::new(),
            ips: BTreeMap::new(),
            actions: BTreeMap::new(),
            sold_out: BTreeSet::new(),
            booting: BTreeSet::new(),
            looks: 2,
            tells_prices: true,
            others_keys: 0,
            budget: Budget { left: Budget::LIMIT, seen: Instant::now() },
            troubles: Troubles::default(),
            clock: 0,
            gone: Vec::new(),
            next: 1000,
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next += 10;
        self.next
    }

    /// The time by its clock.
    pub(super) fn now(&self) -> String {
        stamp(self.clock)
    }

    pub(super) fn start(&mut self, command: &'static str, server: u64) -> u64 {
        let (id, left, started, clock) = (self.id(), self.looks, self.now(), self.clock);
        self.actions.insert(id, Action { id, command, server, started, clock, left });
        if left == 0 {
            self.finish(id);
        }
        id
    }

    /// Somebody looks at an action: it comes along.
    pub(super) fn look(&mut self, id: u64) {
        let locked = self.troubles.locked;
        let server = self.actions.get(&id).and_then(|action| self.servers.get(&action.server));
        if server
            .is_some_and(|server| server.action == id && server.status != "deleting" && server.since.elapsed() < locked)
        {
            return;
        }
        let Some(action) = self.actions.get_mut(&id).filter(|action| action.left > 0) else { return };
        action.left -= 1;
        if action.left == 0 {
            self.finish(id);
        }
    }

    fn finish(&mut self, id: u64) {
        let Some(Action { command, server, .. }) = self.actions.get(&id) else { return };
        match *command {
            "create_server" => {
                if let Some(server) = self.servers.get_mut(server) {
                    server.status = "running";
                }
            }
            "delete_server" => {
                if let Some(server) = self.servers.remove(server) {
                    self.gone.push(bill(&server));
                }
            }
            _ => {}
        }
    }

    /// Whether lists show what was made then.
    pub(super) fn is_listed(&self, since: Instant) -> bool {
        since.elapsed() >= self.troubles.lag
    }

    /// The labels that something is made with.
    pub(super) fn made_with(&self, labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.troubles.labels == LabelTrouble::Dropped { BTreeMap::new() } else { labels }
    }

    /// The labels that something has after its create was answered.
    pub(super) fn kept(&self, labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.troubles.labels == LabelTrouble::Forgotten { BTreeMap::new() } else { labels }
    }

    pub(super) fn is_locked(&self, server: &Server) -> bool {
        self.actions.get(&server.action).is_some_and(Action::is_running)
    }

    pub(super) fn server_json(&self, server: &Server) -> Value {
        server.json(self.is_locked(server), self.tells_prices)
    }

    pub(super) fn add_server(&mut self, name: &str, labels: BTreeMap<String, String>) -> u64 {
        let id = self.id();
        let server = Server {
            id,
            name: name.to_owned(),
            server_type: market::find_type(&json!("cax11")).expect("a type"),
            location: "fsn1",
            image: market::find_image(&json!("debian-13"), "arm").expect("an image"),
            labels,
            ipv4: Some("198.51.100.1".to_owned()),
            ipv6: Some("2001:db8:ffff::/64".to_owned()),
            status: "running",
            host_key: None,
            user_data: String::new(),
            created: self.now(),
            since: Instant::now(),
            action: 0,
        };
        self.servers.insert(id, server);
        id
    }

    pub(super) fn add_ip(&mut self, labels: BTreeMap<String, String>) -> u64 {
        let id = self.id();
        let created = self.now();
        self.ips.insert(id, Ip { id, ip: "198.51.100.2".to_owned(), labels, created });
        id
    }

    pub(super) fn left(&self) -> Vec<String> {
        let servers = self.servers.values().map(|server| format!("server {} ({})", server.name, server.status));
        let booting = self.booting.iter().map(|name| format!("server {name} (booting or dying)"));
        let keys = self.keys.values().map(|key| format!("SSH key {}", key.name));
        let ips = self.ips.values().map(|ip| format!("primary IP {}", ip.id));
        servers.chain(booting).chain(keys).chain(ips).collect()
    }

    pub(super) fn bills(&self) -> Vec<Bill> {
        self.gone.iter().cloned().chain(self.servers.values().map(bill)).collect()
    }
}

fn bill(server: &Server) -> Bill {
    let hour = Duration::from_secs(3600).as_secs();
    Bill { name: server.name.clone(), hours: server.since.elapsed().as_secs() / hour + 1 }
}

/// Seconds since 1970 by a clock that is off by so many.
pub(super) fn seconds(off: i64) -> i64 {
    jiff::Timestamp::now().as_second() + off
}

fn stamp(off: i64) -> String {
    jiff::Timestamp::from_second(seconds(off)).expect("now").to_string()
}

//! What a chain of runs has for itself: a cloud, a registry, a project and, in some worlds, hosts of one's own. Not responsible for:
//! what is wrong with it (see `worlds`).

use std::cell::{OnceCell, RefCell};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hosts::Pair;
use super::node::Node;
use super::pool::Pool;
use super::worlds::{Place, World};
use crate::cloud::{Cloud, TYPES, in_registry, reachable_registry};
use crate::support::project::Ran;
use crate::support::proxmox;
use crate::support::registry::Registry;
use crate::support::sandbox::registry_ports;

/// The stage of a chain.
pub struct Stage {
    pub cloud: Cloud,
    _registry: Registry,
    /// Of the registry.
    address: String,
    in_it: String,
    /// Hosts of one's own, in the worlds that have them.
    pub pair: RefCell<Option<Pair>>,
    /// A node of Proxmox VE, from the first world on that has one.
    node: OnceCell<Node>,
    /// A pool that rents from the cloud, from the first world on that has one.
    pool: OnceCell<Pool>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A thousand chains would leave a thousand registries to the daemons of those to come.
        registry_ports().lock().expect("whole").remove(&self.address);
    }
}

impl Stage {
    pub fn new() -> Self {
        let (registry, address) = reachable_registry();
        let in_it = in_registry(&address);
        let mut cloud = Cloud::new("", &in_it);
        if let Some(binary) = std::env::var_os("LIAN_CHAOS_BIN").filter(|binary| !binary.is_empty()) {
            cloud.project.binary = binary.into();
        }
        let base = "  build_base = { image = \"base.example/busybox:1\" },";
        cloud.project.layer("base", base, "FROM base.example/busybox:1\nCOPY run /run-number\n");
        for name in ["left", "right"] {
            let dockerfile = format!("FROM lamina/base\nRUN echo {name}; sleep 0.3\n");
            cloud.project.layer(name, "  build_base = \"base\",", &dockerfile);
        }
        Self {
            cloud,
            _registry: registry,
            address,
            in_it,
            pair: RefCell::default(),
            node: OnceCell::new(),
            pool: OnceCell::new(),
        }
    }

    /// Writes the workflow of a world, with contexts that go this way.
    pub fn workflow(&self, world: &World, transfer: &str) {
        let provider = match (world.place, &*self.pair.borrow()) {
            (Place::Hosts, Some(pair)) => format!("'ssh, providers.ssh.hosts = [{}]", pair.listed()),
            (Place::Hosts, None) => panic!("there are no hosts"),
            (Place::Node, _) => format!("'proxmox, providers.proxmox = {}", self.node().said()),
            (Place::Pool, _) => format!("'vm_pool, providers.vm_pool = {}", self.pool().said()),
            (Place::Cloud, _) => format!(
                "'hcloud, providers.hcloud = {{ prepared = true, image = \"debian-13\", server_types = [{TYPES}] }}"
            ),
        };
        self.cloud.project.write(
            "workflows/local.ncl",
            &format!(
                "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", \
                 compute_provider = {provider}, runners = {{ boot_timeout_s = {}, context_transfer = {transfer} }}, \
                 parallel = 2, {} }} | Workflow\n",
                world.boot_timeout_s, self.in_it
            ),
        );
    }

    /// The node of Proxmox VE.
    pub fn node(&self) -> &Node {
        self.node.get_or_init(|| Node::start(Arc::clone(&self.cloud.hosts) as _))
    }

    /// The pool.
    pub fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| Pool::start(&self.cloud))
    }

    /// The binary with these arguments, as a user of all providers.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cloud.command(arguments);
        command.env("PROXMOX_TOKEN", proxmox::TOKEN);
        command
    }

    /// The machines that are there, each by what nothing else is called.
    pub fn rented(&self) -> Vec<String> {
        let mut rented: Vec<String> =
            self.cloud.fake.servers().into_iter().map(|server| format!("server {}", server.id)).collect();
        let machines = self.node.get().map(|node| node.fake.machines()).unwrap_or_default();
        rented.extend(machines.into_keys().map(|id| format!("machine {id}")));
        rented
    }

    /// What is there at the providers.
    pub fn left(&self) -> Vec<String> {
        let mut left = self.cloud.fake.everything_gone();
        left.extend(self.node.get().map(Node::left).unwrap_or_default());
        left.extend(self.pool.get().map(Pool::leases).unwrap_or_default());
        left
    }

    /// How many requests failed on demand or by chance.
    pub fn faults(&self) -> usize {
        self.cloud.fake.faults() + self.node.get().map_or(0, |node| node.fake.faults())
    }

    /// Runs a shell command on every host that lives.
    pub fn on_each(&self, script: &str) {
        self.cloud.hosts.on_each(script);
        for host in self.pair.borrow().iter().flat_map(|pair| &pair.hosts) {
            host.run(script);
        }
    }

    /// Cuts every host that lives off the network.
    pub fn cut_each(&self) {
        self.cloud.hosts.cut_each();
        for host in self.pair.borrow().iter().flat_map(|pair| &pair.hosts) {
            host.cut(true);
        }
    }

    /// What is left when all is well again and a last command has given back what it could; and what that said.
    pub fn left_at_the_end(&self) -> (Vec<String>, String) {
        self.cloud.fake.forgive();
        self.node.get().into_iter().for_each(Node::forgive);
        self.pool.get().into_iter().for_each(Pool::come_back);
        let mut collect = self.command(&["leases", "gc", "--provider", "hcloud"]);
        let collected = Ran::from(collect.output().expect("the binary starts")).exits(0);
        // A pool gives back by itself what its clients died over.
        let started = Instant::now();
        while self.pool.get().is_some() && !self.left().is_empty() && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut left = self.left();
        left.extend(self.cloud.hosts.alive().into_iter().map(|name| format!("the machine {name}")));
        (left, collected.both())
    }
}

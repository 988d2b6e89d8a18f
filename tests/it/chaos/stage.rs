//! What a chain of runs has for itself: a cloud, a registry, a project and, in some worlds, hosts of one's own. Not responsible for:
//! what is wrong with it (see `worlds`).

use std::cell::RefCell;

use super::hosts::Pair;
use super::worlds::{Place, World};
use crate::cloud::{Cloud, TYPES, in_registry, reachable_registry};
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
        Self { cloud, _registry: registry, address, in_it, pair: RefCell::default() }
    }

    /// Writes the workflow of a world, with contexts that go this way.
    pub fn workflow(&self, world: &World, transfer: &str) {
        let provider = match (world.place, &*self.pair.borrow()) {
            (Place::Hosts, Some(pair)) => format!("'ssh, providers.ssh.hosts = [{}]", pair.listed()),
            (Place::Hosts, None) => panic!("there are no hosts"),
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
        let collected = self.cloud.lian(&["leases", "gc", "--provider", "hcloud"]).exits(0);
        let mut left = self.cloud.fake.everything_gone();
        left.extend(self.cloud.hosts.alive().into_iter().map(|name| format!("the machine {name}")));
        (left, collected.both())
    }
}

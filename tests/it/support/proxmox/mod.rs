//! A Proxmox VE node in this process: its API over TLS, with machines that somebody else boots. Not responsible for: being kinder than
//! the real one.

mod agent;
mod api;
mod state;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use lian_build::adapters::providers::proxmox::ProxmoxSettings;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use state::{NODE, POOL, Seen, TEMPLATE, Trick};
use state::{Shared, Trap, Vm};
use tls::{Cut, TlsListener};

use super::machines::Machines;

/// The one token that it knows.
pub const TOKEN: &str = "lian@pve!build=6a1e3f0c-0000-4000-8000-00000000cafe";

/// A node that answers until it is dropped.
pub struct Fake {
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
    endpoint: String,
    fingerprint: String,
    server: AbortHandle,
}

impl Fake {
    /// With a template and nothing else.
    pub async fn start(machines: Arc<dyn Machines>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, fingerprint) = tls::certificate(folder.path());
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("https://{}", tcp.local_addr().expect("an address"));
        let shared = Arc::new(Shared::new(machines));
        let app = Router::new().fallback(api::handle).with_state(Arc::clone(&shared));
        let service = app.into_make_service_with_connect_info::<Cut>();
        let serving = async move { axum::serve(TlsListener { tcp, config }, service).await };
        let server = tokio::spawn(serving).abort_handle();
        Self { shared, folder, endpoint, fingerprint, server }
    }

    /// How it is reached, its certificate pinned by its fingerprint.
    pub fn settings(&self) -> ProxmoxSettings {
        ProxmoxSettings {
            endpoint: self.endpoint.clone(),
            node: NODE.to_owned(),
            template: TEMPLATE,
            ids: (5000, 5999),
            pool: Some(POOL.to_owned()),
            fingerprint: Some(self.fingerprint.clone()),
            ca: None,
            full_clone: false,
            platform: "linux/amd64".into(),
        }
    }

    /// The CA that signed its certificate.
    pub fn ca(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Lets the next so many requests of a method to a path with this end go wrong.
    pub fn trick(&self, method: &'static str, end: &'static str, times: u32, trick: Trick) {
        self.shared.state().traps.push(Trap { method, end, times, trick });
    }

    /// Somebody renames a machine when the next request of a method to a path with this end has come.
    pub fn rename_at(&self, method: &'static str, end: &'static str, id: u32, name: &'static str) {
        self.trick(method, end, 1, Trick::Rename(id, name));
    }

    /// Requests of a method to paths with this end are seen, and wait until they are not held any more.
    pub fn hold(&self, method: &'static str, end: &'static str, held: bool) {
        self.shared.state().held = held.then_some((method, end));
    }

    /// Agents of machines to come stay silent for so many questions; for ever where `None`.
    pub fn silence(&self, questions: Option<u32>) {
        self.shared.state().silent = questions;
    }

    /// Tasks to come take so many requests, of whatever kind.
    pub fn slow(&self, requests: u32) {
        self.shared.state().slow = requests;
    }

    /// Tasks that are under way take so many requests more.
    pub fn due_in(&self, requests: u32) {
        for task in self.shared.state().tasks.values_mut() {
            task.left = requests;
        }
    }

    /// Clones to come lose the name and the description that were asked for.
    pub fn unmarked(&self, unmarked: bool) {
        self.shared.state().unmarked = unmarked;
    }

    /// The list of machines shows clones only when they are so old.
    pub fn lists_lag(&self, lag: Duration) {
        self.shared.state().lag = lag;
    }

    /// How many requests went wrong.
    pub fn faults(&self) -> usize {
        self.shared.state().sprung
    }

    /// Nothing goes wrong any more, and tasks that are under way end.
    pub fn forgive(&self) {
        self.unmarked(false);
        self.lists_lag(Duration::ZERO);
        self.slow(1);
        self.due_in(0);
        self.shared.state().traps.clear();
    }

    /// Somebody takes a machine out of the token's pool; or puts it back.
    pub fn repool(&self, id: u32, pool: Option<&str>) {
        self.shared.state().there(id).expect("a machine").pool = pool.map(str::to_owned);
    }

    /// Somebody moves a machine to another node.
    pub fn move_away(&self, id: u32) {
        let mut state = self.shared.state();
        state.vms.remove(&id).expect("a machine");
        state.moved.insert(id);
    }

    /// A machine on another node is deleted there.
    pub fn delete_away(&self, id: u32) {
        assert!(self.shared.state().moved.remove(&id));
        self.shared.machines.kill(&format!("pve-{id}"));
    }

    /// The token gets rights on every machine.
    pub fn grant_all(&self) {
        self.shared.state().all_rights = true;
    }

    /// From now on the node's clock is so many seconds ahead of this machine's; behind it where that is negative.
    pub fn clock_ahead(&self, seconds: i64) {
        self.shared.state().clock = seconds;
    }

    /// Errors are told in the reason phrase only.
    pub fn terse(&self) {
        self.shared.state().terse = true;
    }

    /// Puts a stopped machine there.
    pub fn put(&self, id: u32, pool: Option<&str>, config: &[(&str, &str)]) {
        let vm = Vm { pool: pool.map(str::to_owned), ..Vm::new(config) };
        self.shared.state().vms.insert(id, vm);
    }

    /// Changes a machine's configuration behind everybody's back.
    pub fn set(&self, id: u32, name: &str, value: &str) {
        let mut state = self.shared.state();
        state.there(id).expect("a machine").config.insert(name.to_owned(), value.to_owned());
    }

    /// Takes a setting out of a machine's configuration.
    pub fn unset(&self, id: u32, name: &str) {
        self.shared.state().there(id).expect("a machine").config.remove(name);
    }

    /// The machines but for the template: ids and configurations.
    pub fn machines(&self) -> BTreeMap<u32, BTreeMap<String, String>> {
        let state = self.shared.state();
        assert!(state.vms.contains_key(&TEMPLATE), "the template was deleted");
        let others = state.vms.iter().filter(|(id, _)| **id != TEMPLATE);
        others.map(|(id, vm)| (*id, vm.config.clone())).collect()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.state().requests.clone()
    }

    /// How many requests of a method went to paths with this end.
    pub fn count(&self, method: &str, end: &str) -> usize {
        self.requests().iter().filter(|seen| seen.method == method && seen.path.ends_with(end)).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
        for (id, vm) in &self.shared.state().vms {
            if vm.running {
                self.shared.machines.kill(&format!("pve-{id}"));
            }
        }
    }
}

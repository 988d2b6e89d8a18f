//! What a node knows: machines, tasks, and what is to go wrong. Not responsible for: HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::support::machines::{Booted, Machines, Order};

pub const TEMPLATE: u32 = 9000;
pub const POOL: &str = "lian";
pub const NODE: &str = "pve";
pub const USER: &str = "lian@pve!build";

pub type Config = BTreeMap<String, String>;

/// A virtual machine.
#[derive(Default)]
pub struct Vm {
    pub config: Config,
    pub running: bool,
    pub pool: Option<String>,
    pub booted: Option<Booted>,
    /// Questions that the agent leaves unanswered until it is up; `None` is for ever.
    pub silent: Option<u32>,
    /// Questions until cloud-init is through.
    pub settling: u32,
    /// When it was cloned; `None` for those that were there before.
    pub made: Option<Instant>,
}

impl Vm {
    pub fn new(config: &[(&str, &str)]) -> Self {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { config, ..Self::default() }
    }

    pub fn get(&self, name: &str) -> &str {
        self.config.get(name).map_or("", String::as_str)
    }

    fn locked(&self) -> Result<(), String> {
        self.config.get("lock").map_or(Ok(()), |lock| Err(format!("VM is locked ({lock})")))
    }
}

/// What a task does when its time has come.
pub enum Work {
    Clone { id: u32, config: Config, pool: Option<String> },
    Configure { id: u32, changes: Config },
    Start { id: u32 },
    Stop { id: u32 },
    Destroy { id: u32 },
}

/// A task: over after a number of requests of whatever kind.
pub struct Task {
    pub kind: &'static str,
    pub id: u32,
    pub left: u32,
    pub work: Option<Work>,
    /// The error that it is to end with.
    pub fate: Option<String>,
    pub exit: Option<String>,
}

/// What is to go wrong with a request.
#[derive(Clone, Copy, Debug)]
pub enum Trick {
    /// It is refused, and nothing done.
    Refuse(u16, &'static str),
    /// It is done, and the answer lost.
    Lose,
    /// Its task ends with this error, and nothing done.
    Fail(&'static str),
    /// Before it is done, somebody renames this machine.
    Rename(u32, &'static str),
}

/// The next so many requests of a method, to a path that ends in `end`.
pub struct Trap {
    pub method: &'static str,
    pub end: &'static str,
    pub times: u32,
    pub trick: Trick,
}

/// A request that came in, without its token.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub fields: Config,
}

#[derive(Default)]
pub struct State {
    pub vms: BTreeMap<u32, Vm>,
    /// Ids of machines that are on another node.
    pub moved: BTreeSet<u32>,
    pub tasks: BTreeMap<String, Task>,
    pub traps: Vec<Trap>,
    /// How often one of them was met.
    pub sprung: usize,
    pub requests: Vec<Seen>,
    /// See `Vm::silent`, of machines to come.
    pub silent: Option<u32>,
    /// Whether clones lose the name and the description that were asked for.
    pub unmarked: bool,
    /// How many requests a task takes.
    pub slow: u32,
    /// How long the list of machines does not show a clone.
    pub lag: Duration,
    /// Whether the token has rights on every machine rather than on its pool.
    pub all_rights: bool,
    /// A method and the end of a path: such requests are seen, and wait.
    pub held: Option<(&'static str, &'static str)>,
    /// Whether errors are told in the reason phrase only, as by older releases.
    pub terse: bool,
    /// By how many seconds the node's clock is ahead of this machine's.
    pub clock: i64,
}

pub struct Shared {
    state: Mutex<State>,
    pub machines: Arc<dyn Machines>,
}

impl Shared {
    pub fn new(machines: Arc<dyn Machines>) -> Self {
        let mut state = State { silent: Some(2), slow: 1, ..State::default() };
        let config = [("name", "runner"), ("template", "1"), ("cores", "1"), ("memory", "512"), ("tags", "house")];
        state.vms.insert(TEMPLATE, Vm::new(&[&config[..], &[("description", "the template\n")]].concat()));
        Self { state: Mutex::new(state), machines }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panicked")
    }

    /// Every request is a tick of the tasks' clock.
    pub async fn tick(&self) {
        let mut due = Vec::new();
        for (task, state) in &mut self.state().tasks {
            if state.left > 0 {
                state.left -= 1;
            } else if let Some(work) = state.work.take() {
                due.push((task.clone(), work, state.fate.clone()));
            }
        }
        for (task, work, fate) in due {
            let done = match fate {
                Some(fate) => Err(self.undo(&work, fate)),
                None => self.perform(work).await,
            };
            let exit = done.err().unwrap_or_else(|| "OK".to_owned());
            self.state().tasks.get_mut(&task).expect("a task").exit = Some(exit);
        }
    }

    /// A clone that fails leaves nothing.
    fn undo(&self, work: &Work, fate: String) -> String {
        match work {
            Work::Clone { id, .. } => {
                self.state().vms.remove(id);
                format!("clone failed: {fate}")
            }
            _ => fate,
        }
    }

    async fn perform(&self, work: Work) -> Result<(), String> {
        match work {
            Work::Clone { id, mut config, pool } => {
                if self.state().unmarked {
                    config.remove("name");
                    config.remove("description");
                }
                self.state().vms.insert(id, Vm { config, pool, made: Some(Instant::now()), ..Vm::default() });
                Ok(())
            }
            Work::Configure { id, changes } => {
                let mut state = self.state();
                let vm = state.there(id)?;
                vm.locked()?;
                vm.config.extend(changes);
                Ok(())
            }
            Work::Start { id } => self.boot(id).await,
            Work::Stop { id } => {
                self.state().there(id)?.running = false;
                self.kill(id).await;
                Ok(())
            }
            Work::Destroy { id } => {
                let mut state = self.state();
                let vm = state.there(id)?;
                vm.locked()?;
                if vm.running {
                    return Err(format!("VM {id} is running - destroy failed"));
                }
                state.vms.remove(&id);
                Ok(())
            }
        }
    }

    async fn boot(&self, id: u32) -> Result<(), String> {
        let order = {
            let mut state = self.state();
            let silent = state.silent;
            let vm = state.there(id)?;
            vm.locked()?;
            if vm.running {
                return Err(format!("VM {id} already running"));
            }
            (vm.running, vm.silent, vm.settling) = (true, silent, 2);
            let number = |name: &str| vm.get(name).parse::<u32>().expect("checked when it was set");
            let keys = decode(vm.get("sshkeys"));
            Order {
                name: format!("pve-{id}"),
                cpu: number("cores"),
                memory_gb: number("memory") / 1024,
                authorized_keys: keys.lines().map(str::to_owned).collect(),
                host_key: None,
            }
        };
        let machines = Arc::clone(&self.machines);
        let booted = tokio::task::spawn_blocking(move || machines.boot(&order)).await.expect("booted");
        self.state().there(id)?.booted = Some(booted);
        Ok(())
    }

    async fn kill(&self, id: u32) {
        let machines = Arc::clone(&self.machines);
        tokio::task::spawn_blocking(move || machines.kill(&format!("pve-{id}"))).await.expect("killed");
    }
}

impl State {
    pub fn there(&mut self, id: u32) -> Result<&mut Vm, String> {
        self.vms.get_mut(&id).ok_or(format!("Configuration file 'nodes/{NODE}/qemu-server/{id}.conf' does not exist"))
    }

    /// Begins a task.
    pub fn begin(&mut self, kind: &'static str, id: u32, work: Work, fate: Option<String>) -> String {
        let number = self.tasks.len() + 0x1000;
        let task = format!("UPID:{NODE}:{number:08X}:{number:08X}:65A1B2C3:{kind}:{id}:{USER}:");
        let left = self.slow;
        self.tasks.insert(task.clone(), Task { kind, id, left, work: Some(work), fate, exit: None });
        task
    }

    /// What is to go wrong with a request.
    pub fn trick(&mut self, method: &str, path: &str) -> Option<Trick> {
        let trap = self.traps.iter_mut().find(|t| t.times > 0 && t.method == method && path.ends_with(t.end))?;
        trap.times -= 1;
        self.sprung += 1;
        Some(trap.trick)
    }
}

/// Undoes percent-encoding.
pub fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// What `ssh-keygen -l` would accept.
pub fn is_public_key(line: &str) -> bool {
    let mut words = line.split(' ');
    let (Some(kind), Some(key)) = (words.next(), words.next()) else { return false };
    let Ok(blob) = base64::engine::general_purpose::STANDARD.decode(key) else { return false };
    blob.get(4..4 + kind.len()) == Some(kind.as_bytes())
}

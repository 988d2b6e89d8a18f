//! A Proxmox VE node whose machines are hosts of the stage's cloud, and what goes wrong there. Not responsible for: what
//! befalls a run (see `blows`).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::Dice;
use super::stage::Stage;
use crate::support::machines::Machines;
use crate::support::proxmox::{Fake, Trick};
use crate::support::silencer::{SILENCES, Silence, Silencer};

/// A node, and the runtime that it lives in.
pub struct Node {
    pub fake: Fake,
    silencer: Silencer,
    /// How it is silent when it falls silent.
    silence: Cell<Silence>,
    // Dropped after the fake, whose server lives in it.
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    pub fn start(machines: Arc<dyn Machines>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let fake = runtime.block_on(Fake::start(machines));
        let silencer = Silencer::before(fake.settings().endpoint.trim_start_matches("https://"));
        Self { fake, silencer, silence: Cell::new(Silence::Deaf), _runtime: runtime }
    }

    /// What a workflow says of it.
    pub fn said(&self) -> String {
        let (settings, address) = (self.fake.settings(), self.silencer.address());
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        format!(
            "{{ endpoint = \"https://{address}\", node = \"{}\", template = {}, ids = [{}, {}], fingerprint = \"{}\", \
             pool = \"{}\", platform = \"linux/{arch}\" }}",
            settings.node,
            settings.template,
            settings.ids.0,
            settings.ids.1,
            settings.fingerprint.expect("pinned"),
            settings.pool.expect("a pool")
        )
    }

    /// The machines that are there, each with what says whose it is.
    pub fn left(&self) -> Vec<String> {
        let told = |(id, config): (u32, std::collections::BTreeMap<String, String>)| {
            let said = |name: &str| config.get(name).cloned().unwrap_or_default();
            format!("machine {id} ({} {})", said("name"), said("description").trim_end())
        };
        self.fake.machines().into_iter().map(told).collect()
    }

    /// From now on it takes connections and says nothing more.
    pub fn fall_silent(&self) {
        self.silencer.set(self.silence.get());
    }

    /// Nothing is wrong with it any more.
    pub fn forgive(&self) {
        self.silencer.set(Silence::None);
        self.fake.forgive();
    }
}

/// The next requests of some kind go wrong, and tasks take their time.
pub fn faults(stage: &Stage, dice: &mut Dice) -> String {
    let (method, end) = *dice.pick(&[
        ("GET", "/qemu"),
        ("GET", "/config"),
        ("GET", "/status"),
        ("POST", "/clone"),
        ("POST", "/config"),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("DELETE", ""),
    ]);
    let refused = Trick::Refuse(599, "Too many redirections");
    let how = *dice.pick(&[Trick::Lose, Trick::Refuse(500, "got timeout"), refused, Trick::Fail("no space left")]);
    let times = 1 + u32::try_from(dice.below(3)).expect("small");
    let fake = &stage.node().fake;
    fake.trick(method, end, times, how);
    fake.slow(1 + u32::try_from(dice.below(6)).expect("small"));
    format!(": {method} {end} {times} times: {how:?}")
}

/// Clones have neither the name nor the description that were asked for.
pub fn unmarked(stage: &Stage, _: &mut Dice) -> String {
    stage.node().fake.unmarked(true);
    String::new()
}

/// The list of machines does not show what was made a moment ago.
pub fn lists_lag(stage: &Stage, dice: &mut Dice) -> String {
    let lag = Duration::from_millis(500 + dice.below(4500));
    stage.node().fake.lists_lag(lag);
    format!(" by {lag:?}")
}

/// Tasks are under way for ever, from some moment on.
pub fn endless_tasks(stage: &Stage, _: &mut Dice) -> String {
    stage.node().fake.slow(u32::MAX);
    String::new()
}

/// Decides how it will be silent.
pub fn silence_to_come(stage: &Stage, dice: &mut Dice) -> String {
    let silence = *dice.pick(&SILENCES);
    stage.node().silence.set(silence);
    format!(": {silence:?}")
}

pub fn forgive(stage: &Stage) {
    stage.node().forgive();
}

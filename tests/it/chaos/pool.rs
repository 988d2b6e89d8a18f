//! A pool (`lian-build serve`) between the runs and the stage's cloud: it is killed, comes back and hangs like any
//! service. Not responsible for: what goes wrong in the cloud behind it (see `worlds`).

use std::cell::RefCell;
use std::process::Command;

use crate::cloud::{Cloud, TYPES};
use crate::serve::{Serving, ask, start_from};
use crate::support::hetzner;
use crate::support::project::Project;

/// A pool, with a folder and a user of its own.
pub struct Pool {
    project: Project,
    endpoint: String,
    /// Of the cloud that it rents from.
    cloud: String,
    serving: RefCell<Option<Serving>>,
}

impl Pool {
    /// One that rents from this cloud. It listens on a socket file, which stays where it is when the service is killed
    /// and comes back.
    pub fn start(cloud: &Cloud) -> Self {
        let mut project = Project::new();
        project.binary.clone_from(&cloud.project.binary);
        project.write(
            "pool.ncl",
            &format!(
                "{{ compute_provider = 'hcloud, providers.hcloud = {{ prepared = true, image = \"debian-13\", \
                 server_types = [{TYPES}] }}, runners = {{ boot_timeout_s = 30 }} }}\n"
            ),
        );
        let mut pool = Self {
            project,
            endpoint: String::new(),
            cloud: cloud.fake.endpoint().to_owned(),
            serving: RefCell::default(),
        };
        pool.come_back();
        pool.endpoint = pool.serving.borrow().as_ref().map(|serving| serving.address.clone()).expect("it serves");
        pool
    }

    /// What a workflow says of it.
    pub fn said(&self) -> String {
        format!("{{ endpoint = \"{}\", workspace = \"w\" }}", self.endpoint)
    }

    /// It is killed, wherever it is.
    pub fn die(&self) {
        drop(self.serving.take());
    }

    /// It serves, whatever befell it.
    pub fn come_back(&self) {
        self.hang(false);
        let is_down = self.serving.borrow().is_none();
        if is_down {
            let mut command = self.project.command(&["serve", "--workflow", "pool.ncl"]);
            command.env("HCLOUD_TOKEN", hetzner::TOKEN).env("HCLOUD_ENDPOINT", &self.cloud);
            *self.serving.borrow_mut() = Some(start_from(command));
        }
    }

    /// It hangs, or goes on.
    pub fn hang(&self, hangs: bool) {
        if let Some(serving) = &*self.serving.borrow() {
            let signal = if hangs { "-STOP" } else { "-CONT" };
            let _ = Command::new("kill").arg(signal).arg(serving.id().to_string()).status();
        }
    }

    /// The leases that it knows of.
    pub fn leases(&self) -> Vec<String> {
        let serving = self.serving.borrow();
        let (status, listed) = ask(serving.as_ref().expect("it serves"), "GET", "/api/v1/vm-pool", "", "");
        assert_eq!(status, 200, "{listed}");
        let leases = listed["leases"].as_array().expect("a list").iter();
        leases.map(|lease| format!("the pool's lease {lease}")).collect()
    }
}

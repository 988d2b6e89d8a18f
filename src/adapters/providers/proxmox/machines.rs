//! Finds, inspects and deletes the node's virtual machines that are ours. Not responsible for: machines that lack any
//! of our marks (never touched).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::api::{Api, Polls};
use super::api_error::ApiError;
use super::mark::{self, Mark, TAG};
use super::settings::ProxmoxSettings;
use super::token::Token;
use crate::domain::base::LeaseId;
use crate::domain::model::Fault;

/// An entry of the node's machine list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) id: u32,
    pub(super) name: String,
    tags: Vec<String>,
}

/// The fields of a machine's configuration that we use.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: String,
    tags: Vec<String>,
    pub(super) mark: Option<Mark>,
    template: bool,
    /// The operation that locks it: `clone`, `backup` etc.
    pub(super) lock: Option<String>,
    /// Authorized SSH keys, percent-encoded.
    pub(super) keys: String,
}

/// How a machine is recognised as a lease's. Ids are used again, so an id alone says nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identity<'a> {
    /// By its marks alone: name, description and tags.
    Marks,
    /// Its id is in the lease's record, and it was made under this name: it is the lease's as long as it has the name
    /// or the description.
    Known(&'a str),
    /// It was made by the task that just ended.
    Made,
}

/// The machines found for a lease.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Ids of the machines that we may release.
    pub(super) ours: Vec<u32>,
    /// A machine that is ours by its description, but whose name or tags were changed.
    pub(super) renamed: Option<(u32, String)>,
    /// The owner of a machine that belongs to someone else and has not expired.
    pub(super) elsewhere: Option<String>,
    /// Why a machine that might be the lease's cannot be looked at.
    pub(super) unread: Option<ApiError>,
}

/// The machines of the node, from one owner's point of view.
#[derive(Debug)]
pub(super) struct Machines {
    pub(super) api: Arc<Api>,
    pub(super) template: u32,
    /// The id range for leases.
    ids: (u32, u32),
    pub(super) owner: String,
    /// Pending create requests, which may outlive the future that sent them; `release` waits for them.
    under_way: Mutex<BTreeMap<LeaseId, Arc<tokio::sync::Mutex<()>>>>,
}

/// Perl returns numbers and booleans as numbers or as strings.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn tags(value: &Value) -> Vec<String> {
    let split = value.as_str().unwrap_or("").split([';', ',', ' ']).filter(|tag| !tag.is_empty());
    split.map(str::to_lowercase).collect()
}

/// The machines of a list.
pub(super) fn listed(list: &Value) -> Vec<Listed> {
    let listed = |vm: &Value| {
        let id = u32::try_from(number(&vm["vmid"])).ok()?;
        Some(Listed { id, name: text(&vm["name"]), tags: tags(&vm["tags"]) })
    };
    let mut list: Vec<Listed> = list.as_array().into_iter().flatten().filter_map(listed).collect();
    list.sort_by_key(|vm| vm.id);
    list
}

/// A machine's configuration as the API tells it.
pub(super) fn read_config(config: &Value) -> Config {
    Config {
        name: text(&config["name"]),
        tags: tags(&config["tags"]),
        mark: Mark::read(config["description"].as_str().unwrap_or("")),
        template: number(&config["template"]) != 0,
        lock: config["lock"].as_str().map(str::to_owned),
        keys: text(&config["sshkeys"]),
    }
}

impl Machines {
    /// Creates the client for the settings' node; sends nothing yet.
    pub(super) fn new(settings: &ProxmoxSettings, token: Token, owner: String) -> Result<Self, Fault> {
        let (api, under_way) = (Arc::new(Api::new(settings, token)?), Mutex::default());
        Ok(Self { api, template: settings.template, ids: settings.ids, owner, under_way })
    }

    /// Mutex of a lease, held during each create request.
    pub(super) fn under_way(&self, lease: &LeaseId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.under_way.lock().unwrap_or_else(PoisonError::into_inner).entry(lease.clone()).or_default())
    }

    /// Drops the mutex of a finished lease.
    pub(super) fn forget(&self, lease: &LeaseId) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }

    /// The API path of a machine, relative to the node's.
    pub(super) fn path(id: u32, rest: &str) -> String {
        format!("qemu/{id}{rest}")
    }

    /// Every machine that is visible to the token.
    async fn list(&self, until: Instant) -> Result<Vec<Listed>, ApiError> {
        Ok(listed(&self.api.call(Method::GET, "qemu", &[], until).await?))
    }

    /// A machine's configuration; `None` if it does not exist.
    pub(super) async fn config(&self, id: u32, until: Instant) -> Result<Option<Config>, ApiError> {
        let config = match self.try_config(id, until).await {
            // Permissions granted through a pool come and go with the machine.
            Err(trouble) if trouble.is_denied() => {
                let there = match self.list(until).await {
                    Ok(list) => list.iter().any(|vm| vm.id == id),
                    Err(_) => !self.is_free(id, until).await?,
                };
                // Its clone may have ended between the two questions.
                if there { self.try_config(id, until).await? } else { None }
            }
            answer => answer?,
        };
        Ok(config.as_ref().map(read_config))
    }

    /// What the API tells of a machine; `None` if it tells that there is none.
    async fn try_config(&self, id: u32, until: Instant) -> Result<Option<Value>, ApiError> {
        match self.api.call(Method::GET, &Self::path(id, "/config"), &[], until).await {
            Err(trouble) if trouble.is_gone() => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The mark of a machine that lian-build created, for any owner: name, description and tags must all match. An
    /// unconfigured clone still has its template's tags.
    async fn mark(&self, config: &Config, until: Instant) -> Result<Option<Mark>, ApiError> {
        let Some(mark) = config.mark.clone().filter(|mark| mark.name() == config.name && !config.template) else {
            return Ok(None);
        };
        if mark::tags(&mark.owner).iter().all(|tag| config.tags.contains(tag)) {
            return Ok(Some(mark));
        }
        let template = self.config(self.template, until).await?;
        let sorted = |tags: &[String]| {
            let mut tags = tags.to_vec();
            tags.sort();
            tags
        };
        Ok(template.is_some_and(|template| sorted(&template.tags) == sorted(&config.tags)).then_some(mark))
    }

    /// Whether a machine belongs to this lease and we may release it: we made it, or it has expired.
    pub(super) async fn is_ours(
        &self,
        config: &Config,
        lease: &LeaseId,
        identity: Identity<'_>,
        until: Instant,
    ) -> Result<bool, ApiError> {
        match identity {
            Identity::Marks => {}
            Identity::Made => return Ok(!config.template),
            Identity::Known(name) => {
                let said = config.mark.as_ref().map(|mark| mark.lease == *lease);
                return Ok(!config.template && config.name == name && said != Some(false));
            }
        }
        let mark = self.mark(config, until).await?.filter(|mark| mark.lease == *lease);
        Ok(mark.is_some_and(|mark| mark.owner == self.owner || self.api.clock().is_past(mark.expires)))
    }

    /// The machines of a lease. A renamed machine is found by its tags or its id.
    pub(super) async fn of(&self, lease: &LeaseId, until: Instant) -> Result<Found, ApiError> {
        let mut found = Found::default();
        let ids = mark::ids(self.ids, self.template, lease);
        for vm in self.list(until).await? {
            let tagged = vm.tags.iter().any(|tag| tag == TAG);
            let could_be = mark::could_be(&vm.name, lease) || tagged || ids.contains(&vm.id);
            if vm.id == self.template || !could_be {
                continue;
            }
            let config = match self.config(vm.id, until).await {
                Ok(Some(config)) => config,
                Ok(None) => continue,
                // It must not keep the lease's own machine alive.
                Err(trouble) => {
                    found.unread = Some(trouble);
                    continue;
                }
            };
            let Some(said) = config.mark.clone().filter(|mark| mark.lease == *lease) else { continue };
            match self.mark(&config, until).await? {
                Some(mark) if mark.owner == self.owner || self.api.clock().is_past(mark.expires) => {
                    found.ours.push(vm.id)
                }
                Some(mark) => found.elsewhere = Some(mark.owner),
                None if said.owner == self.owner && !config.template => found.renamed = Some((vm.id, config.name)),
                None => {}
            }
        }
        Ok(found)
    }

    /// All machines that carry lian-build's mark, and why others cannot be looked at.
    pub(super) async fn marked(&self, until: Instant) -> Result<(Vec<(u32, Mark)>, Vec<ApiError>), ApiError> {
        let (mut marked, mut unread) = (Vec::new(), Vec::new());
        for vm in self.list(until).await? {
            if vm.tags.iter().any(|tag| tag == TAG) || vm.name.starts_with("lian-") {
                match self.mark_of(vm.id, until).await {
                    Ok(mark) => marked.extend(mark.map(|mark| (vm.id, mark))),
                    Err(trouble) => unread.push(trouble),
                }
            }
        }
        Ok((marked, unread))
    }

    async fn mark_of(&self, id: u32, until: Instant) -> Result<Option<Mark>, ApiError> {
        match self.config(id, until).await? {
            Some(config) => self.mark(&config, until).await,
            None => Ok(None),
        }
    }

    /// Whether no machine of the cluster has this id. Unlike a node's list this does not depend on rights or nodes.
    pub(super) async fn is_free(&self, id: u32, until: Instant) -> Result<bool, ApiError> {
        match self.api.call(Method::GET, "/cluster/nextid", &[("vmid", id.to_string())], until).await {
            Ok(_) => Ok(true),
            Err(trouble) if trouble.is_taken() => Ok(false),
            // Then the node's word is all there is.
            Err(trouble) if trouble.is_unknown_method() => Ok(true),
            Err(trouble) => Err(trouble),
        }
    }

    /// Waits for running clones of the template. Until a clone is done, its machine has no name, and is invisible if
    /// permissions come with the pool.
    pub(super) async fn settle(&self, until: Instant) -> Result<(), ApiError> {
        let fields = [("source", "active".to_owned()), ("typefilter", "qmclone".to_owned())];
        let tasks = self.api.call(Method::GET, "tasks", &fields, until).await?;
        let template = self.template.to_string();
        let ours = |task: &&Value| task["endtime"].is_null() && task["id"].as_str() == Some(&template);
        for task in tasks.as_array().into_iter().flatten().filter(ours).filter_map(|task| task["upid"].as_str()) {
            match self.api.ended(task, until).await {
                // Whoever started the task handles its result.
                Ok(()) | Err(ApiError::Failed { .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Waits until a machine is unlocked; `None` if it no longer exists or is not this lease's.
    pub(super) async fn unlocked(
        &self,
        id: u32,
        lease: &LeaseId,
        identity: Identity<'_>,
        until: Instant,
    ) -> Result<Option<Config>, ApiError> {
        let mut polls = Polls::until(until);
        loop {
            let Some(config) = self.config(id, until).await? else { return Ok(None) };
            if !self.is_ours(&config, lease, identity, until).await? {
                return Ok(None);
            }
            let Some(lock) = &config.lock else { return Ok(Some(config)) };
            polls.pause(|| format!("the machine {id} is locked ({lock})")).await?;
        }
    }

    /// Whether a machine is running.
    pub(super) async fn is_running(&self, id: u32, until: Instant) -> Result<bool, ApiError> {
        let status = self.api.call(Method::GET, &Self::path(id, "/status/current"), &[], until).await?;
        Ok(status["status"] == "running")
    }

    /// Stops and deletes a machine with its disks; checks before each step that it is still ours.
    pub(super) async fn destroy(
        &self,
        id: u32,
        lease: &LeaseId,
        identity: Identity<'_>,
        until: Instant,
    ) -> Result<(), ApiError> {
        let purge = [("purge", "1".to_owned()), ("destroy-unreferenced-disks", "1".to_owned())];
        let mut polls = Polls::until(until);
        while self.unlocked(id, lease, identity, until).await?.is_some() {
            let done = match self.is_running(id, until).await {
                Ok(true) => self.api.work(Method::POST, &Self::path(id, "/status/stop"), &[], until).await,
                Ok(false) => self.api.work(Method::DELETE, &Self::path(id, ""), &purge, until).await,
                Err(trouble) => Err(trouble),
            };
            match done {
                Ok(()) => {}
                // Its state changed meanwhile (started, stopped or deleted): check again.
                Err(trouble) if trouble.is_about_running() || trouble.is_gone() => {
                    polls.pause(|| format!("the machine {id} cannot be deleted: {trouble:?}")).await?;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }
}

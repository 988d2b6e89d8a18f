//! Creates a running server for a lease request. Not responsible for: a second server for one lease, and servers of
//! others (never touched).

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use super::api::parse;
use super::boot::{self, Boot};
use super::creation::{Creation, SERVER, SSH_KEY, resources};
use super::error::ApiError;
use super::model::{Action, Created, Labels, PublicNet, Server, SshKey};
use super::offers::{self, Candidate};
use super::{Hcloud, names};
use crate::adapters::providers::keys::{self, Pair};
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{AcquireRequest, Endpoint, Lease, LeaseRecord, Resource, SshTarget};
use crate::system::now;

/// What all attempts of one lease share.
struct ServerRequest<'a> {
    request: &'a AcquireRequest,
    record: &'a LeaseRecord,
    name: String,
    labels: Labels,
    /// Public key that may log in.
    login: String,
    /// Our own key pair for the login, if we created one.
    client: Option<Pair>,
    host: Pair,
    user_data: String,
}

impl Hcloud {
    pub(super) async fn rent(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let ready_by = Some(now().plus(self.api.pace().boot));
        let market = self.market().await?;
        let candidates = offers::candidates(&self.settings, &market.types, request)?;
        let server_request = self.server_request(request, record).await?;
        let (server, action) = self.create(&server_request, &candidates).await?;
        self.wait_for(&server, action).await?;
        let address = address(&server.public_net).ok_or_else(|| {
            let message = format!("the server {} has no public address", server.name);
            Fault::new(FaultKind::Infrastructure, "lian::hcloud::no_address", message)
                .help("look at it in the Hetzner console, or set `providers.hcloud.ipv4 = true`")
        })?;
        let offer = offers::offer(&server.server_type, [server.place()], &market.fees);
        let (user, host_key) = ("root".to_owned(), server_request.host.public);
        let identity = server_request.client.map(|pair| pair.private);
        let endpoint = Endpoint::Ssh(SshTarget { address, port: 22, user, host_key, identity, is_configured: false });
        Ok(Lease { id: request.lease.clone(), offer, endpoint, ready_by })
    }

    async fn server_request<'a>(
        &self,
        request: &'a AcquireRequest,
        record: &'a LeaseRecord,
    ) -> Result<ServerRequest<'a>, Fault> {
        let folder = keys::folder(&self.keys, &names::value(request.lease.as_str()))?;
        let host = Pair::ensure(&folder, "host").await?;
        let (login, client) = match &request.authorized_key {
            Some(key) => (key.clone(), None),
            None => {
                let pair = Pair::ensure(&folder, "client").await?;
                (pair.public.clone(), Some(pair))
            }
        };
        let login = keys::bare(&login).ok_or_else(|| {
            Fault::configuration("lian::hcloud::key", "the key that is to log in is not a public key")
                .help("give a line like `ssh-ed25519 AAAA…`")
        })?;
        let secret = host.secret(&folder)?;
        let lifetime = request.lifetime.as_millis().div_ceil(1000);
        let lifetime = u64::try_from(lifetime).unwrap_or(u64::MAX);
        let boot =
            Boot { platform: request.platform.as_str(), host_private: &secret, host_public: &host.public, lifetime };
        let user_data = boot::user_data(&self.settings, &boot)?;
        let name = names::server(&self.owner, &names::value(request.lease.as_str()));
        let expires = self.api.clock().after(request.lifetime);
        let labels = names::labels(&self.settings.labels, &self.owner, request, expires, &host.public);
        Ok(ServerRequest { request, record, name, labels, login, client, host, user_data })
    }

    /// A server and its create action; no action if the server existed already.
    async fn create(
        &self,
        server_request: &ServerRequest<'_>,
        candidates: &[Candidate<'_>],
    ) -> Result<(Server, Option<Action>), Fault> {
        let mut key = self.ssh_key(server_request).await?;
        for &candidate in candidates {
            if let Some(made) = self.create_as(server_request, candidate, &mut key).await? {
                return Ok(made);
            }
        }
        // An earlier run may have created a server for this lease and died before the response.
        match self.adopt(server_request).await? {
            Some(server) => Ok((server, None)),
            None => Err(offers::sold_out(candidates)),
        }
    }

    /// `None` if this type is sold out in this location.
    async fn create_as(
        &self,
        server_request: &ServerRequest<'_>,
        candidate: Candidate<'_>,
        key: &mut u64,
    ) -> Result<Option<(Server, Option<Action>)>, Fault> {
        let mut pauses = self.api.pauses();
        let mut fresh_keys = 3;
        loop {
            let body = self.body(server_request, candidate, *key);
            let error = match self.make(server_request, SERVER, &body).await?.and_then(parse::<Created>) {
                Ok(created) => return Ok(Some((created.server, Some(created.action)))),
                Err(error) if error.is_sold_out() => return Ok(None),
                Err(error) => error,
            };
            if (error.may_have_worked() || error.is("uniqueness_error"))
                && let Some(server) = self.adopt(server_request).await?
            {
                return Ok(Some((server, None)));
            }
            // A caller's key may be stored under another lease and deleted with it: look it up again.
            let is_stale = server_request.client.is_none() && (error.is_not_found() || error.is("invalid_input"));
            if is_stale && fresh_keys > 0 {
                fresh_keys -= 1;
                let again = self.ssh_key(server_request).await?;
                if std::mem::replace(key, again) != again {
                    continue;
                }
            }
            pauses.after(error).await.map_err(|error| error.into_fault("rent a server"))?;
        }
    }

    /// Creates something for a lease. An answer that lacks our labels is undone at once: without them nobody but this
    /// process would know whose it is.
    async fn make(
        &self,
        server_request: &ServerRequest<'_>,
        kind: &'static str,
        body: &Value,
    ) -> Result<Result<Value, ApiError>, Fault> {
        let (lease, record) = (&server_request.request.lease, server_request.record);
        let made = self.creations.make(&self.api, Creation { lease, record, kind, body }).await;
        let Ok(answer) = &made else { return Ok(made) };
        let Some(resource) = resources(kind, answer).into_iter().next() else { return Ok(made) };
        let labels: Labels = serde_json::from_value(answer[kind]["labels"].clone()).unwrap_or_default();
        if names::are_kept(&labels, &server_request.labels) && resource.name.as_ref() == Some(&server_request.name) {
            return Ok(made);
        }
        Err(self.undone(server_request, &resource).await)
    }

    /// Deletes what was created without our marks, and tells it.
    async fn undone(&self, server_request: &ServerRequest<'_>, resource: &Resource) -> Fault {
        let undone = self.give_back(&server_request.request.lease, server_request.record).await;
        let end = match undone {
            Ok(_) => "it was deleted again".to_owned(),
            Err(fault) => format!("it is not deleted yet: {}", fault.message),
        };
        let message = format!("{resource} was made without the name and labels that were asked for; {end}");
        Fault::new(FaultKind::Unavailable, "lian::hcloud::unmarked", message).help(
            "whatever answers for Hetzner Cloud (HCLOUD_ENDPOINT, a proxy) drops labels, and without them nobody finds \
             what a run left: use one that keeps them",
        )
    }

    fn body(&self, server_request: &ServerRequest<'_>, candidate: Candidate<'_>, key: u64) -> Value {
        // A snapshot has an id but no name.
        let image = self.settings.image.parse::<u64>().map_or_else(|_| json!(self.settings.image), |id| json!(id));
        json!({
            "name": server_request.name,
            "server_type": candidate.server_type,
            "location": candidate.location,
            "image": image,
            "labels": server_request.labels,
            "ssh_keys": [key],
            "public_net": {"enable_ipv4": self.settings.ipv4, "enable_ipv6": true},
            "user_data": server_request.user_data,
        })
    }

    /// The server with this lease's name, if it belongs to this lease.
    async fn adopt(&self, server_request: &ServerRequest<'_>) -> Result<Option<Server>, Fault> {
        let found: Vec<Server> = self
            .api
            .list("servers", &[("name", &server_request.name)])
            .await
            .map_err(|error| error.into_fault("find a server"))?;
        let Some(server) = found.into_iter().find(|server| server.name == server_request.name) else { return Ok(None) };
        if !names::are_of(&server.labels, &self.owner, &names::value(server_request.request.lease.as_str())) {
            return Err(name_taken("server", &server_request.name));
        }
        server_request.record.learn(Resource::new(SERVER, server.id).named(server.name.as_str())).await;
        let why = if server.status == "deleting" {
            "is being deleted"
        } else if server.labels.get(names::HOST_KEY) != server_request.labels.get(names::HOST_KEY) {
            "was made with keys that are gone"
        } else {
            return Ok(Some(server));
        };
        let message = format!("the server {} {why}", server.name);
        Err(Fault::new(FaultKind::Infrastructure, "lian::hcloud::stale", message)
            .help("give it back, then run it again"))
    }

    /// API id of the key that may log in; uploads the key if needed.
    async fn ssh_key(&self, server_request: &ServerRequest<'_>) -> Result<u64, Fault> {
        let refused = |error: ApiError| error.into_fault("store an SSH key");
        let body =
            json!({"name": server_request.name, "public_key": server_request.login, "labels": server_request.labels});
        let mut pauses = self.api.pauses();
        loop {
            let made = self.make(server_request, SSH_KEY, &body).await?;
            let error = match made.and_then(|mut answer| parse::<SshKey>(answer["ssh_key"].take())) {
                Ok(key) => return Ok(key.id),
                Err(error) => error,
            };
            if error.is("uniqueness_error")
                && let Some(id) = self.stored_key(server_request).await?
            {
                return Ok(id);
            }
            pauses.after(error).await.map_err(refused)?;
        }
    }

    /// The key as already stored: under this lease's name or, for a caller's key, under any name.
    async fn stored_key(&self, server_request: &ServerRequest<'_>) -> Result<Option<u64>, Fault> {
        let refused = |error: ApiError| error.into_fault("find an SSH key");
        let named: Vec<SshKey> = self.api.list("ssh_keys", &[("name", &server_request.name)]).await.map_err(refused)?;
        let same = |key: &&SshKey| keys::bare(&key.public_key).is_some_and(|public| public == server_request.login);
        if let Some(key) = named.first() {
            if !names::are_of(&key.labels, &self.owner, &names::value(server_request.request.lease.as_str())) {
                return Err(name_taken("SSH key", &server_request.name));
            }
            server_request.record.learn(Resource::new(SSH_KEY, key.id).named(key.name.as_str())).await;
            if same(&key) {
                return Ok(Some(key.id));
            }
            // Our key, but its pair no longer exists.
            self.api.delete(&format!("/ssh_keys/{}", key.id)).await.map_err(refused)?;
            return Ok(None);
        }
        if server_request.client.is_some() {
            return Ok(None);
        }
        // Reuse the stored key; whoever stored it deletes it.
        let print = keys::md5_fingerprint(&server_request.login).await?;
        let alike: Vec<SshKey> = self.api.list("ssh_keys", &[("fingerprint", &print)]).await.map_err(refused)?;
        Ok(alike.iter().find(same).map(|key| key.id))
    }

    /// Waits until the server is created.
    async fn wait_for(&self, server: &Server, action: Option<Action>) -> Result<(), Fault> {
        let refused = |error: ApiError| error.into_fault("report a server's progress");
        let failed = |what: String| {
            let message = format!("the server {} was not made: {what}", server.name);
            Fault::new(FaultKind::Infrastructure, "lian::hcloud::create_failed", message)
                .help("run it again; if it happens again, see https://status.hetzner.com")
        };
        let mut polls = self.api.polls();
        let mut action = action;
        loop {
            match &action {
                Some(done) if done.status == "success" => return Ok(()),
                Some(Action { status, error, .. }) if status == "error" => {
                    let what = error.as_ref().map(|error| format!("{} ({})", error.message, error.code));
                    return Err(failed(what.unwrap_or_else(|| "it does not say why".to_owned())));
                }
                Some(running) => {
                    polls.poll().await;
                    let path = format!("/actions/{}", running.id);
                    // The API no longer knows the action, so it is over; check the server itself.
                    action = self.api.find(&path, "action").await.map_err(refused)?;
                }
                None => {
                    let path = format!("/servers/{}", server.id);
                    match self.api.find::<Server>(&path, "server").await.map_err(refused)?.map(|server| server.status) {
                        None => return Err(failed("it is gone again".to_owned())),
                        Some(status) if status == "running" => return Ok(()),
                        Some(status) if status == "off" || status == "deleting" => return Err(failed(status)),
                        Some(_) => {
                            polls.poll().await;
                        }
                    }
                }
            }
        }
    }
}

fn name_taken(what: &str, name: &str) -> Fault {
    let message = format!("the project holds a {what} called {name} that is not this lease's");
    Fault::new(FaultKind::Unavailable, "lian::hcloud::name_taken", message)
        .help(format!("look at its labels in the Hetzner console; rename or delete it, then run it again ({name})"))
}

/// The IPv4 address, or else the first address of the IPv6 network, which the server assigns to itself.
fn address(net: &PublicNet) -> Option<String> {
    if let Some(ipv4) = net.ipv4.as_ref().filter(|ipv4| !ipv4.ip.is_empty()) {
        return Some(ipv4.ip.clone());
    }
    let network: Ipv6Addr = net.ipv6.as_ref()?.ip.split('/').next()?.parse().ok()?;
    Some(Ipv6Addr::from_bits(network.to_bits() | 1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_the_network_is_the_servers() {
        let net = |ipv4: Value, ipv6: Value| -> PublicNet {
            serde_json::from_value(json!({"ipv4": ipv4, "ipv6": ipv6})).expect("a net")
        };
        let (four, six) = (json!({"ip": "192.0.2.7"}), json!({"ip": "2001:db8::/64"}));
        assert_eq!(address(&net(four, six.clone())).as_deref(), Some("192.0.2.7"));
        assert_eq!(address(&net(Value::Null, six)).as_deref(), Some("2001:db8::1"));
        assert_eq!(address(&net(Value::Null, Value::Null)), None);
    }
}

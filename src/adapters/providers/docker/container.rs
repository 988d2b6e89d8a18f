//! One container per lease: creates, finds by name, checks by labels, removes. Not responsible for: building in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Capacity, Engine};
use super::settings::DockerLocalSettings;
use crate::adapters::docker_cli::{DockerError, PATIENCE, is_missing};
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::model::{Fault, FaultKind, Offer};
use crate::domain::ports::{AcquireRequest, Gone, LeaseRecord, OwnedLease, Resource, STEP_LOGS};
use crate::system::retry::Backoff;
use crate::system::{RemoteClock, RemoteTime};

/// Label of our containers; its value is the lease id.
const LEASE: &str = "build.lian.lease";
/// The kind of what a lease's record holds.
const CONTAINER: &str = "container";
const RUN: &str = "build.lian.run";
/// Label with the expiry: milliseconds since the Unix epoch.
const CREATED: &str = "build.lian.created";
const EXPIRES: &str = "build.lian.expires";

/// What a container gets besides its size.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// Registries (`host[:port]`) that its daemon reaches without TLS.
    pub http_registries: Vec<String>,
    /// CA certificates (PEM); the only ones its daemon trusts.
    pub ca_bundle: Option<PathBuf>,
}

/// Request for a container.
pub(super) struct ContainerRequest<'a> {
    pub request: &'a AcquireRequest,
    pub offer: &'a Offer,
    pub capacity: &'a Capacity,
    pub settings: &'a DockerLocalSettings,
    pub inside: &'a DaemonOptions,
}

fn name(lease: &LeaseId) -> String {
    format!("lian-{lease}")
}

/// Creates the lease's container, or reuses the one created before, and starts it.
pub(super) async fn start(
    engine: &Engine,
    container_request: &ContainerRequest<'_>,
    record: &LeaseRecord,
) -> Result<String, Fault> {
    let name = name(&container_request.request.lease);
    let args = create_args(&name, container_request, engine.clock());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match engine.create(&container_request.request.lease, &args).await {
        Ok(id) => record.learn(Resource::new(CONTAINER, id).named(name.as_str())).await,
        Err(DockerError::Refused(words)) if words.contains("is already in use") => {
            if holder(engine, &name).await?.as_deref() != Some(container_request.request.lease.as_str()) {
                return Err(not_ours(&name));
            }
        }
        Err(said) => return Err(said.fault()),
    }
    let folder = crate::system::scratch::folder().map_err(|error| unwritable(&error))?;
    write(folder.path(), container_request.inside).map_err(|error| unwritable(&error))?;
    let from = format!("{}/.", folder.path().display());
    engine.docker(&["cp", &from, &format!("{name}:/")]).await.map_err(DockerError::fault)?;
    engine.docker(&["start", &name]).await.map_err(DockerError::fault)?;
    // Last resort if nobody releases it: at expiry the daemon stops, and the container with it.
    let left = container_request.request.lifetime.as_secs();
    let end = format!("sleep {left}; kill 1");
    if let Err(said) = engine.docker(&["exec", "--detach", &name, "sh", "-c", &end]).await {
        tracing::debug!("{name} has no time limit: {}", said.fault().message);
    }
    Ok(name)
}

fn create_args(name: &str, container_request: &ContainerRequest<'_>, clock: &RemoteClock) -> Vec<String> {
    let (request, offer) = (container_request.request, container_request.offer);
    let memory = (u64::from(offer.memory_gb) << 30).min(container_request.capacity.memory);
    let cpus = offer.cpu.min(container_request.capacity.cpu);
    let label = |key: &str, value: String| format!("--label={key}={value}");
    let mut args = vec![
        "create".to_owned(),
        "--privileged".to_owned(),
        "--pull=never".to_owned(),
        "--restart=no".to_owned(),
        format!("--name={name}"),
        label(LEASE, request.lease.to_string()),
        label(RUN, request.run.to_string()),
        label(CREATED, clock.now().0.0.to_string()),
        label(EXPIRES, clock.after(request.lifetime).0.0.to_string()),
        format!("--memory={memory}"),
        // Memory and swap together: equal values disable swap.
        format!("--memory-swap={memory}"),
        format!("--cpus={cpus}"),
    ];
    args.extend(container_request.settings.network.iter().map(|network| format!("--network={network}")));
    args.extend(STEP_LOGS.iter().map(|(name, value)| format!("--env={name}={value}")));
    if container_request.inside.ca_bundle.is_some() {
        args.push(format!("--env=SSL_CERT_FILE=/{CA}"));
    }
    args.push(container_request.settings.image.clone());
    args
}

const CA: &str = "etc/buildkit/ca.crt";

/// Writes the daemon's files into a folder that mirrors the container's `/`.
fn write(root: &Path, inside: &DaemonOptions) -> std::io::Result<()> {
    let folder = root.join("etc/buildkit");
    std::fs::create_dir_all(&folder)?;
    let mut text = String::from("[worker.containerd]\nenabled = false\n");
    for host in &inside.http_registries {
        text.push_str(&format!("\n[registry.{}]\nhttp = true\n", serde_json::Value::from(host.as_str())));
    }
    std::fs::write(folder.join("buildkitd.toml"), text)?;
    match &inside.ca_bundle {
        Some(bundle) => std::fs::copy(bundle, root.join(CA)).map(drop),
        None => Ok(()),
    }
}

/// The lease of a container: `None` if it does not exist, empty if it is not ours.
async fn holder(engine: &Engine, name: &str) -> Result<Option<String>, Fault> {
    let format = format!("{{{{index .Config.Labels \"{LEASE}\"}}}}");
    match engine.docker(&["container", "inspect", "--format", &format, name]).await {
        Ok(lease) => Ok(Some(lease)),
        Err(DockerError::Refused(words)) if is_missing(&words) => Ok(None),
        Err(said) => Err(said.fault()),
    }
}

/// Removes a lease's container and its volumes: by the ids of the record, whatever labels it has by now, and then by
/// name. Succeeds if it does not exist.
pub(super) async fn remove(engine: &Engine, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
    let mut end = Gone::Absent;
    for container in record.of(CONTAINER) {
        if removed(engine, &container.id).await? == Gone::Deleted {
            end = Gone::Deleted;
        }
    }
    let name = name(lease);
    // A container whose creation was called off, or not answered, may still be coming.
    if let Some(late) = engine.settled(lease).await {
        appeared(engine, &name, late).await?;
    }
    match holder(engine, &name).await? {
        None => Ok(end),
        Some(found) if found == lease.as_str() => removed(engine, &name).await,
        Some(_) => Err(not_ours(&name)),
    }
}

/// Removes one container, by id or name.
async fn removed(engine: &Engine, container: &str) -> Result<Gone, Fault> {
    match engine.remove(&["rm", "--force", "--volumes", container]).await {
        Ok(_) => Ok(Gone::Deleted),
        Err(DockerError::Refused(words)) if is_missing(&words) => Ok(Gone::Absent),
        Err(DockerError::Refused(words)) if words.contains("already in progress") => {
            gone(engine, container).await.map(|()| Gone::Deleted)
        }
        Err(said) => Err(said.fault()),
    }
}

/// Waits until a container is there, or until it cannot appear any more.
async fn appeared(engine: &Engine, name: &str, late: Instant) -> Result<(), Fault> {
    let mut looks = Backoff::of_polls(Duration::from_millis(100), Duration::from_secs(2)).pauses().until(late);
    while holder(engine, name).await?.is_none() {
        if !looks.poll().await {
            break;
        }
    }
    Ok(())
}

/// Waits until a removal started elsewhere is done.
async fn gone(engine: &Engine, name: &str) -> Result<(), Fault> {
    let polls = Backoff::of_polls(Duration::from_millis(100), Duration::from_secs(2));
    let mut polls = polls.pauses().until(Instant::now() + PATIENCE);
    while holder(engine, name).await?.is_some() {
        if !polls.poll().await {
            return Err(DockerError::NoAnswer(PATIENCE).fault());
        }
    }
    Ok(())
}

/// All containers with our label, running or not.
pub(super) async fn marked(engine: &Engine) -> Result<Vec<OwnedLease>, Fault> {
    let column = |label: &str| format!("{{{{.Label \"{label}\"}}}}");
    let format = [LEASE, RUN, CREATED, EXPIRES].map(column).join("\t") + "\t{{.ID}}\t{{.State}}";
    let filter = format!("label={LEASE}");
    engine.look_at_clock().await;
    let all = engine.docker(&["ps", "--all", "--no-trunc", "--filter", &filter, "--format", &format]).await;
    let here = |line| row(line, engine.clock());
    Ok(all.map_err(DockerError::fault)?.lines().filter_map(here).collect())
}

fn row(line: &str, clock: &RemoteClock) -> Option<OwnedLease> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [lease, run, created, expires, id, state] = fields[..] else { return None };
    let time = |text: &str| text.parse().ok().map(|at| clock.here(RemoteTime(Timestamp(at))));
    Some(OwnedLease {
        lease: LeaseId::from(lease),
        run: (!run.is_empty()).then(|| RunId::from(run)),
        what: format!("container {:.12}, {state}", id),
        created: time(created),
        expires: time(expires),
    })
}

fn not_ours(name: &str) -> Fault {
    let message = format!("the container `{name}` was not made for this lease");
    Fault::new(FaultKind::Unavailable, "lian::docker::name_taken", message)
        .help(format!("inspect it with `docker inspect {name}`, and remove it if nobody needs it"))
}

fn unwritable(error: &std::io::Error) -> Fault {
    let message = format!("the container's configuration cannot be written: {error}");
    Fault::new(FaultKind::Unavailable, "lian::docker::configuration", message)
        .help("free disk space, check whether the CA bundle can be read, or set TMPDIR to a writable folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_docker_ps_is_a_lease() {
        let lease = row("r1-2\tr1\t1000\t2000\t0123456789abcdef\texited", &RemoteClock::default()).expect("a lease");
        assert_eq!((lease.lease.as_str(), lease.what.as_str()), ("r1-2", "container 0123456789ab, exited"));
        assert_eq!((lease.created, lease.expires), (Some(Timestamp(1000)), Some(Timestamp(2000))));
        assert!(row("nonsense", &RemoteClock::default()).is_none());
    }

    #[test]
    fn the_daemon_is_told_of_registries_without_tls_and_of_the_ca() {
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = folder.path().join("bundle.pem");
        std::fs::write(&bundle, "PEM").expect("a file");
        let inside = DaemonOptions { http_registries: vec!["10.0.0.1:5000".into()], ca_bundle: Some(bundle) };
        write(folder.path(), &inside).expect("written");
        let read = |name: &str| std::fs::read_to_string(folder.path().join("etc/buildkit").join(name)).expect("a file");
        assert!(read("buildkitd.toml").ends_with("[registry.\"10.0.0.1:5000\"]\nhttp = true\n"));
        assert_eq!(read("ca.crt"), "PEM");
    }
}

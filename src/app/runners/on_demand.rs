//! This machine's own daemon as a builder. Not responsible for: runners elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::net::{TcpStream, UnixStream};

use crate::adapters::buildkit::{
    Buildctl, BuildkitError, Daemon, DaemonConfig, HostCounters, REACH, Shared, other_platform,
};
use crate::domain::base::{Digest, Platform};
use crate::domain::model::{BuildEvent, Classified, Fault, FaultClass, FaultKind};
use crate::domain::ports::{BuildRequest, BuildSink, Builder, Built, VerifyRequest};
use crate::system::error_chain::with_causes;
use crate::system::http::is_loopback_proxy;
use crate::system::http2::greet;
use crate::system::watch::{SignsOfLife, until_silent};

/// The way out where the daemon of `BUILDKIT_HOST` builds for other platforms than this machine's.
const OTHER_PLATFORM: &str = "let BUILDKIT_HOST name a daemon that builds for this machine's platform, or unset it; or install \
                              emulation there: `docker run --privileged --rm tonistiigi/binfmt --install all`";

/// A builder that finds its daemon on first use, and again after losing it. A run that builds nothing uses no daemon.
#[derive(Default)]
pub struct OnDemand {
    http_registries: Vec<String>,
    host_network: bool,
    /// Whether it was said that steps share this machine's network.
    told: AtomicBool,
    daemon: tokio::sync::Mutex<Option<Arc<Ready>>>,
}

/// A daemon that answers, and the builder on it.
struct Ready {
    daemon: Daemon,
    builder: Buildctl,
    /// Whether steps have a network of their own.
    own_network: bool,
}

impl OnDemand {
    /// A builder whose daemon uses plain HTTP for these registries (`host[:port]`). `host_network`: steps may use this
    /// machine's network, unless the user says otherwise.
    pub fn new(http_registries: Vec<String>, host_network: bool) -> Self {
        Self { http_registries, host_network, ..Self::default() }
    }

    async fn builder(&self) -> Result<Arc<Ready>, Fault> {
        let mut held = self.daemon.lock().await;
        if let Some(daemon) = &*held {
            return Ok(Arc::clone(daemon));
        }
        let mut config = DaemonConfig::from_env().map_err(|error| unavailable(&error))?;
        config.http_registries.clone_from(&self.http_registries);
        let daemon = Daemon::ensure(&config).await.map_err(|error| unavailable(&error))?;
        let mut builder = Buildctl::on(&daemon);
        let mut own_network = false;
        if config.address.is_none() {
            let host_network = config.host_network.unwrap_or(self.host_network);
            builder = builder.with_counters(Arc::new(HostCounters::default())).with_host_network(host_network);
            own_network = !host_network && daemon.shared().is_none();
            // Whoever chose it knows it.
            self.told.fetch_or(host_network, Ordering::Relaxed);
        }
        let ready = Arc::new(Ready { daemon, builder, own_network });
        *held = Some(Arc::clone(&ready));
        Ok(ready)
    }

    /// Whether the daemon of `BUILDKIT_HOST` builds for this platform. Our own does, and is not started for the question; one
    /// that does not answer is told by the build.
    pub async fn serves(&self, platform: &Platform) -> Result<(), Fault> {
        if !DaemonConfig::from_env().is_ok_and(|config| config.address.is_some()) {
            return Ok(());
        }
        let Ok(ready) = self.builder().await else { return Ok(()) };
        let place = format!("the BuildKit daemon at {}", ready.daemon.address());
        other_platform(&place, ready.daemon.platforms(), platform, OTHER_PLATFORM).map_or(Ok(()), Err)
    }

    /// Ends the work if the daemon falls silent: a build on one that hangs, or behind a link that is gone, never ends.
    async fn watched<T>(
        &self,
        daemon: &Daemon,
        signs: &SignsOfLife,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let address = daemon.address();
        let result = tokio::select! {
            biased;
            done = work => done,
            silent = until_silent(signs, || greeted(address)) => Err(hangs(address, silent)),
        };
        self.forget(result).await
    }

    /// After an infrastructure fault, find the daemon again.
    async fn forget<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.as_ref().is_err_and(|fault| fault.class() == FaultClass::Infrastructure) {
            *self.daemon.lock().await = None;
        }
        result
    }
}

/// Proxies that a build's arguments name on the loopback, which is another one for steps with a network of their own.
fn proxies_out_of_reach(request: &BuildRequest) -> impl Iterator<Item = String> {
    let named = request.build_args.iter().filter(|(name, value)| {
        let name = name.to_ascii_lowercase();
        name.ends_with("_proxy") && name != "no_proxy" && is_loopback_proxy(value)
    });
    named.map(|(name, _)| {
        format!(
            "{name} is a proxy on this machine's loopback, which steps do not reach: they have a network of their own. \
             LIAN_NETWORK=host lets them use this machine's"
        )
    })
}

/// Greets the daemon at an address. Only sockets can be greeted: of any other address it is assumed that it answers.
async fn greeted(address: &str) -> std::io::Result<()> {
    match address.split_once("://") {
        Some(("unix", path)) => greet(UnixStream::connect(path).await?).await,
        Some(("tcp", place)) => greet(TcpStream::connect(place).await?).await,
        _ => Ok(()),
    }
}

fn hangs(address: &str, error: Option<std::io::Error>) -> Fault {
    let message = format!("the BuildKit daemon at {address} does not answer any more");
    let mut fault = Fault::new(FaultKind::Infrastructure, "lian::buildkit::daemon_hangs", message);
    fault.evidence =
        Some(error.map_or_else(|| "it takes connections and says nothing".to_owned(), |error| error.to_string()));
    fault.help("start it anew; `lian-build doctor` shows its log")
}

/// The fault of a machine without a daemon. A retry does not help.
pub fn unavailable(error: &BuildkitError) -> Fault {
    let code = miette::Diagnostic::code(error).map_or_else(|| "lian::buildkit::daemon".to_owned(), |c| c.to_string());
    let fault = Fault::new(FaultKind::Unavailable, &code, with_causes(error)).with_class(error.class());
    match miette::Diagnostic::help(error) {
        Some(help) => fault.help(help.to_string()),
        None => fault,
    }
}

#[async_trait]
impl Builder for OnDemand {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        let ready = self.builder().await?;
        if let Some(Shared { why, mend }) = ready.daemon.shared()
            && !self.told.swap(true, Ordering::Relaxed)
        {
            sink(BuildEvent::Warning { message: format!("{REACH} ({why}); to mend it: {mend}") });
        }
        if ready.own_network {
            proxies_out_of_reach(request).for_each(|message| sink(BuildEvent::Warning { message }));
        }
        let signs = SignsOfLife::default();
        let heard = |event: BuildEvent| {
            signs.heard();
            sink(event);
        };
        self.watched(&ready.daemon, &signs, ready.builder.build(request, &heard)).await
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        let ready = self.builder().await?;
        self.watched(&ready.daemon, &SignsOfLife::default(), ready.builder.verify(request)).await
    }
}

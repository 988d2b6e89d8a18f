//! One thing of the user's world that a declaration wants. Not responsible for: finding them, and who grants them.

use serde::{Deserialize, Serialize};

use crate::adapters::providers::{Credential, Peer};
use crate::domain::base::{Digest, LayerName, SourceLocation};
use crate::domain::model::Diagnostic;

/// The kinds of what can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An address that a provider's credential goes to.
    Endpoint,
    /// A provider whose machines cost the user something.
    Provider,
    /// A host to log in to with the user's keys.
    Host,
    /// An image that runs privileged on this machine.
    RunnerImage,
    /// A network of this machine.
    HostNetwork,
    /// A registry for which the user has a login.
    Registry,
    /// An image layout outside the project that builds stand on.
    BaseImage,
    /// A file outside the project that every build gets.
    CaBundle,
    /// A file outside the project.
    SecretFile,
    /// An environment variable.
    SecretEnv,
    /// The keys of the ssh agent.
    SshAgent,
}

/// What a declaration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Its kind.
    pub kind: Kind,
    /// Which one: an address, a variable, a file.
    pub what: String,
    /// The layer that gets it, if it is not for all.
    pub layer: Option<LayerName>,
    /// The id of the secret or ssh mount.
    pub id: Option<String>,
    /// Whatever else must stay as it is.
    pub terms: String,
    /// The declaring file, relative to the project's root.
    pub file: String,
    /// Where it is declared, as displayed.
    pub place: SourceLocation,
    /// Whether it is there now: what is not there cannot be given, so nobody needs to grant it yet.
    pub present: bool,
    /// Why nobody can grant it.
    pub never: Option<String>,
    /// What goes to an address.
    pub credential: Option<Credential>,
    /// How whoever gets it is recognised.
    pub peer: Option<Peer>,
}

impl Kind {
    /// The code of its refusal.
    pub fn code(self) -> &'static str {
        match self {
            Self::Endpoint => "lian::trust::endpoint",
            Self::Provider => "lian::trust::provider",
            Self::Host => "lian::trust::host",
            Self::RunnerImage => "lian::trust::runner_image",
            Self::HostNetwork => "lian::trust::host_network",
            Self::Registry => "lian::trust::registry",
            Self::BaseImage => "lian::trust::base_image",
            Self::CaBundle => "lian::trust::ca_bundle",
            Self::SecretFile | Self::SecretEnv => "lian::trust::secret",
            Self::SshAgent => "lian::trust::ssh_agent",
        }
    }
}

impl Want {
    /// A want of the whole project.
    pub fn of_all(kind: Kind, what: impl Into<String>, file: String, place: SourceLocation) -> Self {
        let (what, terms) = (what.into(), String::new());
        let (never, credential, peer) = (None, None, None);
        Self { kind, what, layer: None, id: None, terms, file, place, present: true, never, credential, peer }
    }

    /// Identifies exactly this: whatever differs is another want.
    pub fn digest(&self) -> Digest {
        let parts = (self.kind, &self.what, &self.layer, &self.id, &self.terms, &self.file);
        Digest::of(serde_json::to_string(&parts).expect("invariant: a want is plain data"))
    }

    /// Whether a command must stop for it, unless it is granted. What nobody can grant stops it even where it is absent:
    /// it may be there the next time.
    pub fn blocks(&self) -> bool {
        self.present || self.never.is_some()
    }

    /// What it is, in few words.
    pub fn name(&self) -> String {
        let what = &self.what;
        match self.kind {
            Kind::Endpoint => match &self.peer {
                None => format!("the address {what}"),
                Some(Peer::Fingerprint(pinned)) => format!("the address {what} with the certificate {pinned}"),
                Some(Peer::Ca(file)) => format!("the address {what} with the CA {}", file.display()),
            },
            Kind::Provider => format!("the provider {what}"),
            Kind::Host => format!("the login {what}"),
            Kind::RunnerImage if self.credential.is_some() => format!("the BuildKit {what} for runners"),
            Kind::RunnerImage => format!("the runner image {what}"),
            Kind::HostNetwork => format!("the network {what} of this machine"),
            Kind::Registry => format!("your login at the registry {what}"),
            Kind::BaseImage => format!("the image in {what}"),
            Kind::CaBundle => format!("the CA bundle {what}"),
            Kind::SecretFile => format!("the file {what}"),
            Kind::SecretEnv => format!("the variable {what}"),
            Kind::SshAgent => "the keys of your ssh agent".to_owned(),
        }
    }

    /// What a grant lets happen.
    pub fn effect(&self) -> String {
        let layer = self.layer.as_ref().map_or_else(|| "every build".to_owned(), |layer| format!("layer `{layer}`"));
        let id = self.id.as_deref().unwrap_or_default();
        match self.kind {
            Kind::Endpoint => {
                let token = self.credential.and_then(|credential| credential.variables.first().copied());
                format!("{} is sent there", token.unwrap_or("your token"))
            }
            Kind::Provider => "it is asked with your token, and machines are rented at your cost".to_owned(),
            Kind::Host => "lian-build logs in there, and contexts and secrets of builds go there".to_owned(),
            Kind::RunnerImage if self.credential.is_some() => {
                "it is root on the machines that are rented, and is lent your logins to registries".to_owned()
            }
            Kind::RunnerImage => "it runs privileged on this machine".to_owned(),
            Kind::HostNetwork => "steps reach what listens there".to_owned(),
            Kind::Registry => "images are read, written and tagged there in your name".to_owned(),
            Kind::BaseImage => format!("what stands on {id} stands on it, and its steps read all of it"),
            Kind::CaBundle if self.id.is_some() => {
                format!("daemons in containers know {id} by it, where your login goes")
            }
            Kind::CaBundle => format!("{layer} that asks for the secret `ca` may read it"),
            Kind::SecretFile | Kind::SecretEnv => format!("the steps of {layer} may read it, as the secret `{id}`"),
            Kind::SshAgent => format!("the steps of {layer} may log in with them, as the ssh mount `{id}`"),
        }
    }

    /// Its source in a list of what a build is given: `env NPM_TOKEN`.
    pub fn source(&self) -> String {
        match self.kind {
            Kind::SecretEnv => format!("env {}", self.what),
            Kind::SecretFile | Kind::CaBundle => format!("file {}", self.what),
            _ => self.what.clone(),
        }
    }

    /// Why a command stops for want of a grant.
    pub fn refusal(&self) -> Diagnostic {
        let name = self.name();
        let diagnostic = match &self.never {
            Some(why) => {
                Diagnostic::error("lian::trust::own_token", format!("{name} is never given to a build: {why}"))
                    .help("name another source: what a build needs is not what lian-build itself logs in with")
            }
            None => {
                let message = format!("this project wants {name}, and you have not granted it");
                Diagnostic::error(self.kind.code(), message).help(self.way())
            }
        };
        let diagnostic = match &self.layer {
            Some(layer) => diagnostic.layer(layer),
            None => diagnostic,
        };
        let told =
            if self.never.is_some() { "asked for here".to_owned() } else { format!("if granted, {}", self.effect()) };
        diagnostic.label(self.place.clone(), told)
    }

    /// How it is granted.
    fn way(&self) -> String {
        let own = match self.kind {
            Kind::Endpoint => self.credential.map(|credential| {
                let peer = match (&self.peer, credential.peer_variables) {
                    (Some(Peer::Fingerprint(pinned)), Some(known)) => format!(" {}={pinned}", known.fingerprint),
                    (Some(Peer::Ca(file)), Some(known)) => format!(" {}={}", known.ca, file.display()),
                    _ => String::new(),
                };
                format!("{}={}{peer}, or ", credential.endpoint_variable, self.what)
            }),
            Kind::CaBundle => Some(format!("--ca-bundle {}, or ", self.what)),
            Kind::BaseImage => {
                let id = self.id.as_deref().unwrap_or_default();
                Some(format!("--base-image {id}=oci-layout:{}, or ", self.what))
            }
            _ => None,
        };
        format!(
            "if you trust whoever wrote this: {}`lian-build trust` (in CI `--trust FILE`, docs/trust.md); nothing was sent",
            own.unwrap_or_default()
        )
    }
}

//! What the actor of a build may read and write, as `app` carries it: build arguments, bases and images are held to it. Not
//! responsible for: the table itself (see `domain::cache`), reading directives.

use super::Error;
use super::target_image::TargetImage;
use crate::domain::cache::{Access, CacheRef, HARMLESS_ARGUMENTS, RefUse, Workspace};
use crate::domain::model::{Actor, CachePolicy, Diagnostic, Disposition, ImageRef, RegistrySettings, Sources};

/// The code of everything that lies outside an actor's namespaces.
pub(super) const FORBIDDEN: &str = "lian::cache::forbidden_ref";

/// An actor at work on a workspace, and the namespaces that this opens.
#[derive(Debug, Clone)]
pub struct CacheScope {
    /// Who asks.
    pub policy: CachePolicy,
    /// What is built together and shares its caches.
    pub workspace: Workspace,
    /// What is read and written.
    pub access: Access,
    /// All that the actor may read and write.
    pub all: Access,
    /// The part of every repository's name before the namespaces, by registry: `host`, `prefix`.
    prefix: Option<(String, String)>,
}

impl CacheScope {
    /// The same in this registry. Its own prefix must not look like a namespace: what is `dev/…` below `host/ci` would be
    /// CI's to whoever uses `host`.
    pub fn within(self, registry: Option<&RegistrySettings>) -> Result<Self, Box<Diagnostic>> {
        let prefix = registry.and_then(|registry| registry.address.split_once('/'));
        let prefix = prefix.map(|(host, prefix)| (host.to_owned(), prefix.trim_end_matches('/').to_owned()));
        if let Some((host, prefix)) = prefix.as_ref().filter(|(_, prefix)| is_namespaced(prefix)) {
            let message = format!("the registry {host}/{prefix} lies in a namespace of {host}");
            let help = "name a registry whose prefix does not begin with `ci` or `dev`";
            return Err(Box::new(Diagnostic::error(FORBIDDEN, message).help(help)));
        }
        Ok(Self { prefix, ..self })
    }

    /// Before anything is known of the registry.
    pub fn new(policy: CachePolicy, workspace: Workspace, all: Access) -> Self {
        Self { policy, workspace, access: all.clone(), all, prefix: None }
    }

    /// Whether an image may be built under this name. CI's may be anywhere but in the namespaces of others; those of
    /// everybody else are in their own.
    pub fn may_write(&self, image: &TargetImage) -> bool {
        let repository = image.repository();
        let below = self.below(image.registry.as_deref(), &repository);
        let shipped = self.policy.actor == Actor::Ci && !is_namespaced(below) && !is_namespaced(&repository);
        shipped || self.all.allows(below, RefUse::Write)
    }

    /// The fault of something that may not be used so.
    pub fn forbidden(&self, what: &str, wanted: RefUse) -> Diagnostic {
        let verb = if wanted == RefUse::Read { "read" } else { "written" };
        let names: Vec<String> = self.all.usable(wanted).map(|one| format!("`{one}/`")).collect();
        let (actor, workspace) = (self.policy.actor, &self.workspace);
        Diagnostic::error(FORBIDDEN, format!("{what} may not be {verb} by `'{actor}` for the workspace `{workspace}`"))
            .help(format!("what may be {verb} lies below {}", names.join(", ")))
    }

    /// Refuses build arguments that choose caches or frontends of their own.
    pub fn check_build_args<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), Error> {
        let faults: Vec<Diagnostic> = names.filter(|name| !is_harmless(name)).map(|name| argument(name)).collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::files(faults, Sources::default())) }
    }

    /// Refuses an image of somebody else's namespace as something to build on.
    pub fn check_read(&self, image: &ImageRef) -> Result<(), Error> {
        let name = image.name().to_string();
        let (host, repository) = name.split_once('/').unwrap_or(("", &name));
        let below = self.below(Some(host), repository);
        if !is_namespaced(below) || self.all.allows(below, RefUse::Read) {
            return Ok(());
        }
        let fault = self.forbidden(&format!("the image {image}"), RefUse::Read);
        Err(Error::files(vec![fault], Sources::default()))
    }

    /// The repositories of the caches of an image: those that are read, and the one that is written.
    pub fn caches(&self, image: &str) -> (Vec<String>, Option<String>) {
        let Access { reads, writes } = &self.access;
        let of_image = |one: &CacheRef| one.cache_of(image, &self.workspace);
        let own = writes.iter().filter(|one| !reads.contains(one));
        let keeps = self.policy.disposition != Some(Disposition::Discard);
        let from = own.chain(reads).filter_map(of_image).collect();
        (from, writes.first().filter(|_| keeps).and_then(of_image))
    }

    /// What the mounts `type=cache` of its builds are kept apart by, on a daemon that actors share.
    pub fn mounts(&self) -> String {
        self.all.writes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// A repository as the namespaces have it: without the registry's own prefix.
    fn below<'a>(&self, host: Option<&str>, repository: &'a str) -> &'a str {
        let own = self.prefix.as_ref().filter(|(own, _)| host.is_none_or(|host| host == own));
        let inside = own.and_then(|(_, prefix)| repository.strip_prefix(prefix.as_str())?.strip_prefix('/'));
        inside.unwrap_or(repository)
    }
}

/// Whether a repository lies where namespaces do.
fn is_namespaced(repository: &str) -> bool {
    matches!(repository.split('/').next(), Some("ci" | "dev"))
}

pub(super) fn is_harmless(argument: &str) -> bool {
    !argument.starts_with("BUILDKIT_") || HARMLESS_ARGUMENTS.contains(&argument)
}

pub(super) fn argument(name: &str) -> Diagnostic {
    Diagnostic::error(
        FORBIDDEN,
        format!("the build argument `{name}` chooses caches or images past the actor's namespaces"),
    )
    .help("leave it out: lian-build sets what BuildKit needs to know of caches")
}

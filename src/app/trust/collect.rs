//! Finds what a project's files want of the user's world. Reads no value of a secret, and asks nobody. Not responsible
//! for: whether it is granted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::user_config::endpoint_is_configured;
use super::want::{Kind, Want};
use super::{own, peers};
use crate::adapters::providers::{Peer, Reach, ReachKind, Settings};
use crate::adapters::registry::{Address, Substitute, may_have_login};
use crate::app::Error;
use crate::app::config::Config;
use crate::app::setting::Origin;
use crate::app::store_choice::registry_of;
use crate::domain::base::{Digest, LayerName, SourceLocation, Span};
use crate::domain::model::{Catalog, Declared, Secret};
use crate::system::read::{self, Cap};
use crate::system::{confined, resolved};

/// A workflow is a few lines.
const MOST: u64 = 1 << 20;

/// What a command is about to do.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// Ask the provider.
    Provider,
    /// Ask the registry.
    Registry,
    /// Rent runners for whoever asks.
    Serve,
    /// Read the substitutes of external images.
    BaseImages,
    /// Build these layers.
    Build(&'a Catalog),
}

/// What the project wants for this purpose.
pub fn wants(config: &Config, purpose: Purpose<'_>) -> Result<Vec<Want>, Error> {
    let asks = |kind: ReachKind| matches!(kind, ReachKind::Endpoint | ReachKind::Host);
    match purpose {
        Purpose::Provider => {
            let mut wants = of_provider(config, asks)?;
            wants.extend(of_renting(config)?);
            Ok(wants)
        }
        Purpose::Registry => of_registry(config),
        Purpose::BaseImages => Ok(of_base_images(config)),
        Purpose::Serve => {
            let mut wants = of_provider(config, |_| true)?;
            wants.extend(of_renting(config)?);
            Ok(wants)
        }
        Purpose::Build(catalog) => {
            let mut wants = of_provider(config, |_| true)?;
            wants.extend(of_renting(config)?);
            wants.extend(of_registry(config)?);
            wants.extend(of_bundle(config));
            wants.extend(of_base_images(config));
            wants.extend(of_layers(config, catalog));
            Ok(wants)
        }
    }
}

/// What the settings of the provider reach for. They are the project's, whoever chose the provider.
fn of_provider(config: &Config, wanted: impl Fn(ReachKind) -> bool) -> Result<Vec<Want>, Error> {
    let descriptor = config.descriptor()?;
    let settings = Settings::new(&descriptor.name, config.workflow.providers.get(&descriptor.name));
    let reaches = (descriptor.reach)(&settings).map_err(Error::outside)?;
    let mut wants = Vec::new();
    for reach in reaches.into_iter().filter(|reach| wanted(reach.kind)) {
        let kind = match reach.kind {
            ReachKind::Endpoint if endpoint_is_configured(config, descriptor, &reach)? => continue,
            ReachKind::Endpoint => Kind::Endpoint,
            ReachKind::Host => Kind::Host,
            ReachKind::Image => Kind::RunnerImage,
            ReachKind::Network => Kind::HostNetwork,
        };
        let needle = reach.what.rsplit_once('@').map_or(&*reach.what, |(_, host)| host);
        let needle = if kind == Kind::Host { needle.split(':').next().unwrap_or(needle) } else { needle };
        let want = of_workflow(config, kind, &reach.what, needle);
        let terms = peers::terms(config, &reach);
        let want = Want { terms, credential: descriptor.credential, ..want };
        wants.push(recognised(config, want, reach));
    }
    Ok(wants)
}

/// An address with how it is recognised. What nobody may give to a build is no CA, either.
fn recognised(config: &Config, want: Want, Reach { peer, .. }: Reach) -> Want {
    let never = match &peer {
        Some(Peer::Ca(file)) => Seen::of(file, config).never,
        _ => None,
    };
    Want { never: want.never.or(never), peer, ..want }
}

/// A provider that is asked with the user's token, and whose machines cost something, where a workflow chose it.
fn of_renting(config: &Config) -> Result<Option<Want>, Error> {
    let descriptor = config.descriptor()?;
    let costs = descriptor.credential.is_some();
    let by_project = config.provider.origin == Origin::Workflow;
    Ok((costs && by_project).then(|| of_workflow(config, Kind::Provider, descriptor.flag, "compute_provider")))
}

/// A registry where the user may have a login: images go there in the user's name.
fn of_registry(config: &Config) -> Result<Vec<Want>, Error> {
    let Some(registry) = registry_of(config)? else { return Ok(Vec::new()) };
    if config.registry_origin != Origin::Workflow {
        return Ok(Vec::new());
    }
    let address = Address::try_from(registry)?;
    if !may_have_login(address.host()) {
        return Ok(Vec::new());
    }
    let want = of_workflow(config, Kind::Registry, &registry.address, &registry.address);
    let terms = if registry.plain_http { "plain http".to_owned() } else { String::new() };
    Ok(vec![Want { terms, ..want }])
}

/// A CA bundle that the workflow names, outside the project.
fn of_bundle(config: &Config) -> Option<Want> {
    let bundle = config.ca_bundle.value.as_ref().filter(|_| config.ca_bundle.origin == Origin::Workflow)?;
    let seen = Seen::of(bundle, config);
    let name = bundle.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let want = of_workflow(config, Kind::CaBundle, &seen.path.display().to_string(), &name);
    if seen.inside {
        return of_own_bundle(config, want);
    }
    Some(Want { never: seen.never, present: seen.is_there, ..want })
}

/// A bundle in the project, where the user has a login for the registry: the daemon in a container asks it, and nothing else,
/// to whom the login goes. It changes with the next pull, so what it holds is granted.
fn of_own_bundle(config: &Config, want: Want) -> Option<Want> {
    let address = registry_of(config).ok().flatten().and_then(|registry| Address::try_from(registry).ok())?;
    let runners = &config.descriptor().ok()?.runners;
    // A container may stand in for this machine, unless the user named this machine.
    let may_be_container = !runners.remote && (runners.leased || !config.provider.is_for_this_command());
    if !may_be_container || !may_have_login(address.host()) {
        return None;
    }
    let bytes = read::of_project(config.project.root(), Path::new(&want.what), Cap::Certificates);
    let terms =
        format!("{} {}", address.host(), bytes.map_or_else(|_| String::new(), |bytes| Digest::of(bytes).to_string()));
    Some(Want { terms, id: Some(address.host().to_owned()), ..want })
}

/// The layouts outside the project in which the workflow has substitutes of external images.
pub(super) fn of_base_images(config: &Config) -> Vec<Want> {
    let named = config.base_images.iter().filter(|(name, _)| config.images_of_project.contains(*name));
    let want = |(name, substitute): (&String, &Substitute)| {
        let seen = Seen::of(&substitute.dir, config);
        let needle = substitute.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let want = of_workflow(config, Kind::BaseImage, &seen.path.display().to_string(), &needle);
        let which = substitute.digest.as_ref().map(ToString::to_string).or_else(|| substitute.tag.clone());
        let want = Want { id: Some(name.clone()), terms: which.unwrap_or_default(), ..want };
        (!seen.inside).then_some(Want { never: seen.never, present: seen.is_there, ..want })
    };
    named.filter_map(want).collect()
}

/// What the layers want that are built: the targets, and all that they stand on.
fn of_layers(config: &Config, catalog: &Catalog) -> Vec<Want> {
    if config.layers_are_the_users {
        return Vec::new();
    }
    let chosen = chosen(&config.targets.value, catalog);
    let layers = catalog.layers.iter().filter(|declared| chosen.contains(&declared.layer.name));
    layers.flat_map(|declared| of_layer(config, declared)).collect()
}

/// The targets with their ancestors; all layers if there are none.
fn chosen(targets: &[String], catalog: &Catalog) -> BTreeSet<LayerName> {
    let mut left: Vec<LayerName> = match targets {
        [] => catalog.layers.iter().map(|declared| declared.layer.name.clone()).collect(),
        targets => targets.iter().map(|name| LayerName::from(name.as_str())).collect(),
    };
    let mut chosen = BTreeSet::new();
    while let Some(name) = left.pop() {
        if !chosen.insert(name.clone()) {
            continue;
        }
        let named = catalog.layers.iter().filter(|declared| declared.layer.name == name);
        left.extend(named.flat_map(|declared| declared.layer.parents()).cloned());
    }
    chosen
}

fn of_layer(config: &Config, declared: &Declared) -> Vec<Want> {
    let file = below_root(&declared.file, config);
    let want = |kind, what: String, id: &str, field: String| Want {
        layer: Some(declared.layer.name.clone()),
        id: Some(id.to_owned()),
        terms: foreign_workflow(config),
        ..Want::of_all(kind, what, file.clone(), declared.place(&field))
    };
    let mut wants = Vec::new();
    for (index, secret) in declared.layer.secrets.iter().enumerate() {
        let Secret { id, env, file, .. } = secret;
        // The bundle is its value, and has a grant of its own.
        if id == "ca" && config.ca_bundle.value.is_some() {
            continue;
        }
        if let Some(name) = env {
            let never = own::is_own_variable(name).then(|| "lian-build itself logs in with it".to_owned());
            let present = std::env::var_os(name).is_some_and(|value| !value.is_empty());
            let want = want(Kind::SecretEnv, name.clone(), id, format!("secrets.{index}.env"));
            wants.push(Want { never, present, ..want });
        }
        if let Some(file) = file {
            let seen = Seen::of(&declared.folder().join(file), config);
            if !seen.inside || seen.never.is_some() {
                let what = seen.path.display().to_string();
                let want = want(Kind::SecretFile, what, id, format!("secrets.{index}.file"));
                wants.push(Want { never: seen.never, present: seen.is_there, ..want });
            }
        }
    }
    for (index, id) in declared.layer.ssh.iter().enumerate() {
        wants.push(want(Kind::SshAgent, "ssh agent".to_owned(), id, format!("ssh.{index}")));
    }
    wants
}

/// A file as it is: with all links resolved.
struct Seen {
    path: PathBuf,
    inside: bool,
    /// Whatever it is: only what is granted is opened, to see.
    is_there: bool,
    never: Option<String>,
}

impl Seen {
    fn of(path: &Path, config: &Config) -> Self {
        let path = resolved(path);
        let root = config.project.root();
        // Git's own folder holds the logins of whoever cloned.
        let inside =
            path.strip_prefix(root).is_ok_and(|below| !below.iter().any(|name| name == ".git" || name == ".."));
        let never = own::why_never(&path, &config.project);
        Self { is_there: path.symlink_metadata().is_ok(), inside, never, path }
    }
}

/// A want that the workflow declares; marked where this text stands.
fn of_workflow(config: &Config, kind: Kind, what: &str, needle: &str) -> Want {
    let shown = config.workflow_file.clone().unwrap_or_default();
    let text = text_of(&shown).unwrap_or_default();
    let start = text.find(needle).filter(|_| !needle.is_empty());
    let span = start.map_or_else(Span::default, |start| Span::new(start, start + needle.len()));
    Want::of_all(kind, what, below_root(&shown, config), SourceLocation { file: shown, span })
}

/// The text of a declaring file, to mark a place in it.
pub(super) fn text_of(file: &Path) -> Option<String> {
    let actual = std::fs::canonicalize(file).ok()?;
    let bytes = confined::open(actual.parent()?).ok()?.read(actual.file_name()?, MOST).ok()?;
    String::from_utf8(bytes).ok()
}

/// A declaring file, seen from the project's root: the same in every clone.
fn below_root(file: &Path, config: &Config) -> String {
    let actual = resolved(file);
    actual.strip_prefix(config.project.root()).unwrap_or(&actual).display().to_string()
}

/// A workflow of another project gets nothing of what is granted to this one's layers: its overrides may change what they
/// do.
fn foreign_workflow(config: &Config) -> String {
    let Some(file) = &config.workflow_file else { return String::new() };
    let actual = resolved(file);
    if actual.starts_with(config.project.root()) { String::new() } else { format!("run by {}", actual.display()) }
}

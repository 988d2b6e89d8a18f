//! Finds the secrets that builds request, in environment variables and files. Not responsible for: reading their
//! values (only BuildKit does).

use std::collections::BTreeMap;

use super::survey::Survey;
use crate::app::config::Config;
use crate::app::execute::Job;
use crate::app::{Error, UsageError};
use crate::domain::base::LayerName;
use crate::domain::model::{Declared, Secret};
use crate::domain::ports::{SecretSource, SecretValue};
use crate::system::resolved;

/// Adds secrets to every job that is built; reports all missing values at once.
pub fn give_secrets(config: &Config, survey: &Survey, jobs: &mut BTreeMap<LayerName, Job>) -> Result<(), Error> {
    let mut missing = Vec::new();
    for declared in &survey.catalog.layers {
        let read = survey.dockerfiles.get(&declared.layer.name);
        let facts = read.and_then(|read| read.facts.as_ref().ok());
        let needed = |id: &str| facts.is_some_and(|facts| facts.secret_ids.get(id).is_some_and(|place| place.required));
        if let Some(job) = jobs.get_mut(&declared.layer.name) {
            job.request.secrets = secrets(config, declared, needed, &mut missing);
        }
    }
    match missing.len() {
        0 => Ok(()),
        _ => Err(Error::from(UsageError::MissingSecrets { missing: missing.join("; ") })),
    }
}

/// The secrets that have a value; adds those without one to `missing` that the declaration requires, or a mount
/// (`needed`). The caller's CA bundle is the
/// value of `ca`.
fn secrets(
    config: &Config,
    declared: &Declared,
    needed: impl Fn(&str) -> bool,
    missing: &mut Vec<String>,
) -> Vec<SecretSource> {
    let mut sources = Vec::new();
    for secret in &declared.layer.secrets {
        match value_of(config, declared, secret) {
            Ok(Some(value)) => sources.push(SecretSource { id: secret.id.clone(), value }),
            Err(what) if secret.required || needed(&secret.id) => {
                missing.push(format!("`{}` of layer `{}`: {what}", secret.id, declared.layer.name));
            }
            Ok(None) | Err(_) => {}
        }
    }
    sources
}

fn value_of(config: &Config, declared: &Declared, secret: &Secret) -> Result<Option<SecretValue>, String> {
    match (&secret.env, &secret.file, &config.ca_bundle.value) {
        (_, _, Some(bundle)) if secret.id == "ca" => Ok(Some(SecretValue::File(bundle.clone()))),
        (Some(name), _, _) if std::env::var_os(name).is_some_and(|value| !value.is_empty()) => {
            Ok(Some(SecretValue::Env(name.clone())))
        }
        (Some(name), None, _) => Err(format!("the environment variable {name} is not set")),
        (_, Some(file), _) => {
            // All links resolved: the file that was looked at is the one that is given.
            let path = resolved(&declared.folder().join(file));
            if path.is_file() {
                Ok(Some(SecretValue::File(path)))
            } else {
                Err(format!("{} is not there", path.display()))
            }
        }
        (None, None, _) => Err("its declaration names neither `env` nor `file`".to_owned()),
    }
}

//! Lists what the layers that are built will be given of the user's: secrets, the ssh agent. Not responsible for: giving
//! it.

use super::survey::Survey;
use crate::app::Error;
use crate::app::config::Config;
use crate::app::trust::{self, Kind, Purpose, Want};
use crate::domain::model::{Action, Declared, Plan, Secret};
use crate::report::GivenRow;

/// One row for each secret and ssh mount of a layer that is built.
pub fn gives(config: &Config, survey: &Survey, plan: &Plan) -> Result<Vec<GivenRow>, Error> {
    let wants = trust::wants(config, Purpose::Build(&survey.catalog))?;
    let granted = trust::is_granted(config, &wants)?;
    let wants: Vec<(&Want, bool)> = wants.iter().zip(granted).collect();
    let is_built = |declared: &Declared| {
        plan.steps.iter().any(|step| step.layer == declared.layer.name && step.action == Action::Build)
    };
    let mut rows = Vec::new();
    for declared in survey.catalog.layers.iter().filter(|declared| is_built(declared)) {
        let layer = &declared.layer;
        for secret in &layer.secrets {
            let Some((kind, source)) = source_of(config, secret) else { continue };
            let is_it = |want: &Want| match kind {
                Kind::CaBundle => want.kind == kind,
                _ => {
                    want.kind == kind
                        && want.layer.as_ref() == Some(&layer.name)
                        && want.id.as_ref() == Some(&secret.id)
                }
            };
            // What nobody wants of the user lies in the project, or was named for this command.
            let granted = wants.iter().find(|(want, _)| is_it(want)).is_none_or(|(_, granted)| *granted);
            rows.push(GivenRow { layer: layer.name.clone(), what: format!("secret {}", secret.id), source, granted });
        }
        for id in &layer.ssh {
            let is_it = |want: &Want| {
                want.kind == Kind::SshAgent && want.layer.as_ref() == Some(&layer.name) && want.id.as_ref() == Some(id)
            };
            let granted = wants.iter().find(|(want, _)| is_it(want)).is_none_or(|(_, granted)| *granted);
            let what = if id == "default" { "ssh agent".to_owned() } else { format!("ssh agent as {id}") };
            rows.push(GivenRow { layer: layer.name.clone(), what, source: String::new(), granted });
        }
    }
    Ok(rows)
}

fn source_of(config: &Config, secret: &Secret) -> Option<(Kind, String)> {
    match (&secret.env, &secret.file, &config.ca_bundle.value) {
        (_, _, Some(bundle)) if secret.id == "ca" => Some((Kind::CaBundle, format!("file {}", bundle.display()))),
        (Some(name), file, _) if file.is_none() || std::env::var_os(name).is_some_and(|value| !value.is_empty()) => {
            Some((Kind::SecretEnv, format!("env {name}")))
        }
        (_, Some(file), _) => Some((Kind::SecretFile, format!("file {file}"))),
        _ => None,
    }
}

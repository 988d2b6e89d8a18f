//! Reports secrets, sockets and build arguments that only the declaration or only the Dockerfile names. Not responsible
//! for: images.

use super::places::Places;
use crate::domain::base::nearest;
use crate::domain::model::{Declared, Diagnostic, DockerfileFacts, MountPlace, Severity};

/// The id of the secret that a workflow's `ca_bundle` gives to every build.
const CA_SECRET: &str = "ca";

/// `alone`: there is no catalog to declare anything in, only flags.
pub(super) fn check(places: &Places<'_>, declared: &Declared, facts: &DockerfileFacts, alone: bool) -> Vec<Diagnostic> {
    let layer = &declared.layer;
    let mut faults = Vec::new();
    for (id, place) in &facts.secret_ids {
        if id != CA_SECRET && !layer.secrets.iter().any(|secret| secret.id == *id) {
            let fault = undeclared(places, declared, &format!("secret `{id}`"), place);
            let fault = Diagnostic { code: "lian::dockerfile::undeclared_secret".into(), ..fault };
            faults.push(fault.help(format!("add `{{ id = \"{id}\", env = \"…\" }}` to `secrets`")));
        }
    }
    for (id, place) in &facts.ssh_ids {
        if !layer.ssh.contains(id) {
            let fault = undeclared(places, declared, &format!("ssh socket `{id}`"), place);
            faults.push(fault.help(match alone {
                true => format!("no build gets your agent unasked: if you trust the Dockerfile, add `--ssh {id}`"),
                false => format!("add `\"{id}\"` to `ssh`"),
            }));
        }
    }
    for name in layer.build_args.keys().filter(|name| !facts.declared_args.contains(*name) && !predefined(name)) {
        let help = match nearest(name, facts.declared_args.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("add `ARG {name}` to the Dockerfile, or remove it"),
        };
        let message = format!("the Dockerfile of `{}` has no `ARG {name}`", layer.name);
        faults.push(
            Diagnostic::warning("lian::dockerfile::unused_build_arg", message)
                .layer(&layer.name)
                .label(declared.place(&format!("build_args.{name}")), "has no effect")
                .help(help),
        );
    }
    faults
}

fn undeclared(places: &Places<'_>, declared: &Declared, what: &str, place: &MountPlace) -> Diagnostic {
    let layer = &declared.layer.name;
    let trigger = place.trigger.as_ref();
    let message = format!("{} mounts the {what}, which is not declared", places.user(layer, trigger));
    let fault = Diagnostic::warning("lian::dockerfile::undeclared_ssh", message).layer(layer);
    let (severity, message) = match place.required {
        true => (Severity::Error, format!("{}: the mount is `required`, so the build would fail", fault.message)),
        false => (Severity::Warning, fault.message.clone()),
    };
    let fault = Diagnostic { severity, message, ..fault };
    places.marked(fault, place.span, trigger, "mounted here")
}

/// Arguments that BuildKit knows without `ARG`.
fn predefined(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH"].contains(&upper.as_str())
        || upper.starts_with("BUILDKIT_")
}

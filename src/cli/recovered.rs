//! Reports which leases of dead runs were released, and which could not be. Not responsible for: releasing them (see
//! `app::recover`).

use std::path::Path;

use super::args::{Format, Global};
use super::exit::Failure;
use crate::app::project::Project;
use crate::app::recover::{self, Recovered};
use crate::app::session::Session;
use crate::domain::base::{LeaseId, agrees, shown};

/// Releases the leases of this project's dead runs and reports the result. Commands call it before anything that can
/// fail.
pub fn first(global: &Global, session: &Session) -> Result<(), Failure> {
    tell(global, &recover::recover_project(session)?);
    Ok(())
}

/// Reports the released leases (text output only) and the stuck ones (always).
pub fn tell(global: &Global, recovered: &Recovered) {
    if global.format == Format::Text && !global.quiet {
        for lease in recovered.released.iter().chain(&recovered.settling) {
            eprintln!("the runner {lease} of a run that died was given back");
        }
    }
    for lease in &recovered.slow {
        eprintln!(
            "the runner {lease} of a run that died is still being given back, and may be billed: `lian-build leases gc` \
             waits for it"
        );
    }
    tell_stuck(recovered.stuck.iter());
}

/// Reports stuck leases, even with `--quiet`.
pub fn tell_stuck<'a>(stuck: impl Iterator<Item = &'a (LeaseId, String)>) {
    for (lease, why) in stuck {
        eprintln!(
            "lian::leases::stuck: the runner {lease} could not be given back, and may still be billed: {}",
            shown(why)
        );
        eprintln!("  help: fix that, then run `lian-build leases gc`; every apply tries again, too");
    }
}

/// For commands that lease nothing: one line if leases of the project's dead runs are still to be released.
pub fn remind(global: &Global) {
    // A state that cannot be used is the command's own fault to tell.
    let Ok(project) = Project::of_folder(Path::new("."), global.state.as_deref()) else { return };
    let waiting = recover::waiting(&project);
    if waiting > 0 {
        let runners = crate::report::count(waiting, "runner");
        let wait = agrees(waiting, "waits", "wait");
        eprintln!("{runners} of dead runs {wait} to be given back: lian-build leases gc");
    }
}

/// Reminds of unreleased leases if the configuration cannot be read: without it the project is unknown, so none are
/// released.
pub fn or_remind<T, E>(global: &Global, config: Result<T, E>) -> Result<T, E> {
    config.inspect_err(|_| remind(global))
}

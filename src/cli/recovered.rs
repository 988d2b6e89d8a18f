//! Telling what was given back of dead runs, and what could not be. Not responsible for: giving back (see `app::recover`).

use std::path::Path;

use super::args::{Format, Global};
use super::exit::Failure;
use crate::app::project::Project;
use crate::app::recover::{self, Recovered};
use crate::app::session::Session;
use crate::domain::base::LeaseId;

/// What a command does before all else that can fail: gives back what dead runs of this project left, and tells of it.
pub fn first(global: &Global, session: &Session) -> Result<(), Failure> {
    tell(global, &recover::recover_project(session)?);
    Ok(())
}

/// Tells what was done, and loudly what could not be.
pub fn tell(global: &Global, recovered: &Recovered) {
    if global.format == Format::Text && !global.quiet {
        for lease in recovered.released.iter().chain(&recovered.settling) {
            eprintln!("the runner {lease} of a run that died was given back");
        }
    }
    tell_stuck(recovered.stuck.iter());
}

/// Tells loudly what could not be given back.
pub fn tell_stuck<'a>(stuck: impl Iterator<Item = &'a (LeaseId, String)>) {
    for (lease, why) in stuck {
        eprintln!("lian::leases::stuck: the runner {lease} could not be given back, and may still be billed: {why}");
        eprintln!("  help: mend that, then type `lian-build leases gc`; every apply tries again, too");
    }
}

/// One line for commands that rent nothing, if something of the project here waits to be given back.
pub fn remind() {
    let waiting = recover::waiting(&Project::of_folder(Path::new(".")));
    if waiting > 0 {
        let runners = crate::report::count(waiting, "runner");
        eprintln!("{runners} of dead runs wait to be given back: lian-build leases gc");
    }
}

/// If the configuration cannot be read, nobody knows which project is meant, and nothing is given back; that something waits
/// is said all the same.
pub fn or_remind<T, E>(config: Result<T, E>) -> Result<T, E> {
    config.inspect_err(|_| remind())
}

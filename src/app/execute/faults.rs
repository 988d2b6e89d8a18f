//! Faults created by the executor. Not responsible for: those of runners, builders and stores.

use crate::domain::model::{Classified, Fault, FaultKind};
use crate::domain::ports::ImageStoreError;
use crate::system::bug::way as report_it;
use crate::system::error_chain::with_causes;

/// A bug in lian-build.
pub fn bug(message: &str) -> Fault {
    Fault::new(FaultKind::Bug, "lian::drive::bug", format!("lian-build failed: {message}")).help(report_it())
}

/// The inputs of a build changed after planning.
pub fn context_moved(message: String) -> Fault {
    Fault::new(FaultKind::ContextMoved, "lian::drive::context_moved", message)
}

/// An image store failure as a step's fault: the disk is the cause, so a retry does not help.
pub fn store_fault(what: &str, error: &ImageStoreError) -> Fault {
    let code = format!("lian::registries::{what}");
    let fault = Fault::new(FaultKind::Unavailable, &code, with_causes(error)).with_class(error.class());
    match miette::Diagnostic::help(error) {
        Some(help) => fault.help(help.to_string()),
        None => fault,
    }
}

//! A lease's machines in its record. Not responsible for: releasing them.

use super::mark::Mark;
use crate::domain::ports::{LeaseRecord, Resource};

/// The kind of a machine: its id in the cluster, and the name that it was cloned under.
const MACHINE: &str = "machine";
/// The kind of a machine whose clone failed: the id is somebody else's.
const NOT_MADE: &str = "machine_not_made";

/// Adds a machine, as soon as its clone was granted.
pub(super) async fn learn(record: &LeaseRecord, id: u32, mark: &Mark) {
    record.learn(Resource::new(MACHINE, id).named(mark.name())).await;
}

/// Notes that a granted clone failed because its id was taken meanwhile.
pub(super) async fn was_not_made(record: &LeaseRecord, id: u32) {
    record.learn(Resource::new(NOT_MADE, id)).await;
}

/// The lease's machines: ids, and the names they were made under.
pub(super) fn machines(record: &LeaseRecord) -> Vec<(u32, String)> {
    let failed = record.of(NOT_MADE);
    let made = |machine: &Resource| failed.iter().all(|other| other.id != machine.id);
    let read = |machine: Resource| Some((machine.id.parse().ok()?, machine.name?));
    record.of(MACHINE).into_iter().filter(made).filter_map(read).collect()
}

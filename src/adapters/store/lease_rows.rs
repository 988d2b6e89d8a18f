//! Writes the ledger: one row per requested runner until it is released. Not responsible for: reading them (see
//! `leases`).

use rusqlite::{Connection, params};

use super::rows::millis;
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::ports::{LeaseMark, Resource};
use crate::system::sqlite::{to_be_id, to_be_name};

/// A lease and its provider.
pub(super) struct LeaseRow<'a> {
    pub lease: &'a LeaseId,
    pub run: &'a RunId,
    pub provider: &'a str,
    pub runner_type: Option<&'a str>,
}

/// Writes the state of a lease, durably: it survives a power cut.
pub(super) fn mark(
    connection: &Connection,
    LeaseRow { lease, run, provider, runner_type }: LeaseRow<'_>,
    mark: LeaseMark,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let state = match mark {
        LeaseMark::Asked => "asked",
        LeaseMark::Held => "held",
        LeaseMark::Gone => return forget(connection, lease),
        LeaseMark::Stuck => "stuck",
    };
    let sql = "insert into leases (id, run, provider, runner_type, state, asked, changed)
               values (?1, ?2, ?3, ?4, ?5, ?6, ?6)
               on conflict (id) do update set state = ?5, changed = ?6, runner_type = coalesce(?4, runner_type)";
    durably(connection, || {
        connection.prepare_cached(sql)?.execute(params![
            lease.as_str(),
            run.as_str(),
            provider,
            runner_type,
            state,
            millis(at)
        ])
    })
}

/// Something of a lease, with the mark of whoever wrote it down.
pub(super) struct ResourceRow<'a> {
    pub resource: &'a Resource,
    pub mark: Option<String>,
}

/// Adds what became known of a lease, durably. An answer that comes after the lease was forgotten brings it back: the
/// next command releases it.
pub(super) fn learn(
    connection: &Connection,
    LeaseRow { lease, run, provider, .. }: LeaseRow<'_>,
    ResourceRow { resource, mark }: ResourceRow<'_>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let again = "insert into leases (id, run, provider, state, asked, changed) values (?1, ?2, ?3, 'asked', ?4, ?4)
                 on conflict (id) do nothing";
    // The mark holds for the name, too.
    let sql = "insert into resources (lease, kind, id, name, mark) values (?1, ?2, ?3, ?4, ?5)
               on conflict (lease, kind, id) do update set
                 mark = case when ?4 is null and name is not null then mark else ?5 end, name = coalesce(?4, name)";
    let (kind, id) = (to_be_name(&resource.kind)?, to_be_id(&resource.id)?);
    let name = resource.name.as_deref().map(to_be_name).transpose()?;
    durably(connection, || {
        let transaction = connection.unchecked_transaction()?;
        connection.execute(again, params![lease.as_str(), run.as_str(), provider, millis(at)])?;
        connection.execute(sql, params![lease.as_str(), kind, id, name, mark])?;
        transaction.commit().map(|()| 1)
    })
}

/// Removes a released lease.
pub(super) fn forget(connection: &Connection, lease: &LeaseId) -> rusqlite::Result<()> {
    // If a power cut loses this, the lease is released again, which is harmless.
    connection.execute("delete from leases where id = ?1", [lease.as_str()]).map(|_| ())
}

/// Other rows may be lost in a power cut; a lease must not.
fn durably(connection: &Connection, write: impl FnOnce() -> rusqlite::Result<usize>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "full")?;
    let written = write();
    connection.pragma_update(None, "synchronous", "normal")?;
    written.map(|_| ())
}

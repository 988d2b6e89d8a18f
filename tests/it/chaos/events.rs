//! What a run told, compared with what its journal replays. Not responsible for: what a run left.

use lian_build::domain::base::Timestamp;
use lian_build::domain::life::{Effect, Run};
use lian_build::domain::model::Event;

use crate::cloud::Cloud;

/// Every event on the way that the journal of a run tells, replayed; `None` where the run did not begin.
fn replayed(database: &rusqlite::Connection, run: &str) -> Option<Vec<serde_json::Value>> {
    let sql = "select at, json from journal where run = ?1 order by seq";
    let mut statement = database.prepare(sql).expect("a journal");
    let rows = statement.query_map([run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    let mut rows = rows.expect("rows").map(|row| row.expect("a row"));
    let mut state: Run = serde_json::from_str(&rows.next()?.1).expect("a run");
    let mut events = Vec::new();
    for (at, json) in rows {
        let at = Timestamp(u64::try_from(at).expect("a time"));
        let input = serde_json::from_str(&json).expect("an input");
        for effect in state.on(at, input) {
            if let Effect::Emit(body) = effect {
                let event = Event { at, run: run.into(), body: *body };
                events.push(serde_json::to_value(event).expect("plain data"));
            }
        }
    }
    Some(events)
}

/// Events that a program was told and the journal does not know; and, of a run that could end, events that the journal
/// knows and nobody was told.
pub fn lost(cloud: &Cloud, output: &str, killed: bool) -> usize {
    let mut told: Vec<serde_json::Value> = Vec::new();
    let lines: Vec<&str> = output.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(event) if event["type"] == "step.progress" || event["type"] == "events.dropped" => {}
            Ok(event) if event["run"].is_string() => told.push(event),
            Ok(_) => {}
            // The last line of a process that was killed may be half a line.
            Err(_) if killed && at + 1 == lines.len() => {}
            Err(error) => panic!("{error}: {line}"),
        }
    }
    let Some(run) = told.first().map(|event| event["run"].as_str().expect("text").to_owned()) else { return 0 };
    let database = rusqlite::Connection::open(cloud.project.state().join("lian.db")).expect("a journal");
    let Some(journal) = replayed(&database, &run) else {
        // A start that failed: nothing but its end was told.
        return usize::from(told.len() != 1);
    };
    let unknown = told.iter().filter(|event| !journal.contains(event)).count();
    let untold = if killed { 0 } else { journal.iter().filter(|event| !told.contains(event)).count() };
    unknown + untold
}

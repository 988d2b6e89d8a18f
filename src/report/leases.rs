//! Renders the list of leases. Not responsible for: releasing them.

use serde::Serialize;
use serde_json::{Value, json};

use super::style::Style;
use super::text::{cut, pad, shown, width};
use crate::domain::base::{Timestamp, human_duration};

/// A lease, from local records and from its provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseRow {
    /// Lease id.
    pub lease: String,
    /// Run that requested it.
    pub run: Option<String>,
    /// `queued`: a live run waits for it; `held` by a live run, `left` by a dead one, `stuck`, or `foreign`: of another
    /// project or machine.
    pub state: String,
    /// Description, e.g. `server 42, cax21 in fsn1`.
    pub what: String,
    /// When it was created or requested.
    pub since: Option<Timestamp>,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

/// Output of `leases --format json`. `unseen` says why some leases may be missing; the field is there only then.
pub fn leases_json(rows: &[LeaseRow], unseen: &[String]) -> Value {
    let mut value = json!({ "schema": 1, "leases": rows });
    if !unseen.is_empty() {
        value["unseen"] = json!(unseen);
    }
    value
}

/// The leases as a table.
pub fn leases_table(rows: &[LeaseRow], now: Timestamp, style: Style) -> String {
    if rows.is_empty() {
        return "no runner is leased\n".to_owned();
    }
    let wide = rows.iter().map(|row| width(&shown(&row.lease))).max().unwrap_or(0).max(5);
    let head = format!("{:<wide$}  {:<8}  {:<8}  {:>8}  {:>10}  what", "lease", "run", "state", "age", "expires");
    let mut text = style.dim(&head);
    text.push('\n');
    for row in rows {
        let state = format!("{:<8}", shown(&row.state));
        let state = match row.state.as_str() {
            "held" => style.good(&state),
            "stuck" => style.bad(&state),
            _ => style.notable(&state),
        };
        let age = row.since.map_or(String::new(), |since| human_duration(now.since(since)));
        let expires = match row.expires {
            Some(at) if at <= now => "over".to_owned(),
            Some(at) => format!("in {}", human_duration(at.since(now))),
            None => String::new(),
        };
        let run = pad(&shown(row.run.as_deref().unwrap_or("")), 8);
        let what = cut(&shown(&row.what), 70);
        text.push_str(&format!("{}  {run}  {state}  {age:>8}  {expires:>10}  {what}", pad(&shown(&row.lease), wide)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_read_like_a_table() {
        let row = |lease: &str, state: &str, expires| LeaseRow {
            lease: lease.into(),
            run: Some("7f3a9c21".into()),
            state: state.into(),
            what: "server 42, cax21 in fsn1".into(),
            since: Some(Timestamp(1_000_000)),
            expires,
        };
        let rows = [
            row("7f3a9c21-1", "held", Some(Timestamp(9_000_000))),
            row("0a11ce55-12", "stuck", Some(Timestamp(1_100_000))),
            row("x-1", "foreign", None),
        ];
        insta::assert_snapshot!(leases_table(&rows, Timestamp(1_200_000), Style::PLAIN));
        assert_eq!(leases_table(&[], Timestamp(0), Style::PLAIN), "no runner is leased\n");
    }
}

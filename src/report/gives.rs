//! Shows what the layers that are built will be given of the user's. Not responsible for: finding it.

use serde_json::{Value, json};

use super::style::Style;
use crate::domain::base::{LayerName, shown};

/// One thing that a layer is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenRow {
    /// The layer.
    pub layer: LayerName,
    /// What its steps see: `secret npm`, `ssh agent`.
    pub what: String,
    /// Where it comes from: `env NPM_TOKEN`; empty if that goes without saying.
    pub source: String,
    /// Whether the user granted it, or nobody needs to.
    pub granted: bool,
}

/// For `plan --format json`.
pub fn gives_json(rows: &[GivenRow]) -> Value {
    let row =
        |row: &GivenRow| json!({ "layer": row.layer, "what": row.what, "from": row.source, "granted": row.granted });
    rows.iter().map(row).collect()
}

/// A line for each layer, and one for what is not granted yet.
pub fn gives_lines(rows: &[GivenRow], style: Style) -> String {
    let given = |row: &GivenRow| match row.source.as_str() {
        "" => shown(&row.what),
        source => shown(&format!("{} ← {source}", row.what)),
    };
    let mut text = String::new();
    for of_layer in rows.chunk_by(|one, other| one.layer == other.layer) {
        let list: Vec<String> = of_layer.iter().map(given).collect();
        text.push_str(&format!("{} gives: {}\n", shown(of_layer[0].layer.as_str()), list.join(", ")));
        let missing: Vec<String> = of_layer.iter().filter(|row| !row.granted).map(given).collect();
        if !missing.is_empty() {
            let line = format!("  not granted: {} · lian-build trust", missing.join(", "));
            text.push_str(&format!("{}\n", style.notable(&line)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_is_told_with_all_that_it_is_given_and_what_is_not_granted() {
        let row = |what: &str, source: &str, granted| GivenRow {
            layer: "app".into(),
            what: what.to_owned(),
            source: source.to_owned(),
            granted,
        };
        let rows = [row("secret npm", "env NPM_TOKEN", true), row("ssh agent", "", false)];
        let text = gives_lines(&rows, Style::PLAIN);
        assert_eq!(
            text,
            "app gives: secret npm ← env NPM_TOKEN, ssh agent\n  not granted: ssh agent · lian-build trust\n"
        );
        assert_eq!(gives_json(&rows)[0]["from"], "env NPM_TOKEN");
    }
}

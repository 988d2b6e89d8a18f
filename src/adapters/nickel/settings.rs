//! Overrides of catalog fields, `--set PATH=VALUE`. Not responsible for: fields that no contract knows.
//!
//! `PATH` is `<layer>.<field>[.<key>]…`, or `catalog.<field>[.<key>]…` for what `catalog.ncl` says (`namespace=x` alone
//! works too). A key with dots stands in quotes: `rust.labels."org.example.team"=infra`. `VALUE` is a Nickel value where
//! it reads as one (a number, `true`, `["a", "b"]`, `'app`, `"text"`), else text. Fields that hold text take it as text
//! always, so that `rust.build_args.VERSION=1.10` keeps its zero.

use super::embedded::{CATALOG_FIELDS, LAYER_FIELDS};
use super::protocol::Setting;
use super::syntax;
use crate::domain::base::nearest;
use crate::domain::model::Diagnostic;

/// Fields whose value, or whose keys' values, are text.
const TEXT_FIELDS: &[&str] =
    &["context", "dockerfile", "target", "language", "frontend", "namespace", "build_args", "labels"];

/// Reads one override.
pub(super) fn parse(path: &str, value: &str) -> Result<Setting, Box<Diagnostic>> {
    let fault =
        |message: String, help: String| Box::new(Diagnostic::error("lian::nickel::setting", message).help(help));
    let mut parts = split(path).ok_or_else(|| {
        fault(
            format!("`{path}` is not the path of a field"),
            "write `<layer>.<field>=VALUE` or `catalog.<field>=VALUE`; a key with dots stands in quotes".to_owned(),
        )
    })?;
    let layer = if CATALOG_FIELDS.contains(&parts[0].as_str()) {
        None
    } else {
        let owner = parts.remove(0);
        (owner != "catalog").then_some(owner)
    };
    let fields = if layer.is_some() { LAYER_FIELDS } else { CATALOG_FIELDS };
    let Some(field) = parts.first() else {
        return Err(fault(
            format!("`{path}` names no field"),
            format!("write `{path}.<field>=VALUE`; the fields are {}", super::advice::listed(fields)),
        ));
    };
    if !fields.contains(&field.as_str()) {
        let help = match nearest(field, fields.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the fields are {}", super::advice::listed(fields)),
        };
        return Err(fault(format!("there is no field `{field}` to set in `{path}`"), help));
    }
    if layer.is_some() && field == "name" {
        return Err(fault(
            format!("`{path}` cannot be set: a layer's name is how it is found"),
            "rename the layer in its file".to_owned(),
        ));
    }
    Ok(Setting { layer, path: parts, value: value.to_owned() })
}

/// The parts of a dotted path, of which some may stand in quotes.
fn split(path: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = path;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part.to_owned());
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// The Nickel that merges an override into what stands before it.
pub(super) fn merged(setting: &Setting) -> String {
    let path: Vec<_> = setting.path.iter().map(|part| syntax::quoted(part)).collect();
    format!(" & {{ {} | force = {} }}", path.join("."), value(setting))
}

fn value(setting: &Setting) -> String {
    let text = setting.value.trim();
    let field = setting.path.first().map(String::as_str).unwrap_or_default();
    let in_quotes = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let whole_dictionary = text.starts_with('{') && matches!(field, "build_args" | "labels") && setting.path.len() == 1;
    let as_text = TEXT_FIELDS.contains(&field) && !in_quotes && !whole_dictionary;
    if !as_text && syntax::is_plain_value(text) {
        return text.to_owned();
    }
    if field == "kind" && syntax::is_plain_value(&format!("'{text}")) {
        return format!("'{text}");
    }
    syntax::quoted(&setting.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, value: &str) -> String {
        match parse(path, value) {
            Ok(setting) => {
                format!("{}{}", setting.layer.clone().unwrap_or_else(|| "(catalog)".into()), merged(&setting))
            }
            Err(fault) => format!("{}; {}", fault.message, fault.help.unwrap_or_default()),
        }
    }

    #[test]
    fn values_are_nickel_where_they_read_as_it_and_text_elsewhere() {
        assert_eq!(shown("rust.build_args.VERSION", "1.10"), r#"rust & { "build_args"."VERSION" | force = "1.10" }"#);
        assert_eq!(shown("rust.build_args.V", r#""1.10""#), r#"rust & { "build_args"."V" | force = "1.10" }"#);
        assert_eq!(shown("rust.tools_required", r#"["cc"]"#), r#"rust & { "tools_required" | force = ["cc"] }"#);
        assert_eq!(shown("rust.kind", "app"), r#"rust & { "kind" | force = 'app }"#);
        assert_eq!(shown("rust.build_base", "debian"), r#"rust & { "build_base" | force = "debian" }"#);
        assert_eq!(shown("rust.build_base", "import \"x\""), r#"rust & { "build_base" | force = "import \"x\"" }"#);
        assert_eq!(shown("namespace", "mine"), r#"(catalog) & { "namespace" | force = "mine" }"#);
        assert_eq!(
            shown("catalog.labels.\"org.x.y\"", "%{a}"),
            r#"(catalog) & { "labels"."org.x.y" | force = "\%{a}" }"#
        );
    }

    #[test]
    fn refuses_what_no_contract_knows() {
        assert_eq!(
            shown("rust.contxt", "x"),
            "there is no field `contxt` to set in `rust.contxt`; did you mean `context`?"
        );
        assert!(shown("rust", "x").starts_with("`rust` names no field"));
        assert!(shown("rust..x", "x").starts_with("`rust..x` is not the path"));
        assert!(shown("rust.name", "x").contains("cannot be set"));
    }
}

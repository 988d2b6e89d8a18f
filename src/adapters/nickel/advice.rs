//! The next action for each fault. Not responsible for: where the fault is.

use nickel_lang_core::position::RawSpan;

use super::protocol::Contract;
use super::schemas::Schemas;
use super::syntax::Outline;
use crate::domain::base::nearest;
use crate::domain::model::Diagnostic;

/// Nickel's message for a file that ends too early.
const END: &str = "unexpected end of file";

/// Fields of the records inside a declaration.
const INNER_FIELDS: &[&str] = &["name", "version", "probe", "image", "id", "env", "file", "required"];

/// Gives a diagnostic of Nickel's its help line.
pub(super) fn complete(diagnostic: &mut Diagnostic, contract: Contract, missing: Option<&str>, schemas: &Schemas) {
    let help = match diagnostic.code.as_ref() {
        "lian::nickel::parse" if diagnostic.message == "unexpected token" => {
            "a comma is missing before this, or a quote or bracket is not closed".to_owned()
        }
        "lian::nickel::parse" if diagnostic.message == END => {
            "close what is open: a quote, a bracket or a brace; or say what should follow".to_owned()
        }
        "lian::nickel::parse" => "correct the syntax here: commas separate fields, strings are quoted".to_owned(),
        _ if diagnostic.message == "infinite recursion" => {
            "inside a record a name means the record's own field: give the outer value another name".to_owned()
        }
        _ if diagnostic.message == "non mergeable terms" => {
            "remove one of the two, or say which wins: `field | default = …`, `field | force = …`".to_owned()
        }
        "lian::nickel::missing_field" => missing_help(missing.unwrap_or("…")),
        "lian::nickel::unknown_field" => {
            diagnostic.notes.retain(|note| note != "Have you misspelled a field?");
            unknown_help(diagnostic, contract, schemas)
        }
        "lian::nickel::type" if diagnostic.message.starts_with("unbound identifier") => {
            if contract == Contract::Directives {
                diagnostic.code = "lian::directives::unset".into();
            }
            unbound_help(diagnostic, contract)
        }
        "lian::nickel::type" => "correct the expression, or its type annotation".to_owned(),
        "lian::nickel::contract"
            if ["expected a Record", "not a record"].iter().any(|end| diagnostic.message.ends_with(end)) =>
        {
            "write a record: `{ field = value, … }`".to_owned()
        }
        "lian::nickel::contract" if diagnostic.message.ends_with("expected an array") => {
            "write a list: `[one, another]`".to_owned()
        }
        "lian::nickel::contract" if diagnostic.notes.first().is_some_and(|note| is_advice(note)) => {
            diagnostic.notes.remove(0)
        }
        "lian::nickel::contract" => "change the value to what the schema expects here".to_owned(),
        "lian::nickel::import_not_found" => {
            "imports are looked for beside the importing file, then among `schemas/` and `defaults/`".to_owned()
        }
        _ => "correct the expression that is marked".to_owned(),
    };
    diagnostic.help = Some(help);
}

/// The notes that the schemas' contracts gave, without those that say where a value comes from.
fn is_advice(note: &str) -> bool {
    !["evaluated to", "it comes from", "This error comes from", "The provided message"]
        .iter()
        .any(|own| note.starts_with(own))
}

/// Nickel's message in one line, beginning with its subject: "`kind`: tag not in the enum type".
pub(super) fn message(raw: &str) -> String {
    let mut lines = raw.lines().map(str::trim).filter(|line| !line.is_empty());
    let head = lines.next().unwrap_or_default();
    let head = head.split_once(" when parsing /").map_or(head, |(head, _)| head).trim_end_matches('.');
    let rest =
        lines.collect::<Vec<_>>().join(": ").replace("tag not in the enum type", "this is none of the allowed tags");
    match head.strip_prefix("contract broken by the value of ") {
        _ if rest.is_empty() => head.to_owned(),
        Some(field) => format!("{field}: {rest}"),
        None => format!("{head}: {rest}"),
    }
}

/// Replaces Nickel's text for a marked place by ours.
pub(super) fn label(raw: &str, code: &str, covered: &str) -> Option<String> {
    match raw {
        "" if code == "lian::nickel::parse" && covered.is_empty() => Some("the file ends here".to_owned()),
        "" if code == "lian::nickel::parse" && !covered.trim().is_empty() => Some("unexpected".to_owned()),
        "" => None,
        _ if is_value(raw) => Some("this value".to_owned()),
        other => Some(other.to_owned()),
    }
}

/// Whether a label marks the value that broke a contract.
pub(super) fn is_value(label: &str) -> bool {
    matches!(label, "applied to this expression" | "evaluated to this expression")
}

/// The values that an enumeration in a schema allows: one that stands there, or one that the schema has under this name.
pub(super) fn tags_of(schema: &str, contract: &str) -> Option<String> {
    let defined = || {
        let (_, definition) = schema.split_once(&format!("\n  {contract}\n"))?;
        let value = definition.split_once("\n    = ")?.1;
        tags(&value[..value.find("|]")? + 2])
    };
    tags(contract).or_else(defined)
}

/// The values of an enumeration.
fn tags(contract: &str) -> Option<String> {
    let tags: Vec<_> = contract.strip_prefix("[|")?.strip_suffix("|]")?.split(',').map(str::trim).collect();
    Some(match tags.as_slice() {
        [one] => format!("expected `{one}`"),
        many => format!("expected one of {}", many.iter().map(|tag| format!("`{tag}`")).collect::<Vec<_>>().join(", ")),
    })
}

fn missing_help(field: &str) -> String {
    match field {
        "name" => "set the layer's name: `name = \"…\"`".to_owned(),
        "kind" => "set what it is for: `kind = 'toolchain`, `'deps`, `'utility` or `'app`".to_owned(),
        "build_base" => {
            "set what it is built on: `build_base = \"<layer>\"`, or `build_base = { image = \"…\" }`".to_owned()
        }
        other => format!("add `{other} = …` to this record"),
    }
}

fn unbound_help(diagnostic: &Diagnostic, contract: Contract) -> String {
    let name = backticked(&diagnostic.message).unwrap_or("it");
    if contract == Contract::Directives {
        return format!("pass `--set {name}=VALUE`, or put it in quotes if it is meant as text");
    }
    format!("bring `{name}` into scope with `let`, or put it in quotes if it is meant as text")
}

fn unknown_help(diagnostic: &Diagnostic, contract: Contract, schemas: &Schemas) -> String {
    let holder = diagnostic.message.strip_prefix('`').and_then(|rest| rest.split('`').next());
    if let Some(holder) = holder.filter(|_| matches!(contract, Contract::Workflow | Contract::Directives))
        && let Some(fields) = schemas.fields_of(holder)
    {
        return match extra_field(diagnostic).and_then(|field| nearest(field, fields.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`{holder}` has the fields {}", listed(&fields)),
        };
    }
    let known = || contract.fields().iter().chain(INNER_FIELDS).copied();
    match extra_field(diagnostic).and_then(|field| nearest(field, known())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "remove the field: this record is closed".to_owned(),
    }
}

/// The field that Nickel calls extra.
pub(super) fn extra_field(diagnostic: &Diagnostic) -> Option<&str> {
    if diagnostic.code != "lian::nickel::unknown_field" {
        return None;
    }
    let (_, names) = diagnostic.message.split_once("extra field")?;
    backticked(names).and_then(|names| names.split(',').next()).map(str::trim)
}

/// Where a field of this name stands below the top of the file, if it stands in only one place.
pub(super) fn named(outline: &Outline, field: &str) -> Option<RawSpan> {
    let mut spans =
        outline.names.iter().filter(|(path, _)| path.rsplit('.').next() == Some(field)).map(|(_, span)| *span);
    spans.next().filter(|_| spans.next().is_none())
}

fn backticked(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// `a`, `b` and `c`.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

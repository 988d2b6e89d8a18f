//! The fields of request bodies: one table says what a body holds, is held against what was sent, and becomes the schema
//! in the OpenAPI document, so that the two cannot differ. Not responsible for: what is done with the values (`request`).

use serde_json::{Map, Value, json};

use super::keys;

/// What a workspace or token name is made of, as a pattern.
pub(super) const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// A field of a body. All are required.
pub(super) struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// A value that it takes.
    pub example: Value,
}

/// The values that a field takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A name that is valid as a cloud label.
    Name,
    /// A whole number within these bounds.
    Whole { least: u64, most: u64 },
    /// A platform of machines.
    Platform,
    /// An SSH public key in OpenSSH's form.
    SshKey,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// The field's name.
    pub field: String,
    /// What is wrong.
    pub what: String,
}

/// Whether a workspace or token name is valid as a cloud label: 1 to 63 of `[A-Za-z0-9._-]`.
pub fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=63).contains(&text.len()) && text.chars().all(sound) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The sound values of a body by name, or all its faults.
pub(super) fn checked(table: &[Field], body: &Map<String, Value>) -> Result<Map<String, Value>, Vec<FieldFault>> {
    let (mut sound, mut faults) = (Map::new(), Vec::new());
    for name in body.keys().filter(|name| table.iter().all(|field| field.name != name.as_str())) {
        let shown = name.chars().filter(|c| !c.is_control()).take(40).collect();
        faults.push(FieldFault { field: shown, what: "there is no such field".to_owned() });
    }
    for field in table {
        match body.get(field.name).map_or_else(|| Err("it is missing".to_owned()), |value| field.kind.take(value)) {
            Ok(value) => drop(sound.insert(field.name.to_owned(), value)),
            Err(what) => faults.push(FieldFault { field: field.name.to_owned(), what }),
        }
    }
    if faults.is_empty() { Ok(sound) } else { Err(faults) }
}

impl Kind {
    /// The value in its plain form, or what is wrong with it.
    fn take(self, value: &Value) -> Result<Value, String> {
        let text = value.as_str().unwrap_or("");
        match self {
            Self::Name if is_name(text) => Ok(json!(text)),
            Self::Name => {
                Err("1 to 63 letters, digits, `.`, `_` or `-` are expected, the first a letter or digit".to_owned())
            }
            Self::Whole { least, most } => match whole(value) {
                Some(number) if (least..=most).contains(&number) => Ok(json!(number)),
                _ => Err(format!("a whole number from {least} to {most} is expected")),
            },
            Self::Platform if PLATFORMS.contains(&text) => Ok(json!(text)),
            Self::Platform => Err("`linux/amd64` or `linux/arm64` is expected".to_owned()),
            Self::SshKey => keys::public_key(text).map(Value::String).map_err(str::to_owned),
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::Name => json!({ "type": "string", "minLength": 1, "maxLength": 63, "pattern": NAME_PATTERN }),
            Self::Whole { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Self::Platform => json!({ "type": "string", "enum": PLATFORMS }),
            Self::SshKey => json!({
                "type": "string", "format": "ssh-public-key", "minLength": 1, "maxLength": keys::LINE_MOST,
                "pattern": format!("^ *({}) +[A-Za-z0-9+/]+=*( .*)?$", keys::KINDS.join("|").replace('.', "\\.")),
            }),
        }
    }
}

/// A whole number; `2.0` is one to JSON.
fn whole(value: &Value) -> Option<u64> {
    let exact = |number: f64| number.fract() == 0.0 && (0.0..9e15).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is whole and within bounds"
    )]
    let narrow = |number: f64| number as u64;
    value.as_u64().or_else(|| value.as_f64().filter(|number| exact(*number)).map(narrow))
}

/// The table as a JSON schema.
pub(super) fn schema(table: &[Field]) -> Value {
    let described = |field: &Field| {
        let mut schema = field.kind.schema();
        schema["description"] = json!(field.about);
        schema["examples"] = json!([field.example]);
        (field.name.to_owned(), schema)
    };
    let properties: Map<String, Value> = table.iter().map(described).collect();
    let required: Vec<&str> = table.iter().map(|field| field.name).collect();
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

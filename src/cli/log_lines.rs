//! How log lines look: short marks for a person, one line with a time for the operator of a service, or JSON. Not
//! responsible for: where they go, and which there are.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::base::shown;
use crate::report::{Style, json_text};

/// The look of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLook {
    /// A mark and the message, as the lines of a run have them; `modules` says who speaks, too.
    Person { style: Style, modules: bool },
    /// Time, level, message and fields.
    Operator,
    /// The same as an object a line.
    Json,
}

impl<S, N> FormatEvent<S, N> for LogLook
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        writeln!(writer, "{}", self.line(*metadata.level(), metadata.target(), said))
    }
}

impl LogLook {
    fn line(self, level: Level, target: &str, said: Said) -> String {
        match self {
            Self::Person { style, modules } => {
                let mark = match level {
                    Level::ERROR => style.bad("✗"),
                    Level::WARN => style.notable("!"),
                    _ => style.dim("·"),
                };
                let who = if modules { style.dim(&format!("{target}: ")) } else { String::new() };
                let fields = said.fields();
                let fields = if fields.is_empty() { fields } else { style.dim(&format!(" ({fields})")) };
                format!("{mark} {who}{}{fields}", shown(said.message.trim_end()))
            }
            Self::Operator => {
                let (level, fields) = (level.as_str().to_lowercase(), said.fields());
                format!("{} {level:<5} {} {fields}", now(), shown(said.message.trim_end())).trim_end().to_owned()
            }
            Self::Json => {
                let mut line = Map::new();
                line.insert("at".to_owned(), now().into());
                line.insert("level".to_owned(), level.as_str().to_lowercase().into());
                line.insert("message".to_owned(), said.message.into());
                line.extend(said.fields);
                json_text(&Value::Object(line))
            }
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    /// `layer=app lease=x`, for people.
    fn fields(&self) -> String {
        let told = |value: &Value| match value {
            // A value within quotes cannot look like further fields.
            Value::String(text) if text.contains([' ', '"', '=']) => {
                format!("\"{}\"", shown(text).replace('"', "\\\""))
            }
            Value::String(text) => shown(text),
            other => other.to_string(),
        };
        self.fields.iter().map(|(name, value)| format!("{name}={}", told(value))).collect::<Vec<_>>().join(" ")
    }

    fn set(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        let fields = [("layer", Value::from("app")), ("tries", 3.into()), ("why", "no\u{1b}[2J room".into())];
        Said {
            message: "all hosts that fit are taken: waiting".to_owned(),
            fields: fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        }
    }

    #[test]
    fn a_person_reads_a_mark_and_no_module() {
        let look = LogLook::Person { style: Style::PLAIN, modules: false };
        let line = look.line(Level::WARN, "lian_build::adapters::providers::ssh", said());
        assert_eq!(line, "! all hosts that fit are taken: waiting (layer=app tries=3 why=\"no\\x1b[2J room\")");
        let look = LogLook::Person { style: Style::PLAIN, modules: true };
        let line = look.line(Level::DEBUG, "lian_build::app", Said { message: "x".into(), ..Said::default() });
        assert_eq!(line, "· lian_build::app: x");
    }

    #[test]
    fn an_operator_gets_the_time_and_a_program_an_object() {
        let line = LogLook::Operator.line(Level::INFO, "t", said());
        let (time, rest) = line.split_once(' ').expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(rest.starts_with("info  all hosts that fit are taken: waiting layer=app tries=3"), "{line}");
        let line: Value = serde_json::from_str(&LogLook::Json.line(Level::ERROR, "t", said())).expect("json");
        assert_eq!((&line["level"], &line["tries"], &line["layer"]), (&"error".into(), &3.into(), &"app".into()));
        assert!(line["at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{line}");
    }
}

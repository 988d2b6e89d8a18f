//! Masks secret values in build reports as `***`, also where a value is split over several reports. Not responsible for:
//! secrets that lian-build did not provide, or that a step changes before printing them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::model::{BuildEvent, Fault, VertexState};
use crate::domain::ports::{SecretSource, SecretValue};

/// The replacement text.
const SHOWN: &str = "***";
/// Shorter values occur by chance too often.
const SHORTEST: usize = 8;
/// Longer values are public bundles and the like.
const LONGEST: u64 = 64 * 1024;
/// The CA bundle is not secret.
const PUBLIC: &str = "ca";

/// The values to mask, sorted. None holds a newline.
#[derive(Debug, Clone, Default)]
pub struct Mask(Arc<[String]>);

/// The reports of one build on their way to the sinks. The end of a log that may be the beginning of a value is held
/// back until more of the log comes, or its step ends.
#[derive(Debug)]
pub struct MaskedReports {
    mask: Mask,
    /// What is held back of each vertex's log.
    held: Mutex<BTreeMap<String, String>>,
}

impl Mask {
    /// From a build's secrets: whole values, their lines, and the part after `NAME=` in a line.
    pub fn of(secrets: &[SecretSource]) -> Self {
        let mut values: Vec<String> = Vec::new();
        for secret in secrets.iter().filter(|secret| secret.id != PUBLIC) {
            let Some(text) = value(&secret.value) else { continue };
            for line in text.lines().map(str::trim) {
                values.push(line.to_owned());
                values.extend(line.split_once('=').map(|(_, value)| value.trim_matches(['"', '\'']).to_owned()));
            }
        }
        values.retain(|value| value.len() >= SHORTEST);
        values.sort();
        values.dedup();
        Self(values.into())
    }

    /// Where values are in a text, from left to right; of several at one place the longest.
    fn places(&self, text: &str) -> Vec<(usize, usize)> {
        let each = self.0.iter().flat_map(|value| text.match_indices(value.as_str()));
        let mut places: Vec<(usize, usize)> = each.map(|(at, value)| (at, at + value.len())).collect();
        places.sort_by_key(|(start, end)| (*start, std::cmp::Reverse(*end)));
        places
    }

    /// From where on, not before `from`, a text may be the beginning of a value; its length if it is none.
    fn open_end(&self, text: &str, from: usize) -> usize {
        let line = text.rfind('\n').map_or(0, |newline| newline + 1).max(from);
        let longest = self.0.iter().map(String::len).max().unwrap_or(0);
        let from = line.max(text.len().saturating_sub(longest));
        let begins = |at: &usize| text.is_char_boundary(*at) && self.is_beginning(&text[*at..]);
        (from..text.len()).find(begins).unwrap_or(text.len())
    }

    /// Whether a value begins with this text and goes on.
    fn is_beginning(&self, text: &str) -> bool {
        // All values that begin with it stand behind it, one after the other.
        let first = self.0.partition_point(|value| value.as_str() <= text);
        self.0.get(first).is_some_and(|value| value.starts_with(text))
    }

    /// Masks a text that may go on; returns its masked part, and the part that must wait.
    fn split(&self, text: &str) -> (String, String) {
        let (mut masked, mut cursor) = (String::with_capacity(text.len()), 0);
        let mut open = self.open_end(text, cursor);
        for (start, end) in self.places(text) {
            if start >= open {
                break;
            }
            if start >= cursor {
                masked.push_str(&text[cursor..start]);
                masked.push_str(SHOWN);
                cursor = end;
                open = self.open_end(text, cursor);
            }
        }
        masked.push_str(&text[cursor..open]);
        (masked, text[open..].to_owned())
    }

    /// Masks a text that is whole.
    fn text(&self, text: &mut String) {
        let (mut masked, mut cursor) = (String::new(), 0);
        for (start, end) in self.places(text) {
            if start >= cursor {
                masked.push_str(&text[cursor..start]);
                masked.push_str(SHOWN);
                cursor = end;
            }
        }
        if cursor > 0 {
            masked.push_str(&text[cursor..]);
            *text = masked;
        }
    }

    /// The reports of a build.
    pub fn reports(&self) -> MaskedReports {
        MaskedReports { mask: self.clone(), held: Mutex::default() }
    }

    /// Masks a fault.
    pub fn fault(&self, mut fault: Fault) -> Fault {
        self.text(&mut fault.message);
        fault.log_tail.iter_mut().chain(&mut fault.causes).for_each(|line| self.text(line));
        [&mut fault.step, &mut fault.evidence].into_iter().flatten().for_each(|text| self.text(text));
        fault
    }
}

impl MaskedReports {
    /// The masked reports that may be told now.
    pub fn pass(&self, mut event: BuildEvent) -> Vec<BuildEvent> {
        match &mut event {
            BuildEvent::Log { vertex, text } => return self.log(vertex, text).into_iter().collect(),
            BuildEvent::Warning { message } => self.mask.text(message),
            BuildEvent::Vertex { vertex, name, error, state, .. } => {
                self.mask.text(name);
                error.iter_mut().for_each(|error| self.mask.text(error));
                if *state != VertexState::Started {
                    return self.rest_of(vertex).into_iter().chain([event]).collect();
                }
            }
            BuildEvent::Progress { .. } | BuildEvent::Memory { .. } => {}
        }
        vec![event]
    }

    /// What is still held back when the build has ended.
    pub fn rest(&self) -> Vec<BuildEvent> {
        let vertices: Vec<String> = self.held().keys().cloned().collect();
        vertices.iter().filter_map(|vertex| self.rest_of(vertex)).collect()
    }

    fn log(&self, vertex: &str, text: &str) -> Option<BuildEvent> {
        let mut held = self.held();
        let whole = held.remove(vertex).unwrap_or_default() + text;
        let (masked, waits) = self.mask.split(&whole);
        if !waits.is_empty() {
            held.insert(vertex.to_owned(), waits);
        }
        (!masked.is_empty()).then(|| BuildEvent::Log { vertex: vertex.to_owned(), text: masked })
    }

    fn rest_of(&self, vertex: &str) -> Option<BuildEvent> {
        let mut text = self.held().remove(vertex)?;
        self.mask.text(&mut text);
        Some(BuildEvent::Log { vertex: vertex.to_owned(), text })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn value(source: &SecretValue) -> Option<String> {
    match source {
        SecretValue::Env(name) => std::env::var(name).ok(),
        SecretValue::File(path) => {
            let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= LONGEST);
            if small { std::fs::read_to_string(path).ok() } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::FaultKind;

    fn log(text: &str) -> BuildEvent {
        BuildEvent::Log { vertex: "v".into(), text: text.into() }
    }

    /// What is told of a log that comes in these parts.
    fn told(mask: &Mask, parts: &[&str]) -> String {
        let reports = mask.reports();
        let mut events: Vec<BuildEvent> = parts.iter().flat_map(|part| reports.pass(log(part))).collect();
        events.extend(reports.rest());
        let text = |event| if let BuildEvent::Log { text, .. } = event { text } else { String::new() };
        events.into_iter().map(text).collect()
    }

    fn mask(values: &[&str]) -> Mask {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), values.join("\n")).expect("writable");
        Mask::of(&[SecretSource { id: "token".into(), value: SecretValue::File(file.path().to_owned()) }])
    }

    #[test]
    fn values_lines_and_assignments_are_kept_out_and_the_rest_stays() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "KEY=\"hidden-value\"\nsecond-line-value\nshort\n").expect("writable");
        let source = |id: &str| SecretSource { id: id.into(), value: SecretValue::File(file.path().to_owned()) };
        let mask = Mask::of(&[source("token")]);
        assert_eq!(told(&mask, &["a hidden-value b\nsecond-line-value\nshort"]), "a *** b\n***\nshort");
        let mut fault = Fault::new(FaultKind::Build, "lian::x", "said hidden-value");
        fault.log_tail = vec!["second-line-value!".into()];
        fault.causes = vec!["error: second-line-value?".into()];
        let fault = mask.fault(fault);
        assert_eq!((fault.message.as_str(), fault.log_tail[0].as_str()), ("said ***", "***!"));
        assert_eq!(fault.causes, ["error: ***?"]);
        assert_eq!(told(&Mask::of(&[source("ca")]), &["hidden-value"]), "hidden-value");
    }

    #[test]
    fn a_value_that_comes_in_parts_is_masked_wherever_it_is_cut() {
        let mask = mask(&["hidden-value", "hidden-value-and-more", "lue-of-another"]);
        let text = "a hidden-value b hidden-value-and-more c\nhidden-v d hidden-value-and-less hidden-value-of-another";
        let whole = told(&mask, &[text]);
        assert_eq!(whole, "a *** b *** c\nhidden-v d ***-and-less ***-of-another");
        for at in 0..=text.len() {
            for then in at..=text.len() {
                assert_eq!(
                    told(&mask, &[&text[..at], &text[at..then], &text[then..]]),
                    whole,
                    "cut at {at} and {then}"
                );
            }
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(told(&mask, &letters.iter().map(String::as_str).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn only_what_may_be_a_value_waits_and_no_longer_than_its_step() {
        let reports = mask(&["hidden-value"]).reports();
        assert_eq!(reports.pass(log("progress 10% hidden")), [log("progress 10% ")]);
        let other = BuildEvent::Log { vertex: "w".into(), text: "-value".into() };
        assert_eq!(reports.pass(other.clone()), [other], "another step's log is another text");
        let ended = |vertex: &str| BuildEvent::Vertex {
            vertex: vertex.into(),
            name: "RUN".into(),
            state: VertexState::Completed,
            duration_ms: None,
            error: None,
        };
        assert_eq!(reports.pass(ended("v")), [log("hidden"), ended("v")]);
        assert_eq!(reports.rest(), []);
    }
}

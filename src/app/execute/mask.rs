//! Masks secret values in build reports as `***`, also where a value is split over several reports. Not responsible for:
//! secrets that lian-build did not provide; how a value may be written (`spellings`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, Input, MatchKind};

use super::spellings::{SHORTEST, spellings};
use crate::domain::model::{BuildEvent, Fault, VertexState};
use crate::domain::ports::{SecretSource, SecretValue};
use crate::system::read::{self, Cap};

/// The replacement text.
const SHOWN: &str = "***";
/// The most that BuildKit takes for a secret.
const LONGEST: u64 = 512 * 1024;
/// The CA bundle is not secret.
const PUBLIC: &str = "ca";
/// How much of a value tells something of it, bytes.
const TELLING: usize = 3;
/// What a fault's excerpt has in place of the middle of a long line.
const LEFT_OUT: &str = " … ";

/// The values to mask, in every way in which they may be written.
#[derive(Clone, Default)]
pub struct Mask(Option<Arc<Values>>);

struct Values {
    /// Sorted. None holds a line end.
    values: Vec<String>,
    /// The first bytes of the values.
    begins: [bool; 256],
    longest: usize,
    finder: AhoCorasick,
}

/// Never shows a value.
impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} values)", self.0.as_ref().map_or(0, |values| values.values.len()))
    }
}

/// The reports of one build on their way to the sinks. The end of a log that may be the beginning of a value is held
/// back until more of the log comes, or its step ends. That is never more than a line that has not ended, and not for a
/// time: who waits before each letter would get the value past any clock.
#[derive(Debug)]
pub struct MaskedReports {
    mask: Mask,
    /// What is held back of each vertex's log.
    held: Mutex<BTreeMap<String, String>>,
}

impl Mask {
    /// From secrets, and the ids of those that cannot be masked: too short, too long, or gone.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a SecretSource>) -> (Self, BTreeSet<String>) {
        let (mut values, mut open, mut read) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for secret in secrets.into_iter().filter(|secret| secret.id != PUBLIC) {
            if !read.insert(format!("{:?}", secret.value)) {
                continue;
            }
            match value(&secret.value).filter(|value| value.trim_ascii().len() >= SHORTEST) {
                Some(value) => values.extend(spellings(&value)),
                None => drop(open.insert(secret.id.clone())),
            }
        }
        (Self::new(values), open)
    }

    fn new(values: BTreeSet<String>) -> Self {
        let values: Vec<String> = values.into_iter().collect();
        // Values of more text than a finder can hold are no secrets that BuildKit takes.
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&values);
        let Some(finder) = built.ok().filter(|_| !values.is_empty()) else { return Self::default() };
        let mut begins = [false; 256];
        values.iter().for_each(|value| begins[usize::from(value.as_bytes()[0])] = true);
        let longest = values.iter().map(String::len).max().unwrap_or(0);
        Self(Some(Arc::new(Values { values, begins, longest, finder })))
    }

    /// Masks a text that may go on; returns its masked part, and the part that must wait.
    fn split(&self, text: &str) -> (String, String) {
        let Some(values) = &self.0 else { return (text.to_owned(), String::new()) };
        let (mut masked, mut cursor) = (String::with_capacity(text.len()), 0);
        let mut open = values.open_end(text, cursor);
        while let Some((start, end)) = values.next(text, cursor).filter(|(start, _)| *start < open) {
            masked.push_str(&text[cursor..start]);
            masked.push_str(SHOWN);
            cursor = end;
            if cursor > open {
                open = values.open_end(text, cursor);
            }
        }
        masked.push_str(&text[cursor..open]);
        (masked, text[open..].to_owned())
    }

    /// Masks a text that is whole.
    fn text(&self, text: &mut String) {
        let Some(values) = &self.0 else { return };
        let (mut masked, mut cursor) = (String::new(), 0);
        while let Some((start, end)) = values.next(text, cursor) {
            masked.push_str(&text[cursor..start]);
            masked.push_str(SHOWN);
            cursor = end;
        }
        if cursor > 0 {
            masked.push_str(&text[cursor..]);
            *text = masked;
        }
    }

    /// Masks a line of which the middle may be left out: also the parts of values beside the gap.
    fn excerpt(&self, line: &mut String) {
        self.text(line);
        let (Some(values), Some((head, end))) = (&self.0, line.split_once(LEFT_OUT)) else { return };
        let (mut masked, waits) = self.split(head);
        // One or two letters tell nothing, and many words begin with them.
        masked.push_str(if waits.len() >= TELLING { SHOWN } else { &waits });
        let gone = Some(values.closed_begin(end)).filter(|gone| *gone >= TELLING).unwrap_or(0);
        let begin = if gone > 0 { SHOWN } else { "" };
        *line = format!("{masked}{LEFT_OUT}{begin}{}", &end[gone..]);
    }

    /// The reports of a build.
    pub fn reports(&self) -> MaskedReports {
        MaskedReports { mask: self.clone(), held: Mutex::default() }
    }

    /// Masks a fault.
    pub fn fault(&self, mut fault: Fault) -> Fault {
        self.text(&mut fault.message);
        fault.log_tail.iter_mut().chain(&mut fault.causes).for_each(|line| self.excerpt(line));
        let more = [&mut fault.step, &mut fault.evidence, &mut fault.help];
        more.into_iter().flatten().for_each(|text| self.excerpt(text));
        fault
    }
}

impl Values {
    /// The next value in a text; of several at one place the longest.
    fn next(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        self.finder.find(Input::new(text).range(from..)).map(|found| (found.start(), found.end()))
    }

    /// From where on, not before `from`, a text may be the beginning of a value; its length if it is none.
    fn open_end(&self, text: &str, from: usize) -> usize {
        let line = text.rfind('\n').map_or(0, |newline| newline + 1).max(from);
        let from = line.max(text.len().saturating_sub(self.longest));
        let bytes = text.as_bytes();
        let begins = |at: &usize| {
            self.begins[usize::from(bytes[*at])] && text.is_char_boundary(*at) && self.is_beginning(&text[*at..])
        };
        (from..text.len()).find(begins).unwrap_or(text.len())
    }

    /// Whether a value begins with this text and goes on.
    fn is_beginning(&self, text: &str) -> bool {
        // All values that begin with it stand behind it, one after the other.
        let first = self.values.partition_point(|value| value.as_str() <= text);
        self.values.get(first).is_some_and(|value| value.starts_with(text))
    }

    /// How much of a text's beginning may be the end of a value, or a part of one that goes on.
    fn closed_begin(&self, text: &str) -> usize {
        if !text.is_empty() && self.values.iter().any(|value| value.contains(text)) {
            return text.len();
        }
        let ends =
            |at: &usize| text.is_char_boundary(*at) && self.values.iter().any(|value| value.ends_with(&text[..*at]));
        (1..=text.len().min(self.longest)).rev().find(ends).unwrap_or(0)
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
            BuildEvent::Progress { id, .. } => self.mask.text(id),
            BuildEvent::Memory { .. } => {}
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

fn value(source: &SecretValue) -> Option<Vec<u8>> {
    match source {
        SecretValue::Env(name) => std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec),
        SecretValue::File(path) => {
            let bytes = read::of_user(path, Cap::Secret).ok()?;
            (bytes.len() as u64 <= LONGEST).then_some(bytes)
        }
    }
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;

//! Masks secret values in build reports as `***`. Not responsible for: secrets that lian-build did not provide, or
//! that a step changes before printing them.

use crate::domain::model::{BuildEvent, Fault};
use crate::domain::ports::{SecretSource, SecretValue};

/// The replacement text.
const SHOWN: &str = "***";
/// Shorter values occur by chance too often.
const SHORTEST: usize = 8;
/// Longer values are public bundles and the like.
const LONGEST: u64 = 64 * 1024;
/// The CA bundle is not secret.
const PUBLIC: &str = "ca";

/// The values to mask.
#[derive(Debug, Clone, Default)]
pub struct Mask(Vec<String>);

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
        // Longest first, so that no part is replaced inside a longer value.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    fn text(&self, text: &mut String) {
        for value in &self.0 {
            if text.contains(value.as_str()) {
                *text = text.replace(value.as_str(), SHOWN);
            }
        }
    }

    /// Masks a report.
    pub fn event(&self, mut event: BuildEvent) -> BuildEvent {
        match &mut event {
            BuildEvent::Log { text, .. } | BuildEvent::Warning { message: text } => self.text(text),
            BuildEvent::Vertex { name, error, .. } => {
                self.text(name);
                error.iter_mut().for_each(|error| self.text(error));
            }
            BuildEvent::Progress { .. } | BuildEvent::Memory { .. } => {}
        }
        event
    }

    /// Masks a fault.
    pub fn fault(&self, mut fault: Fault) -> Fault {
        self.text(&mut fault.message);
        fault.log_tail.iter_mut().for_each(|line| self.text(line));
        [&mut fault.step, &mut fault.evidence].into_iter().flatten().for_each(|text| self.text(text));
        fault
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

    #[test]
    fn values_lines_and_assignments_are_kept_out_and_the_rest_stays() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "KEY=\"hidden-value\"\nsecond-line-value\nshort\n").expect("writable");
        let source = |id: &str| SecretSource { id: id.into(), value: SecretValue::File(file.path().to_owned()) };
        let mask = Mask::of(&[source("token")]);
        let log = |text: &str| BuildEvent::Log { vertex: "v".into(), text: text.into() };
        assert_eq!(mask.event(log("a hidden-value b\nsecond-line-value\nshort")), log("a *** b\n***\nshort"));
        let mut fault = Fault::new(FaultKind::Build, "lian::x", "said hidden-value");
        fault.log_tail = vec!["second-line-value!".into()];
        let fault = mask.fault(fault);
        assert_eq!((fault.message.as_str(), fault.log_tail[0].as_str()), ("said ***", "***!"));
        assert_eq!(Mask::of(&[source("ca")]).event(log("hidden-value")), log("hidden-value"));
    }
}

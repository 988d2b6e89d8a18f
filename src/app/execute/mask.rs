//! Keeps the values of secrets out of what builds report: a step that prints one prints `***`. Not responsible for: finding secrets
//! that were not handed over, or that a step has changed before printing them.

use crate::domain::model::{BuildEvent, Fault};
use crate::domain::ports::{SecretSource, SecretValue};

/// What is shown instead.
const SHOWN: &str = "***";
/// Shorter values would take half of every log with them.
const SHORTEST: usize = 8;
/// Longer ones are bundles and the like, and public.
const LONGEST: u64 = 64 * 1024;
/// The CA bundle is nobody's secret.
const PUBLIC: &str = "ca";

/// The values that are kept out.
#[derive(Debug, Clone, Default)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Of the secrets that a build is given: whole values, their lines, and what stands behind `NAME=` in a line.
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
        // The longest first: a part must not be replaced within a whole.
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

    /// A report without them.
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

    /// A fault without them.
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

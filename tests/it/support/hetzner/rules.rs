//! What the API takes for a name, a label, a selector. Not responsible for: what the real one refuses, and a little more.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::cloud_init::CloudConfig;

/// An answer that is no success.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

pub(super) fn refuse(status: u16, code: &str, message: impl Into<String>) -> Refusal {
    Refusal { status, code: code.to_owned(), message: message.into() }
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    refuse(422, "invalid_input", message)
}

/// RFC 1123: labels of letters, digits and dashes, joined by dots.
pub(super) fn host_name(name: &str) -> Result<(), Refusal> {
    let label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len()) && label.chars().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(())
    } else {
        Err(invalid(format!("name: {name:?} is no valid hostname")))
    }
}

/// At most 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends.
fn label_text(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.len() <= 63 && text.chars().all(fits) && text.starts_with(ends) && text.ends_with(ends)
}

fn label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => host_name(prefix).is_ok() && prefix != "hetzner.cloud" && label_text(name),
        None => label_text(key),
    }
}

pub(super) fn labels(value: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(object) = (if value.is_null() { return Ok(BTreeMap::new()) } else { value.as_object() }) else {
        return Err(invalid("labels: not an object"));
    };
    let mut labels = BTreeMap::new();
    for (key, value) in object {
        let text = value.as_str().filter(|text| text.is_empty() || label_text(text));
        match text.filter(|_| label_key(key)) {
            Some(text) => labels.insert(key.clone(), text.to_owned()),
            None => return Err(invalid(format!("labels: {key}: {value} is no valid label"))),
        };
    }
    Ok(labels)
}

/// Whether labels fit a selector: `k==v`, `k=v`, `k!=v`, `k`, `!k`, joined by commas.
pub(super) fn selects(selector: &str, labels: &BTreeMap<String, String>) -> Result<bool, Refusal> {
    let mut all = true;
    for term in selector.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let is = |key: &str, value: &str| labels.get(key.trim()).is_some_and(|found| found == value.trim());
        let (key, fits) = if let Some((key, value)) = term.split_once("!=") {
            (key, !is(key, value))
        } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (key, is(key, value))
        } else if let Some(key) = term.strip_prefix('!') {
            (key, !labels.contains_key(key))
        } else {
            (term, labels.contains_key(term))
        };
        if !label_key(key.trim()) {
            return Err(invalid(format!("label_selector: {term:?} is not understood")));
        }
        all &= fits;
    }
    Ok(all)
}

/// MD5 with colons.
pub(super) fn fingerprint(public_key: &str) -> Result<String, Refusal> {
    let mut child = Command::new("ssh-keygen")
        .args(["-l", "-E", "md5", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ssh-keygen");
    let _ = child.stdin.take().expect("piped").write_all(format!("{public_key}\n").as_bytes());
    let output = child.wait_with_output().expect("ssh-keygen ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let print = text.split_whitespace().find_map(|word| word.strip_prefix("MD5:"));
    print.map(str::to_owned).ok_or_else(|| invalid("public_key: SSH key is invalid"))
}

/// What user data tells a machine. The real API takes any text; a machine that does not understand it is of no use.
pub(super) fn cloud_config(user_data: &str) -> Result<CloudConfig, Refusal> {
    if user_data.is_empty() {
        return Ok(CloudConfig::default());
    }
    CloudConfig::read(user_data).map_err(|what| invalid(format!("user_data: {what}")))
}

#[test]
fn selectors_are_read_as_the_api_reads_them() {
    let labels = super::market::labels(&[("a", "1"), ("b", "")]);
    for (selector, fits) in [
        ("a==1", true),
        ("a=1", true),
        ("a==2", false),
        ("a!=2,b", true),
        ("!a", false),
        ("!c,a==1", true),
        ("c!=1", true),
        ("c", false),
        ("", true),
    ] {
        assert_eq!(selects(selector, &labels).expect("understood"), fits, "{selector}");
    }
    assert_eq!(selects("a<3", &labels).expect_err("not understood").status, 422);
}

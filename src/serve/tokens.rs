//! Bearer tokens and the workspaces they allow. Not responsible for: storing tokens (the file holds only their
//! SHA-256).

use std::path::Path;

use serde::Deserialize;

use super::error::ServeError;
use super::fields::is_name;
use super::problem::Problem;
use crate::domain::base::Digest;
use crate::system::read::{self, Cap};

/// Minimum length of a token, in bytes, to prevent guessing.
const MIN_LENGTH: usize = 20;

/// Known tokens; empty disables authentication.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    workspaces: Vec<String>,
    #[serde(default)]
    max_leases: Option<std::num::NonZeroU16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Entry>,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token; empty without authentication.
    pub name: String,
    workspaces: Vec<String>,
    max_leases: Option<usize>,
}

impl Caller {
    /// The workspaces that the caller may use; `*` is all.
    pub fn workspaces(&self) -> &[String] {
        &self.workspaces
    }

    /// How many leases the caller may have at once, where that is said of its token.
    pub(super) fn max_leases(&self) -> Option<usize> {
        self.max_leases
    }

    /// Whether the caller may use a workspace.
    pub fn may(&self, workspace: &str) -> bool {
        self.workspaces.iter().any(|own| own == "*" || own == workspace)
    }
}

impl Tokens {
    /// Reads a token file: JSON if it begins with `{`, else TOML.
    pub fn read(path: &Path) -> Result<Self, ServeError> {
        let fault = |what: String| ServeError::Tokens { path: path.to_owned(), what };
        let text = read::text_of_user(path, Cap::Credentials).map_err(|error| fault(error.to_string()))?;
        let file: File = if text.trim_start().starts_with('{') {
            serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?
        } else {
            toml::from_str(&text).map_err(|error| fault(error.message().to_owned()))?
        };
        let faults = faults_of(&file.tokens);
        if faults.is_empty() { Ok(Self { entries: file.tokens }) } else { Err(fault(faults.join("; "))) }
    }

    /// Whether authentication is disabled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The caller of an `Authorization` header; a 401 problem if the token is missing or unknown.
    pub fn caller(&self, authorization: Option<&str>) -> Result<Caller, Problem> {
        if self.is_empty() {
            return Ok(Caller { name: String::new(), workspaces: vec!["*".to_owned()], max_leases: None });
        }
        let help = "send `Authorization: Bearer TOKEN` with a token that the pool's operator gave you";
        let shown = authorization.and_then(|value| value.split_once(' '));
        let Some((_, token)) = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(Problem::new(401, "unauthorized", "the request has no bearer token", help));
        };
        let hash = Digest::of(token.trim());
        // Compare with every entry, so that the time taken reveals nothing.
        let mut found = None;
        for entry in &self.entries {
            if same(hash.hex(), &entry.sha256) {
                found = Some(entry);
            }
        }
        match found {
            Some(Entry { name, workspaces, max_leases, .. }) => {
                let max_leases = max_leases.map(|most| most.get().into());
                Ok(Caller { name: name.clone(), workspaces: workspaces.clone(), max_leases })
            }
            None => Err(Problem::new(401, "unauthorized", "the bearer token is not known", help)),
        }
    }
}

fn faults_of(entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    if entries.is_empty() {
        faults.push("there is no entry".to_owned());
    }
    for (index, entry) in entries.iter().enumerate() {
        let place = format!("entry {}", index + 1);
        if !is_name(&entry.name) {
            faults.push(format!("{place}: `name` is 1 to 63 letters, digits, `.`, `_` or `-`"));
        }
        if entries[..index].iter().any(|other| other.name == entry.name) {
            faults.push(format!("{place}: the name `{}` is there already", entry.name));
        }
        if format!("sha256:{}", entry.sha256).parse::<Digest>().is_err() {
            faults.push(format!("{place}: `sha256` is 64 lower-case hex digits"));
        }
        if entry.workspaces.is_empty() || !entry.workspaces.iter().all(|name| name == "*" || is_name(name)) {
            faults.push(format!("{place}: `workspaces` lists names, or is [\"*\"]"));
        }
    }
    faults
}

/// Compares in constant time for texts of equal length.
fn same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |found, (a, b)| found | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

/// The hash of a token as the file needs it; `None` if the token is too short.
pub fn hash_token(token: &str) -> Option<String> {
    (token.len() >= MIN_LENGTH).then(|| Digest::of(token).hex().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdefghij";

    fn read(text: &str) -> Result<Tokens, ServeError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("writable");
        Tokens::read(file.path())
    }

    #[test]
    fn a_token_is_known_by_its_hash_in_either_form() {
        let hash = hash_token(TOKEN).expect("long enough");
        let toml = format!("[[tokens]]\nname = \"ci\"\nsha256 = \"{hash}\"\nworkspaces = [\"a\", \"b\"]\n");
        let json = format!(r#"{{"tokens":[{{"name":"ci","sha256":"{hash}","workspaces":["a","b"]}}]}}"#);
        for text in [toml, json] {
            let tokens = read(&text).expect("sound");
            let caller = tokens.caller(Some(&format!("Bearer {TOKEN}"))).expect("known");
            assert_eq!(caller.name, "ci");
            assert!(caller.may("a") && caller.may("b") && !caller.may("c") && !caller.may("*"));
            for wrong in [None, Some("Bearer wrong"), Some("Basic 0123456789abcdefghij"), Some("Bearer"), Some(TOKEN)] {
                assert_eq!(tokens.caller(wrong).expect_err("unknown").status, 401, "{wrong:?}");
            }
            assert!(!format!("{tokens:?}").contains(TOKEN));
        }
        assert_eq!(hash_token("short"), None);
    }

    #[test]
    fn a_faulty_file_is_refused_with_all_faults() {
        let text = "[[tokens]]\nname = \"a b\"\nsha256 = \"00\"\nworkspaces = []\n";
        let Err(ServeError::Tokens { what, .. }) = read(text) else { panic!("it was read") };
        assert!(what.contains("name") && what.contains("sha256") && what.contains("workspaces"), "{what}");
        for text in ["", "tokens = []", "{\"tokens\":[]}", "{", "[[tokens]]\nname = \"x\"\nsecret = 1\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn without_tokens_everybody_may_everything() {
        assert!(Tokens::default().caller(None).expect("known").may("anything"));
    }
}

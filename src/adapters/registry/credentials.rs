//! Reads the registry logins that `docker login` stores in `config.json` or in a credential helper. Not responsible
//! for: storing or printing them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::system::environment::{Purpose, command};
use crate::system::process::{CommandError, Printed, answer_blocking};
use base64::Engine as _;
use serde::Deserialize;

use crate::system::read::{self, Cap};

/// Timeout of a credential helper. Some query a keychain; none may block a run.
const LIMIT: Duration = Duration::from_secs(15);

/// The key of Docker Hub's login in `config.json`.
const HUB: &str = "https://index.docker.io/v1/";

/// The login for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Anonymous.
    Anonymous,
    /// A user name and password.
    Password {
        /// The name.
        user: String,
        /// The password, or a token used as a password.
        password: String,
    },
    /// An identity token, exchanged at the registry's token server.
    Identity(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(…)",
            Self::Identity(_) => "Identity(…)",
        })
    }
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity: String,
}

/// The response of a credential helper.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// The login for a registry; anonymous if there is none. Blocking: it may run a credential helper.
pub(super) fn of(registry: &str) -> Login {
    config_text(registry).and_then(|text| in_config(&text, registry, &ask)).unwrap_or(Login::Anonymous)
}

/// The text of docker's `config.json`.
fn config_text(registry: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let file = folder.or_else(home).map(|folder| folder.join("config.json"))?;
    match read::of_user(&file, Cap::Credentials) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("no login is known for {registry}: {} cannot be read: {error}", file.display());
            None
        }
    }
}

/// Whether the user may have a login for a registry. No credential helper is run: one that is asked for all registries
/// may know each.
pub fn may_have_login(registry: &str) -> bool {
    config_text(registry).is_some_and(|text| may_know(&text, registry))
}

fn may_know(text: &[u8], registry: &str) -> bool {
    let Ok(config) = serde_json::from_slice::<Config>(text) else { return false };
    let entry = |(key, entry): (&String, &Entry)| is_it(key, registry) && entry.login().is_some();
    let helper = config.helpers.keys().any(|key| is_it(key, registry));
    helper || !config.store.is_empty() || config.auths.iter().any(entry)
}

/// Whether a key of `config.json` stands for a registry.
fn is_it(key: &str, registry: &str) -> bool {
    let known_as: &[&str] = if registry == "docker.io" { &[HUB, "index.docker.io", "docker.io"] } else { &[] };
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    known_as.contains(&key) || bare.split('/').next().unwrap_or(bare) == registry
}

/// A `config.json` with the logins of these registries only; `None` if there are none. Blocking: it may run a
/// credential helper. The text is a secret.
pub fn scoped_config<'a>(registries: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let entries = registries.into_iter().filter_map(|registry| {
        let key = if registry == "docker.io" { HUB } else { registry };
        Some((key.to_owned(), entry(of(registry))?))
    });
    scoped(entries.collect())
}

fn scoped(entries: serde_json::Map<String, serde_json::Value>) -> Option<String> {
    (!entries.is_empty()).then(|| serde_json::json!({ "auths": entries }).to_string())
}

fn entry(login: Login) -> Option<serde_json::Value> {
    match login {
        Login::Anonymous => None,
        Login::Password { user, password } => {
            let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            Some(serde_json::json!({ "auth": auth }))
        }
        Login::Identity(token) => Some(serde_json::json!({ "identitytoken": token })),
    }
}

/// Gets the login for a server from the credential helper of this name.
type Ask<'a> = dyn Fn(&str, &str) -> Option<Vec<u8>> + 'a;

fn in_config(text: &[u8], registry: &str, ask: &Ask<'_>) -> Option<Login> {
    let told = |error: &serde_json::Error| {
        tracing::warn!("no login is known for {registry}: docker's config.json cannot be parsed: {error}");
    };
    let config: Config = serde_json::from_slice(text).inspect_err(told).ok()?;
    let helper = config.helpers.iter().find(|(key, _)| is_it(key, registry)).map(|(_, helper)| helper.as_str());
    let helper = helper.or(Some(config.store.as_str()).filter(|store| !store.is_empty()));
    let server = if registry == "docker.io" { HUB } else { registry };
    let kept = helper.and_then(|helper| ask(helper, server)).and_then(|answer| answered(&answer));
    kept.or_else(|| config.auths.iter().find(|(key, _)| is_it(key, registry)).and_then(|(_, entry)| entry.login()))
}

impl Entry {
    fn login(&self) -> Option<Login> {
        if !self.identity.is_empty() {
            return Some(Login::Identity(self.identity.clone()));
        }
        if self.auth.is_empty() && !self.username.is_empty() {
            return Some(Login::Password { user: self.username.clone(), password: self.password.clone() });
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(self.auth.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Login::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
    }
}

fn answered(answer: &[u8]) -> Option<Login> {
    let Answer { user, secret } = serde_json::from_slice(answer).ok()?;
    match user.as_str() {
        "" => None,
        "<token>" => Some(Login::Identity(secret)),
        _ => Some(Login::Password { user, password: secret }),
    }
}

/// Runs `docker-credential-HELPER get`. `None` if it has no login, fails, or times out.
fn ask(helper: &str, server: &str) -> Option<Vec<u8>> {
    if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        tracing::warn!(helper, "not the name of a credential helper");
        return None;
    }
    let program = format!("docker-credential-{helper}");
    let mut command = command(&program, Purpose::Credentials);
    command.arg("get");
    match answer_blocking(command, server.as_bytes().to_vec(), LIMIT, Printed::Words) {
        Ok(answer) => Some(answer),
        // This is how it says that it has none.
        Err(CommandError::Failed { .. }) => None,
        Err(error) => {
            tracing::warn!("no login is taken from {program}: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::base::mutated::mutated_json;

    proptest! {
        #[test]
        fn any_bytes_are_a_login_or_none(
            config in mutated_json(vec![json!({"auths": {"host:5000": {"auth": "bWU6c2U6Y3JldA=="}, "https://third/v1/":
                {"username": "f", "password": "f", "identitytoken": ""}}, "credHelpers": {"host": "own"},
                "credsStore": "all"})]),
            answer in mutated_json(vec![json!({"ServerURL": "host", "Username": "<token>", "Secret": "b"})]),
        ) {
            let ask = |_: &str, _: &str| Some(answer.clone());
            for registry in ["docker.io", "host", "host:5000", "third", ""] {
                for ask in [&ask as &Ask<'_>, &nobody] {
                    let Some(login) = in_config(&config, registry, ask) else { continue };
                    prop_assert!(format!("{login:?}").len() < 20, "a secret is shown");
                    entry(login);
                }
            }
        }
    }

    fn nobody(_: &str, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn password(user: &str, password: &str) -> Login {
        Login::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn finds_the_login_by_host() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:se:cret");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"host:5000":{{"auth":"{auth}"}},"bad":{{}},
            "token":{{"auth":"{auth}","identitytoken":"long"}},"plain":{{"username":"me","password":"x"}}}}}}"#
        );
        let found = |registry: &str| in_config(text.as_bytes(), registry, &nobody);
        for registry in ["docker.io", "host:5000"] {
            assert_eq!(found(registry), Some(password("me", "se:cret")), "{registry}");
        }
        assert_eq!(found("token"), Some(Login::Identity("long".into())));
        assert_eq!(found("plain"), Some(password("me", "x")));
        assert_eq!((found("other"), found("bad")), (None, None));
        assert_eq!(in_config(b"not json", "docker.io", &nobody), None);
    }

    #[test]
    fn asks_the_helper_of_the_host_then_the_store_then_the_file() {
        let text =
            br#"{"credHelpers":{"host":"own"},"credsStore":"all","auths":{"third":{"username":"f","password":"f"}}}"#;
        let ask = |helper: &str, server: &str| match (helper, server) {
            ("own", "host") => Some(br#"{"ServerURL":"host","Username":"a","Secret":"b"}"#.to_vec()),
            ("all", HUB) => Some(br#"{"Username":"<token>","Secret":"t"}"#.to_vec()),
            _ => None,
        };
        assert_eq!(in_config(text, "host", &ask), Some(password("a", "b")));
        assert_eq!(in_config(text, "docker.io", &ask), Some(Login::Identity("t".into())));
        assert_eq!(in_config(text, "third", &ask), Some(password("f", "f")));
        assert_eq!(in_config(text, "other", &ask), None);
    }

    #[test]
    fn who_may_know_a_login_is_seen_without_asking() {
        let may = |text: &str, registry: &str| may_know(text.as_bytes(), registry);
        let named = r#"{"credHelpers":{"host":"own"},"auths":{"third":{"username":"f","password":"f"},"bare":{}}}"#;
        assert!(may(named, "host") && may(named, "third"));
        assert!(!may(named, "other") && !may(named, "bare") && !may("{}", "host") && !may("no JSON", "host"));
        assert!(may(r#"{"credsStore":"all"}"#, "whatever"));
    }

    #[test]
    fn a_helper_that_is_not_there_is_no_login() {
        assert_eq!(ask("lian-no-such-helper", "host"), None);
        assert_eq!(ask("../evil", "host"), None);
    }

    #[test]
    fn no_secret_is_shown() {
        assert!(!format!("{:?} {:?}", password("me", "hidden"), Login::Identity("hidden".into())).contains("hidden"));
    }
}

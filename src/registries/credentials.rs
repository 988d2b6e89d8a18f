//! The user's registry logins, as `docker login` leaves them in `config.json`. Refuses: credential helpers, which run
//! programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Default, Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
}

/// The login for a registry; anonymous where there is none.
pub(super) fn of(registry: &str) -> RegistryAuth {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let text = folder.or_else(home).and_then(|folder| std::fs::read(folder.join("config.json")).ok());
    text.and_then(|text| in_config(&text, registry)).unwrap_or(RegistryAuth::Anonymous)
}

fn in_config(text: &[u8], registry: &str) -> Option<RegistryAuth> {
    let config: Config = serde_json::from_slice(text).ok()?;
    let known_as: &[&str] =
        if registry == "docker.io" { &["https://index.docker.io/v1/", "index.docker.io", "docker.io"] } else { &[] };
    let bare = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        key.split('/').next().unwrap_or(key).to_owned()
    };
    let mut logins = config.auths.iter();
    let (_, login) = logins.find(|(key, _)| known_as.contains(&key.as_str()) || bare(key) == registry)?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(login.auth.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_login_by_host() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:se:cret");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"host:5000":{{"auth":"{auth}"}},"bad":{{}}}}}}"#
        );
        let expected = RegistryAuth::Basic("me".into(), "se:cret".into());
        for registry in ["docker.io", "host:5000"] {
            assert_eq!(in_config(text.as_bytes(), registry), Some(expected.clone()), "{registry}");
        }
        assert_eq!(in_config(text.as_bytes(), "other"), None);
        assert_eq!(in_config(text.as_bytes(), "bad"), None);
        assert_eq!(in_config(b"not json", "docker.io"), None);
    }
}

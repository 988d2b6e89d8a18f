//! A cloud-config as cloud-init reads it: YAML, module by module. Not responsible for: what cloud-init would only warn of.

use yaml_rust2::{Yaml, YamlLoader};

/// What a machine is told at its first boot, as far as our runners use it; in the order in which cloud-init does it.
#[derive(Debug, Clone, Default)]
pub struct CloudConfig {
    /// Before everything else, at every boot.
    pub bootcmd: Vec<String>,
    /// Paths and contents.
    pub write_files: Vec<(String, String)>,
    /// sshd's private and public key.
    pub host_key: Option<(String, String)>,
    /// Installed after all of these.
    pub packages: Vec<String>,
    /// Last of all.
    pub runcmd: Vec<String>,
}

impl CloudConfig {
    /// Reads user data.
    pub fn read(user_data: &str) -> Result<Self, String> {
        if !user_data.starts_with("#cloud-config\n") {
            return Err("the first line is not `#cloud-config`".to_owned());
        }
        let documents = YamlLoader::load_from_str(user_data).map_err(|error| error.to_string())?;
        let mut config = Self::default();
        let Some(document) = documents.first() else { return Ok(config) };
        let hash = document.as_hash().ok_or("it is no mapping")?;
        for (key, value) in hash {
            match key.as_str().ok_or("a key is no text")? {
                "bootcmd" => config.bootcmd = texts(value)?,
                "runcmd" => config.runcmd = texts(value)?,
                "packages" => config.packages = texts(value)?,
                "write_files" => config.write_files = files(value)?,
                "ssh_keys" => config.host_key = Some(host_key(value)?),
                "ssh_deletekeys" | "disable_root" | "ssh_pwauth" | "package_update" | "package_upgrade" => {
                    value.as_bool().ok_or_else(|| format!("{key:?}: {value:?} is neither true nor false"))?;
                }
                other => return Err(format!("there is no module `{other}`")),
            }
        }
        Ok(config)
    }
}

fn text(value: &Yaml) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{value:?} is no text"))
}

fn texts(value: &Yaml) -> Result<Vec<String>, String> {
    value.as_vec().ok_or_else(|| format!("{value:?} is no list"))?.iter().map(text).collect()
}

fn files(value: &Yaml) -> Result<Vec<(String, String)>, String> {
    let file = |file: &Yaml| Ok((text(&file["path"])?, text(&file["content"])?));
    value.as_vec().ok_or("write_files is no list")?.iter().map(file).collect()
}

/// libcrypto reads no private key whose last line has no end.
fn host_key(value: &Yaml) -> Result<(String, String), String> {
    let (private, public) = (text(&value["ed25519_private"])?, text(&value["ed25519_public"])?);
    let whole = private.starts_with("-----BEGIN ") && private.ends_with("-----\n");
    if whole && public.starts_with("ssh-ed25519 ") { Ok((private, public)) } else { Err("half a host key".to_owned()) }
}

#[test]
fn what_cloud_init_does_not_know_is_refused() {
    let read = |text: &str| CloudConfig::read(&format!("#cloud-config\n{text}"));
    let config =
        read("bootcmd:\n  - |\n    a\n    b\nwrite_files:\n  - path: /x\n    content: |\n      y\n").expect("read");
    assert_eq!((&*config.bootcmd[0], &config.write_files[..]), ("a\nb\n", &[("/x".to_owned(), "y\n".to_owned())][..]));
    assert!(CloudConfig::read("bootcmd: [a]\n").is_err(), "without its first line it is no cloud-config");
    for text in ["a: [", "- x", "bootcmds: [a]", "runcmd: a", "disable_root: maybe", "ssh_keys: {ed25519_private: x}"] {
        assert!(read(text).is_err(), "{text}");
    }
}

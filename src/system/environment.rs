//! The environment of child processes: built up from nothing, by what each program is for. Whatever is not named here, such
//! as the token of a provider, stays in this process. Not responsible for: starting them (see `process`).

use std::ffi::{OsStr, OsString};
use std::process::Command;

/// What every program may know: where programs, the user and temporary files are, and how to write.
const COMMON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LOCALE_ARCHIVE",
    "TZ",
    "TZDIR",
    "TMPDIR",
    "XDG_*",
    "LD_LIBRARY_PATH",
];
/// Where proxies are and whom to trust.
const NETWORK: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
];
/// Of what logins to registries, and programs that `ssh` is told to go through, are made.
const LOGINS: &[&str] = &[
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
    "AWS_*",
    "GOOGLE_*",
    "CLOUDSDK_*",
    "AZURE_*",
    "GNUPGHOME",
    "GPG_*",
    "PASSWORD_STORE_*",
    "DBUS_SESSION_BUS_ADDRESS",
];
const SSH: &[&str] = &["SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY"];
const ENGINE: &[&str] = &["DOCKER_*", "CONTAINER_*", "CONTAINERS_*", "PODMAN_*"];
const DAEMON: &[&str] = &["BUILDKIT_*", "CONTAINERD_*", "GODEBUG", "GOMAXPROCS", "OTEL_*"];

/// What a program is for: this decides what it may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Works on this machine alone.
    Local,
    /// Speaks to a BuildKit daemon, for which it looks up logins to registries; forwards the ssh agent if it is told to.
    Buildctl,
    /// Is a BuildKit daemon.
    Daemon,
    /// Goes to another machine by ssh.
    Ssh,
    /// Speaks to Docker or podman.
    Engine,
    /// Looks up a login to a registry.
    Credentials,
}

impl Purpose {
    fn names(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Local => &[COMMON],
            // It reaches a daemon in a container through the engine's own program.
            Self::Buildctl => &[COMMON, NETWORK, LOGINS, SSH, ENGINE],
            Self::Daemon => &[COMMON, NETWORK, DAEMON],
            Self::Ssh => &[COMMON, NETWORK, LOGINS, SSH],
            Self::Engine => &[COMMON, NETWORK, LOGINS, SSH, ENGINE],
            Self::Credentials => &[COMMON, NETWORK, LOGINS],
        }
    }

    /// Whether a program of this kind may know a variable.
    fn knows(self, name: &OsStr) -> bool {
        let Some(name) = name.to_str() else { return false };
        let is_named = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        };
        self.names().iter().any(|names| names.iter().any(is_named))
    }
}

/// A command for a program, whose environment is what its purpose asks for and nothing else.
pub fn command(program: impl AsRef<OsStr>, purpose: Purpose) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(variables(std::env::vars_os(), purpose));
    command
}

fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
    purpose: Purpose,
) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(move |(name, _)| purpose.knows(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_knows_what_it_is_for_and_no_token() {
        let every =
            [Purpose::Local, Purpose::Buildctl, Purpose::Daemon, Purpose::Ssh, Purpose::Engine, Purpose::Credentials];
        let known = |name: &str| -> Vec<Purpose> {
            every.into_iter().filter(|purpose| purpose.knows(OsStr::new(name))).collect()
        };
        for name in ["PATH", "HOME", "LC_ALL", "XDG_RUNTIME_DIR"] {
            assert_eq!(known(name), every, "{name}");
        }
        for name in [
            "HCLOUD_TOKEN",
            "PROXMOX_TOKEN",
            "LIAN_POOL_TOKEN",
            "LIAN_STATE",
            "GITHUB_TOKEN",
            "NPM_TOKEN",
            "LD_PRELOAD",
            "PATHS",
            "LC",
        ] {
            assert_eq!(known(name), [], "{name}");
        }
        assert_eq!(known("HTTPS_PROXY").len(), every.len() - 1);
        assert_eq!(known("SSH_AUTH_SOCK"), [Purpose::Buildctl, Purpose::Ssh, Purpose::Engine]);
        assert_eq!(known("BUILDKIT_STEP_LOG_MAX_SIZE"), [Purpose::Daemon]);
        assert_eq!(known("DOCKER_HOST"), [Purpose::Buildctl, Purpose::Engine]);
        assert!(known("AWS_SECRET_ACCESS_KEY").iter().all(|purpose| *purpose != Purpose::Daemon));
    }

    #[test]
    fn a_command_starts_with_nothing_else() {
        let printed = command("env", Purpose::Local).output().expect("env runs").stdout;
        let printed = String::from_utf8(printed).expect("text");
        let names: Vec<_> = printed.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(names.contains(&"PATH"), "{names:?}");
        // Cargo sets this one for tests.
        assert!(
            std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !names.contains(&"CARGO_MANIFEST_DIR"),
            "{names:?}"
        );
    }
}

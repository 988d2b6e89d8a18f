//! Faults of failed connections. Not responsible for: detecting them (see `connection` and `master`).

use std::path::Path;
use std::time::Duration;

use super::master::Refused;
use super::route::Unfit;
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::system::words::cause;

pub(super) fn no_identity(identity: &Path) -> Fault {
    let message = format!("there is no private key {}", identity.display());
    Fault::configuration("lian::remote::identity", message)
        .help("correct `identity`, or leave it out to use the agent's keys")
}

pub(super) fn long_path(folder: &Path) -> Fault {
    let message = format!("the paths of sockets in {} would be too long", folder.display());
    Fault::new(FaultKind::Unavailable, "lian::remote::long_path", message)
        .help("set TMPDIR to a folder with a shorter name, e.g. /tmp")
}

pub(super) fn here(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::remote::here", format!("a private folder cannot be made: {error}"))
        .help("free disk space, or set TMPDIR to a writable folder")
}

/// Another machine can replace one that boots. A fixed host has no replacement.
fn replaceable(fixed: bool) -> FaultKind {
    if fixed { FaultKind::Unavailable } else { FaultKind::Infrastructure }
}

pub(super) fn wrong_key(name: &str, fixed: bool) -> Fault {
    let message = format!("{name} shows another host key than the pinned one: nothing was sent to it");
    Fault::new(replaceable(fixed), "lian::remote::host_key", message).help(
        "the connection may be intercepted, or the machine was reinstalled: compare its key with what the provider \
         or the workflow says",
    )
}

/// The address, user, key or identity is invalid.
pub(super) fn no_target(unfit: &Unfit) -> Fault {
    let Unfit { what, value } = unfit;
    // The value may come from a pool: show only printable characters.
    let shown: String = value.chars().filter(|c| !c.is_control()).take(80).collect();
    Fault::configuration("lian::remote::target", format!("`{shown}` is not a valid {what} of a runner"))
        .help("correct it in the workflow's `providers`, or ask the operator of the pool that named it")
}

pub(super) fn no_ssh(why: &str) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::remote::no_ssh", format!("ssh cannot be run here: {why}"))
        .help("install OpenSSH's client on this machine (Debian: apt-get install openssh-client)")
}

/// sshd lets us in, and runs none of our commands.
pub(super) fn no_shell(name: &str, instead: &str) -> Fault {
    let mut fault = Fault::new(
        FaultKind::Unavailable,
        "lian::remote::no_shell",
        format!("{name} accepts the login and runs no commands"),
    );
    fault.evidence = cause(instead, &[]).map(|words| format!("it says: {words}"));
    fault.help("give the user a login shell there (`chsh`), and take `ForceCommand` for it out of its sshd_config")
}

/// sshd refuses one more session over the same connection.
pub(super) fn no_session(name: &str, words: &str) -> Fault {
    let mut fault = Fault::new(
        FaultKind::Unavailable,
        "lian::remote::sessions",
        format!("{name} allows too few sessions over one connection"),
    );
    fault.evidence = Some(words.to_owned());
    fault.help("set `MaxSessions 64` in its sshd_config, and reload sshd")
}

pub(super) fn never_came(name: &str, refused: &Refused, within: Duration, fixed: bool) -> Fault {
    let seconds = within.as_secs();
    let (code, what, evidence) = match refused {
        Refused::Login(words) => ("lian::remote::login", "does not accept the key to log in with", words.clone()),
        Refused::NotThere(words) => ("lian::remote::unreachable", "cannot be reached", words.clone()),
        Refused::Late => ("lian::remote::unreachable", "cannot be reached", "no answer".to_owned()),
        Refused::HostKey | Refused::NoSsh(_) => ("lian::remote::unreachable", "cannot be reached", String::new()),
    };
    let mut fault = Fault::new(replaceable(fixed), code, format!("{name} {what}, after {seconds} s"));
    if fixed && matches!(refused, Refused::Login(_)) {
        fault = fault.with_class(FaultClass::Denied);
    }
    fault.evidence = Some(evidence);
    fault.help(match refused {
        Refused::Login(_) => {
            "authorise the key there (`ssh-copy-id -i KEY.pub`), name another one in `identity`, or add it to the agent"
        }
        Refused::NotThere(words) if words.contains("Could not resolve hostname") => {
            "correct the host's `address`, or make the name known to this machine"
        }
        Refused::NotThere(words) if words.contains("Connection refused") => {
            "check whether sshd runs there and listens on this port; a slow boot needs a longer `runners.boot_timeout_s`"
        }
        _ => "check whether a firewall stands between; a slow boot needs a longer `runners.boot_timeout_s`",
    })
}

//! What the user's own ssh configuration says of a host: where it is, through which other hosts it is reached, and with
//! which keys. Not responsible for: all else that stands there, which is left out (see `master`).

use std::time::Duration;

use crate::domain::ports::SshTarget;
use crate::system::environment::Purpose;
use crate::system::process::{CommandError, Printed, output, owned_command};

/// How long `ssh` may take to read its configuration, which may run programs (`Match exec`).
const READING: Duration = Duration::from_secs(10);
/// What the user's keys are called there.
const KEYS: [(&str, &str); 4] = [
    ("identityfile", "IdentityFile"),
    ("certificatefile", "CertificateFile"),
    ("identityagent", "IdentityAgent"),
    ("identitiesonly", "IdentitiesOnly"),
];

/// An invalid value of an [`SshTarget`], from a pool or written by hand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// What it should be.
    pub what: &'static str,
    /// The value.
    pub value: String,
}

/// How a host is reached.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// Its real name or address; the target's own if unset.
    pub address: Option<String>,
    /// Who logs in, and sshd's port, where the workflow leaves them open.
    pub user: Option<String>,
    pub port: Option<u16>,
    /// Lines for ssh's configuration: the way there, and the keys.
    pub lines: Vec<String>,
}

/// The route to a target: what the user's configuration says, if it counts for this one.
pub(super) async fn route(target: &SshTarget) -> Result<Route, Unfit> {
    if !target.is_configured || !is_word(&target.address, "._-:%") {
        return Ok(Route::default());
    }
    let asked = |more: &[&str]| {
        let mut command = owned_command("ssh", Purpose::Ssh);
        command.arg("-G").args(more).args(["--", &target.address]);
        output(command, READING, Printed::Answer)
    };
    // Only beside what `ssh` says without a configuration it is told who wrote something down.
    let (told, bare) = tokio::join!(asked(&[]), asked(&["-F", "none"]));
    match told.and_then(|told| Ok((told, bare?))) {
        Ok((told, bare)) => read(&String::from_utf8_lossy(&told), &String::from_utf8_lossy(&bare), target),
        // Without `ssh` nothing comes of the connection either, which says why.
        Err(CommandError::Unrunnable(_)) => Ok(Route::default()),
        Err(error) => {
            tracing::warn!("your ssh configuration says nothing of {}: {error}", target.address);
            Ok(Route::default())
        }
    }
}

/// Reads what `ssh -G` prints with the user's configuration and without one: a keyword in small letters and its value a
/// line.
fn read(told: &str, bare: &str, target: &SshTarget) -> Result<Route, Unfit> {
    let values = |word: &'static str| told.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '));
    let value = |word| values(word).find(|value| *value != "none");
    let is_own = |line: &str| !bare.lines().any(|found| found == line);
    let mut route = Route {
        address: value("hostname").map(str::to_owned),
        // The workflow's own default counts for less than what the user wrote down.
        user: value("user").filter(|user| target.user == "root" && is_own(&format!("user {user}"))).map(str::to_owned),
        port: value("port").and_then(|port| port.parse().ok()).filter(|_| target.port == 22),
        ..Route::default()
    };
    if let Some(hops) = value("proxyjump") {
        route.lines.push(format!("ProxyCommand {}", through(hops)?));
    } else if let Some(command) = value("proxycommand") {
        route.lines.push(format!("ProxyCommand {command}"));
    }
    if target.identity.is_none() {
        let own = |word| values(word).filter(move |value| is_own(&format!("{word} {value}")));
        let keys = KEYS.iter().flat_map(|(word, keyword)| own(word).map(move |value| (*keyword, value)));
        route.lines.extend(keys.map(|(keyword, value)| format!("{keyword} {}", quoted(value))));
    }
    Ok(route)
}

/// The command that leads through these hosts, the last of which reaches the target. It is the user's own `ssh`, with all
/// that the user's configuration says of them: their keys are checked against the user's known hosts.
fn through(hops: &str) -> Result<String, Unfit> {
    // A shell runs it, whichever the user has.
    let is_sound = hops.split(',').all(|hop| is_word(hop.strip_prefix("ssh://").unwrap_or(hop), "._-:@[]%"));
    if !is_sound {
        return Err(Unfit { what: "jump host", value: hops.to_owned() });
    }
    let (before, last) = hops.rsplit_once(',').map_or((None, hops), |(before, last)| (Some(before), last));
    let before = before.map(|before| format!("-J '{}' ", escaped(before))).unwrap_or_default();
    let last = format!("ssh://{}", escaped(last.strip_prefix("ssh://").unwrap_or(last)));
    Ok(format!("ssh -o BatchMode=yes -o ConnectTimeout=5 -o LogLevel=ERROR -W '[%h]:%p' {before}'{last}'"))
}

/// Whether it contains only letters, digits and these characters, and does not begin like an option.
pub(super) fn is_word(text: &str, more: &str) -> bool {
    let sound = text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    !text.is_empty() && sound && !text.starts_with('-')
}

fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

/// A value as the configuration's own reader takes it: its tokens (`%d`) are kept.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(user: &str, port: u16, identity: bool) -> SshTarget {
        let identity = identity.then(|| "/keys/id".into());
        let (address, host_key) = ("inner".into(), "ssh-ed25519 AAAA".into());
        SshTarget { address, port, user: user.into(), host_key, identity, is_configured: true }
    }

    fn of(told: &str, target: &SshTarget) -> Result<Route, Unfit> {
        read(told, "user ana\nidentityfile ~/.ssh/id_rsa\nidentitiesonly no\n", target)
    }

    #[test]
    fn an_alias_says_where_the_host_is_how_to_get_there_and_with_which_key() {
        let told = "host inner\nuser build\nhostname 10.0.0.5\nport 2222\nproxyjump ana@outer:2200,middle\n\
                    identityfile ~/.ssh/a b\nidentityfile ~/.ssh/id_rsa\nidentitiesonly yes\nforwardagent yes\nlocalforward 1 2\n";
        let route = of(told, &target("root", 22, false)).expect("sound");
        assert_eq!(
            (route.address.as_deref(), route.user.as_deref(), route.port),
            (Some("10.0.0.5"), Some("build"), Some(2222))
        );
        let way = "ProxyCommand ssh -o BatchMode=yes -o ConnectTimeout=5 -o LogLevel=ERROR -W '[%h]:%p' -J \
                   'ana@outer:2200' 'ssh://middle'";
        assert_eq!(route.lines, [way, "IdentityFile \"~/.ssh/a b\"", "IdentitiesOnly \"yes\""]);
        // The workflow's own word counts for more.
        let route = of(told, &target("me", 23, true)).expect("sound");
        assert_eq!((route.user, route.port, route.lines.len()), (None, None, 1));
    }

    #[test]
    fn what_says_nothing_adds_nothing() {
        let told = "host inner\nuser ana\nhostname inner\nport 22\nproxycommand none\nproxyjump none\n";
        let route = of(told, &target("root", 22, true)).expect("sound");
        assert_eq!((route.user, route.lines), (None, Vec::new()));
        let told = "hostname inner\nproxycommand tunnel --to %h:%p\n";
        assert_eq!(of(told, &target("root", 22, true)).expect("sound").lines, ["ProxyCommand tunnel --to %h:%p"]);
    }

    #[test]
    fn a_jump_host_is_no_command() {
        for hops in ["a;touch x", "-oProxyCommand=x", "a,$(x)", "a,,b", "a b"] {
            let told = of(&format!("proxyjump {hops}\n"), &target("root", 22, true));
            assert_eq!(told, Err(Unfit { what: "jump host", value: hops.to_owned() }));
        }
    }
}

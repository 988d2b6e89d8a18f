//! The platform of this machine, and who works on it. Not responsible for: its resources.

use crate::domain::base::Platform;

/// This machine's platform in OCI notation.
pub fn host_platform() -> Platform {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm/v7",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{arch}").into()
}

/// `user@machine`, for people: who holds something that others wait for.
pub fn whoami() -> String {
    let named =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let user = named.unwrap_or_else(|| format!("uid {}", rustix::process::geteuid().as_raw()));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}
/// Lets this process have so many files and connections open, as far as the system allows.
pub fn allow_open_files(wanted: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        // Where it is refused, fewer connections are accepted at once.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

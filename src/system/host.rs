//! What this machine is. Not responsible for: what it has.

use crate::domain::base::Platform;

/// This machine's platform as OCI writes it.
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

//! The platform of this machine. Not responsible for: its resources.

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

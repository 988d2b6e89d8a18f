//! Whether a daemon builds for the platform that its place is there for. Without that, the first step that runs a program
//! ends with "exec format error", and looks like a fault of its layer. Not responsible for: asking the daemon.

use crate::domain::base::Platform;
use crate::domain::model::{Fault, FaultKind};

/// The platforms of a daemon, if none of them is the wanted one. One that says none may build for all.
pub fn others_only(platforms: &[Platform], wanted: &Platform) -> Option<String> {
    let wanted = wanted.normalised();
    let is_it = |platform: &Platform| {
        let platform = platform.normalised();
        (platform.os(), platform.architecture()) == (wanted.os(), wanted.architecture())
    };
    if platforms.is_empty() || platforms.iter().any(is_it) {
        return None;
    }
    let names: Vec<&str> = platforms.iter().map(Platform::as_str).collect();
    Some(names.join(", "))
}

/// The fault of a place whose daemon builds for others than the wanted platform only. A retry there does not help.
pub fn other_platform(place: &str, platforms: &[Platform], wanted: &Platform, help: &str) -> Option<Fault> {
    let found = others_only(platforms, wanted)?;
    let message = format!("{place} builds for {found} only, and is there for {wanted}");
    Some(Fault::new(FaultKind::Unavailable, "lian::buildkit::other_platform", message).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_serves_its_architectures_in_all_variants() {
        let said = |platforms: &[&str], wanted: &str| {
            let platforms: Vec<Platform> = platforms.iter().map(|platform| Platform::new(platform)).collect();
            others_only(&platforms, &Platform::new(wanted))
        };
        assert_eq!(said(&["linux/amd64", "linux/amd64/v2", "linux/386"], "linux/amd64"), None);
        assert_eq!(said(&["linux/arm64"], "linux/arm64/v8"), None);
        assert_eq!(said(&["linux/amd64", "linux/arm/v7"], "linux/arm"), None);
        assert_eq!(said(&[], "linux/amd64"), None);
        assert_eq!(said(&["linux/s390x", "linux/386"], "linux/amd64").as_deref(), Some("linux/s390x, linux/386"));
    }
}

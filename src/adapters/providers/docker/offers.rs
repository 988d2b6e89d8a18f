//! The container sizes that an engine's machine can hold. Not responsible for: querying the engine.

use super::engine::Capacity;
use super::settings::DockerLocalSettings;
use crate::domain::model::{Fault, FaultKind, Offer};
use crate::domain::ports::AcquireRequest;

/// Configured sizes that fit in memory; if none fits, one size that covers the machine. CPUs are shared: a size may
/// name more than the machine has, and gets what exists.
pub(super) fn offers(capacity: &Capacity, settings: &DockerLocalSettings) -> Vec<Offer> {
    let whole = whole_gb(capacity.memory);
    let mut sizes: Vec<(u32, u32)> = settings.sizes.iter().map(|size| (size.memory_gb, size.cpu)).collect();
    sizes.sort_unstable();
    sizes.retain(|(memory_gb, _)| *memory_gb <= whole);
    if sizes.is_empty() {
        sizes.push((whole, capacity.cpu));
    }
    let offer = |(memory_gb, cpu): (u32, u32)| Offer {
        runner_type: format!("{cpu}c{memory_gb}g"),
        cpu,
        memory_gb,
        platform: capacity.platform.clone(),
        price: None,
    };
    sizes.into_iter().map(offer).collect()
}

/// The smallest size that is large enough.
pub(super) fn smallest(
    capacity: &Capacity,
    settings: &DockerLocalSettings,
    request: &AcquireRequest,
) -> Result<Offer, Fault> {
    let (size, all) = (&request.size, offers(capacity, settings));
    let fits = |offer: &&Offer| {
        offer.cpu >= size.cpu && offer.memory_gb >= size.memory_gb && offer.platform == request.platform
    };
    all.iter().find(fits).cloned().ok_or_else(|| {
        let (cpu, memory_gb, platform) = (size.cpu, size.memory_gb, &request.platform);
        let message = format!("the Docker Engine has no container of {cpu} CPUs and {memory_gb} GB for {platform}");
        let names: Vec<String> =
            all.iter().map(|offer| format!("{} ({})", offer.runner_type, offer.platform)).collect();
        Fault::new(FaultKind::Unavailable, "lian::docker::no_size", message).help(format!(
            "there are: {}; ask for less in .build-spec.ncl, or give Docker more memory",
            names.join(", ")
        ))
    })
}

/// Nominal memory in GB: a machine sold as 8 GB reports slightly less.
fn whole_gb(bytes: u64) -> u32 {
    u32::try_from((bytes + 500_000_000) / 1_000_000_000).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(memory: u64) -> Vec<String> {
        let capacity = Capacity { cpu: 2, memory, platform: "linux/amd64".into() };
        offers(&capacity, &DockerLocalSettings::default()).into_iter().map(|offer| offer.runner_type).collect()
    }

    #[test]
    fn offers_what_the_machine_has_the_memory_for() {
        assert_eq!(names(25_276_063_744), ["2c4g", "4c8g", "8c16g"]);
        // Docker Desktop's 8 GB.
        assert_eq!(names(8_217_473_024), ["2c4g", "4c8g"]);
        assert_eq!(names(2_000_000_000), ["2c2g"]);
    }
}

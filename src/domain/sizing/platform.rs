//! Which runner builds a layer, by platform. Not responsible for: what the layer is built for (its declaration says).

use crate::domain::model::Offer;

/// The platform of the runner for a layer that is built for these (`linux/amd64,linux/arm64/v8`): the first of them that
/// is on offer, as the offer says it. One runner builds for all of a layer's platforms. Where none is on offer, the first.
pub fn runner_platform(platforms: &str, offers: &[Offer]) -> String {
    let offered = |wanted: &str| offers.iter().find(|offer| is_built_by(wanted, &offer.platform));
    let first = platforms.split(',').next().unwrap_or(platforms).trim();
    let own = platforms.split(',').find_map(offered);
    own.map_or_else(|| plain(first).to_owned(), |offer| offer.platform.clone())
}

/// Whether a runner of this platform is one of those that a layer is built for.
pub fn is_built_by(platforms: &str, runner: &str) -> bool {
    platforms.split(',').any(|one| plain(one) == plain(runner))
}

/// Without the variant that every machine of the architecture has: `linux/arm64/v8` is `linux/arm64`, as containerd
/// normalises it.
fn plain(platform: &str) -> &str {
    let platform = platform.trim();
    match platform.rsplit_once('/') {
        Some((base @ "linux/arm64", "v8") | (base @ "linux/amd64", "v1")) => base,
        _ => platform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(platforms: &[&str]) -> Vec<Offer> {
        let offer = |platform: &&str| Offer {
            runner_type: "t".into(),
            cpu: 2,
            memory_gb: 4,
            platform: (*platform).to_owned(),
            price: None,
        };
        platforms.iter().map(offer).collect()
    }

    #[test]
    fn a_layer_for_several_platforms_has_a_runner_of_one() {
        let both = offers(&["linux/amd64", "linux/arm64"]);
        assert_eq!(runner_platform("linux/arm64,linux/amd64", &both), "linux/arm64");
        assert_eq!(runner_platform("linux/arm64, linux/amd64", &offers(&["linux/amd64"])), "linux/amd64");
        assert_eq!(runner_platform("linux/riscv64,linux/arm64", &offers(&["linux/amd64"])), "linux/riscv64");
    }

    #[test]
    fn a_variant_that_every_machine_has_is_the_same_platform() {
        assert_eq!(runner_platform("linux/arm64/v8", &offers(&["linux/arm64"])), "linux/arm64");
        assert_eq!(runner_platform("linux/arm64", &offers(&["linux/arm64/v8"])), "linux/arm64/v8");
        assert!(
            is_built_by("linux/amd64, linux/arm64/v8", "linux/arm64") && !is_built_by("linux/amd64", "linux/arm64")
        );
        assert_eq!(runner_platform("linux/arm/v7", &offers(&["linux/arm/v6"])), "linux/arm/v7");
    }
}

//! Which runner builds a layer, by platform. What the layer is built for is the business of its declaration.

use crate::domain::base::{Platform, Platforms};
use crate::domain::model::Offer;

/// The platform of the runner that builds a layer for all of `platforms`: the first of them that is on offer, as the
/// offer writes it. If none is on offer, it is the first.
pub fn runner_platform(platforms: &Platforms, offers: &[Offer]) -> Platform {
    let offered = |wanted: &Platform| {
        let same = |offer: &&Offer| offer.platform.normalised() == wanted.normalised();
        offers.iter().find(same).map(|offer| offer.platform.clone())
    };
    platforms.iter().find_map(offered).unwrap_or_else(|| platforms.first().normalised())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(platforms: &str, offered: &[&str]) -> String {
        let offer = |platform: &&str| Offer {
            runner_type: "t".into(),
            cpu: 2,
            memory_gb: 4,
            platform: (*platform).into(),
            price: None,
        };
        let offers: Vec<Offer> = offered.iter().map(offer).collect();
        runner_platform(&platforms.into(), &offers).to_string()
    }

    #[test]
    fn a_layer_for_several_platforms_has_a_runner_of_one() {
        let both = ["linux/amd64", "linux/arm64"];
        assert_eq!(chosen("linux/arm64,linux/amd64", &both), "linux/arm64");
        assert_eq!(chosen("linux/arm64, linux/amd64", &["linux/amd64"]), "linux/amd64");
        assert_eq!(chosen("linux/riscv64,linux/arm64", &["linux/amd64"]), "linux/riscv64");
    }

    #[test]
    fn a_variant_that_every_machine_has_is_the_same_platform() {
        assert_eq!(chosen("linux/arm64/v8", &["linux/arm64"]), "linux/arm64");
        assert_eq!(chosen("linux/arm64", &["linux/arm64/v8"]), "linux/arm64/v8");
        assert_eq!(chosen("linux/arm64/v8", &["linux/amd64"]), "linux/arm64");
        assert_eq!(chosen("linux/arm/v7", &["linux/arm/v6"]), "linux/arm/v7");
    }
}

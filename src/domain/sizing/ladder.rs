//! Chooses the offers for a step from the size that it asks for. Not responsible for: asking providers for their
//! offers.

use crate::domain::base::Platform;
use crate::domain::model::{Classified, FaultClass, Offer, Size};

/// No offer is large enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum LadderError {
    /// No offer fits.
    #[error("no runner has {cpu} CPUs and {memory_gb} GB for {platform}")]
    #[diagnostic(
        code(lian::sizing::no_offer),
        help("there are: {offers}; ask for less in .build-spec.ncl, or configure more")
    )]
    NoOffer {
        /// The requested virtual CPUs.
        cpu: u32,
        /// The requested memory, GB.
        memory_gb: u32,
        /// The requested platform.
        platform: Platform,
        /// All offers, as a text.
        offers: String,
    },
    /// The named runner type builds for another platform.
    #[error("`{runner_type}` is {own}, but the layer is built for {platform}")]
    #[diagnostic(
        code(lian::sizing::other_platform),
        help("name a runner type for {platform} ({fitting}), or set `platforms = [\"{own}\"]` in the layer")
    )]
    OtherPlatform {
        /// The named runner type.
        runner_type: String,
        /// Its own platform.
        own: Platform,
        /// The platform of what is to be built.
        platform: Platform,
        /// The runner types for that platform, as a text.
        fitting: String,
    },
}

impl Classified for LadderError {
    fn class(&self) -> FaultClass {
        match self {
            Self::NoOffer { .. } => FaultClass::Unavailable,
            Self::OtherPlatform { .. } => FaultClass::Configuration,
        }
    }
}

/// The offer that an explicit size means by its name. The size must match too, because a tier may have the same name by
/// chance.
pub fn named<'a>(size: &Size, offers: &'a [Offer]) -> Option<&'a Offer> {
    let same = |offer: &&Offer| {
        offer.runner_type == size.runner_type && (offer.cpu, offer.memory_gb) == (size.cpu, size.memory_gb)
    };
    offers.iter().find(same).filter(|_| size.tier == "explicit")
}

/// The first offer to try, then each one with more memory than the one before, smallest first: a build that runs out of
/// memory continues on the next. A language's default size is only a preference: if no offer is as large, the largest
/// offer is used.
///
/// # Errors
/// [`LadderError::NoOffer`] if an explicit size fits no offer, or if there are no offers.
/// [`LadderError::OtherPlatform`] if the named runner type is offered for other platforms only.
pub fn ladder(size: &Size, offers: &[Offer], platform: &Platform) -> Result<Vec<Size>, LadderError> {
    let mut fitting: Vec<&Offer> = offers.iter().filter(|offer| offer.platform == *platform).collect();
    fitting.sort_by_key(|offer| (offer.memory_gb, offer.cpu, offer.price.as_ref().map(|price| price.hourly_micros)));
    let explicit = size.tier == "explicit";
    let named = match named(size, offers) {
        None => None,
        Some(offer) => match fitting.iter().position(|fits| fits.runner_type == offer.runner_type) {
            Some(at) => Some(at),
            None => {
                let names: Vec<&str> = fitting.iter().map(|offer| offer.runner_type.as_str()).collect();
                let fitting = if names.is_empty() { "none is on offer".to_owned() } else { names.join(", ") };
                let (runner_type, own) = (offer.runner_type.clone(), offer.platform.clone());
                return Err(LadderError::OtherPlatform { runner_type, own, platform: platform.clone(), fitting });
            }
        },
    };
    let large = |offer: &&Offer| offer.cpu >= size.cpu && offer.memory_gb >= size.memory_gb;
    let last = if explicit { None } else { fitting.len().checked_sub(1) };
    let Some(first) = named.or_else(|| fitting.iter().position(large)).or(last) else {
        let shown: Vec<String> = offers.iter().map(show).collect();
        let offers = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
        let (cpu, memory_gb, platform) = (size.cpu, size.memory_gb, platform.clone());
        return Err(LadderError::NoOffer { cpu, memory_gb, platform, offers });
    };
    let mut rungs: Vec<&Offer> = vec![fitting[first]];
    for offer in &fitting[first + 1..] {
        let below = rungs[rungs.len() - 1];
        if offer.memory_gb > below.memory_gb && offer.cpu >= below.cpu {
            rungs.push(offer);
        }
    }
    let rung = |offer: &&Offer| Size {
        runner_type: offer.runner_type.clone(),
        cpu: offer.cpu,
        memory_gb: offer.memory_gb,
        ..size.clone()
    };
    Ok(rungs.iter().map(rung).collect())
}

fn show(offer: &Offer) -> String {
    format!("{} ({} CPUs, {} GB, {})", offer.runner_type, offer.cpu, offer.memory_gb, offer.platform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::BuildSpec;
    use crate::domain::sizing::{SizeAlias, resolve, wanted};

    const ALIASES: [SizeAlias; 1] = [SizeAlias { name: "cax31", tier: "large" }];

    fn offers() -> Vec<Offer> {
        let offer = |name: &str, cpu, memory_gb, platform: &str| Offer {
            runner_type: name.into(),
            cpu,
            memory_gb,
            platform: platform.into(),
            price: None,
        };
        vec![
            offer("cpx11", 2, 2, "linux/amd64"),
            offer("cax41", 16, 32, "linux/arm64"),
            offer("cax11", 2, 4, "linux/arm64"),
            offer("cax21", 4, 8, "linux/arm64"),
        ]
    }

    fn names(size: &Size, platform: &str) -> Result<Vec<String>, LadderError> {
        ladder(size, &offers(), &platform.into()).map(|sizes| sizes.into_iter().map(|size| size.runner_type).collect())
    }

    #[test]
    fn begins_with_the_smallest_that_fits_and_goes_up_on_the_same_platform() {
        assert_eq!(names(&resolve(Some("rust")), "linux/arm64").expect("sizes"), ["cax21", "cax41"]);
        assert_eq!(names(&resolve(None), "linux/arm64").expect("sizes"), ["cax11", "cax21", "cax41"]);
    }

    fn size(spec: BuildSpec) -> Size {
        wanted(Some(&spec), None, &offers(), &ALIASES).expect("a size")
    }

    #[test]
    fn numbers_get_the_smallest_offer_that_is_as_large_however_large_that_is() {
        let raw =
            |cpu, memory_gb| size(BuildSpec { cpu: Some(cpu), memory_gb: Some(memory_gb), ..BuildSpec::default() });
        assert_eq!(names(&raw(2, 2), "linux/amd64").expect("sizes"), ["cpx11"]);
        assert_eq!(names(&raw(2, 2), "linux/arm64").expect("sizes")[0], "cax11");
        assert_eq!(names(&raw(16, 32), "linux/arm64").expect("sizes"), ["cax41"]);
        let error = names(&raw(16, 64), "linux/arm64").expect_err("none is as large");
        assert_eq!(error.to_string(), "no runner has 16 CPUs and 64 GB for linux/arm64");
        let mut more = offers();
        let (runner_type, platform) = ("ccx63".to_owned(), "linux/arm64".into());
        more.push(Offer { runner_type, cpu: 48, memory_gb: 192, platform, price: None });
        let large =
            wanted(Some(&BuildSpec { cpu: Some(40), ..BuildSpec::default() }), None, &more, &[]).expect("a size");
        assert_eq!(ladder(&large, &more, &"linux/arm64".into()).expect("sizes")[0].runner_type, "ccx63");
    }

    #[test]
    fn a_named_type_of_another_platform_is_not_silently_another_one() {
        let said = size(BuildSpec { runner_type: Some("cpx11".into()), ..BuildSpec::default() });
        assert_eq!(names(&said, "linux/amd64").expect("sizes"), ["cpx11"]);
        let error = names(&said, "linux/arm64").expect_err("cpx11 is no arm64");
        assert_eq!(error.to_string(), "`cpx11` is linux/amd64, but the layer is built for linux/arm64");
        let help = miette::Diagnostic::help(&error).expect("help").to_string();
        assert!(help.contains("cax11, cax21, cax41") && help.contains("platforms = [\"linux/amd64\"]"), "{help}");
    }

    #[test]
    fn a_default_takes_what_there_is_and_a_word_does_not() {
        assert_eq!(names(&resolve(Some("rust")), "linux/amd64").expect("sizes"), ["cpx11"]);
        let said = size(BuildSpec { runner_type: Some("cax31".into()), ..BuildSpec::default() });
        assert_eq!(names(&said, "linux/arm64").expect("sizes"), ["cax41"]);
        let error = names(&said, "linux/amd64").expect_err("none");
        assert_eq!(error.to_string(), "no runner has 8 CPUs and 16 GB for linux/amd64");
        assert!(names(&resolve(None), "linux/riscv64").is_err());
    }
}

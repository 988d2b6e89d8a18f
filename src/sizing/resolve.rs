//! First match wins. Refuses: history, until it is measured: its place is between the two branches of [`resolve`].

use super::tables::{TIERS, Tier, language_default, smallest_fitting, tier};
use crate::base::nearest;
use crate::model::{BuildSpec, Offer, Size};

/// What somebody said about a size: always one that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explicit {
    tier: &'static Tier,
    cpu: u32,
    memory_gb: u32,
    time_budget_min: Option<u32>,
}

/// A size that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum SizingError {
    /// No tier has this name.
    #[error("there is no runner type `{name}`")]
    #[diagnostic(code(lian::sizing::unknown_runner_type), help("{help}"))]
    UnknownRunnerType {
        /// As given.
        name: String,
        /// The nearest name, or all.
        help: String,
    },
    /// No tier is as large.
    #[error("no runner type has {cpu} CPUs and {memory_gb} GB")]
    #[diagnostic(
        code(lian::sizing::too_large),
        help("the largest is {}: {} CPUs, {} GB", largest().name, largest().cpu, largest().memory_gb)
    )]
    TooLarge {
        /// Virtual CPUs asked for.
        cpu: u32,
        /// GB asked for.
        memory_gb: u32,
    },
}

fn largest() -> &'static Tier {
    &TIERS[TIERS.len() - 1]
}

impl Explicit {
    /// By the tier's name.
    pub fn named(name: &str, time_budget_min: Option<u32>) -> Result<Self, SizingError> {
        let tier = tier(name).ok_or_else(|| {
            let names = || TIERS.iter().map(|tier| tier.name);
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of {}", names().collect::<Vec<_>>().join(", ")),
            };
            SizingError::UnknownRunnerType { name: name.to_owned(), help }
        })?;
        Ok(Self { tier, cpu: tier.cpu, memory_gb: tier.memory_gb, time_budget_min })
    }

    /// By numbers: mapped to the smallest tier that has as much.
    pub fn raw(cpu: u32, memory_gb: u32, time_budget_min: Option<u32>) -> Result<Self, SizingError> {
        let tier = smallest_fitting(cpu, memory_gb).ok_or(SizingError::TooLarge { cpu, memory_gb })?;
        Ok(Self { tier, cpu, memory_gb, time_budget_min })
    }
}

/// The size of a step. A time budget that was not said is the language's.
pub fn resolve(explicit: Option<&Explicit>, language: Option<&str>) -> Size {
    let defaults = language_default(language);
    if let Some(said) = explicit {
        return Size {
            runner_type: said.tier.name.to_owned(),
            cpu: said.cpu,
            memory_gb: said.memory_gb,
            time_budget_min: said.time_budget_min.unwrap_or(defaults.time_budget_min),
            tier: "explicit".to_owned(),
        };
    }
    let tier = smallest_fitting(defaults.cpu, defaults.memory_gb)
        .expect("invariant: every language's default fits a tier (see the tests)");
    Size {
        runner_type: tier.name.to_owned(),
        cpu: defaults.cpu,
        memory_gb: defaults.memory_gb,
        time_budget_min: defaults.time_budget_min,
        tier: "language_default".to_owned(),
    }
}

/// Neither on offer nor a tier.
fn unknown(name: &str, offers: &[Offer]) -> SizingError {
    let tiers = TIERS.iter().map(|tier| tier.name).filter(|tier| offers.iter().all(|offer| offer.runner_type != *tier));
    let offered: Vec<&str> = offers.iter().map(|offer| offer.runner_type.as_str()).collect();
    let all: Vec<&str> = offered.iter().copied().chain(tiers).collect();
    let help = match nearest(name, all.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? on offer: {}", offered.join(", ")),
        None => format!("on offer: {}; a tier's name does too: cax11, cax21, cax31, cax41", offered.join(", ")),
    };
    SizingError::UnknownRunnerType { name: name.to_owned(), help }
}

/// The size that a build specification, or else the language, asks for. A runner type is one on offer, or a tier.
///
/// # Errors
/// [`SizingError`] where it names what is neither, or more than the largest tier has.
pub fn wanted(spec: Option<&BuildSpec>, language: Option<&str>, offers: &[Offer]) -> Result<Size, SizingError> {
    let Some(spec) = spec else { return Ok(resolve(None, language)) };
    let language = spec.language.as_deref().or(language);
    let defaults = language_default(language);
    let budget = spec.time_budget_min;
    let named = |name: &String| match offers.iter().find(|offer| offer.runner_type == *name) {
        Some(offer) => Ok(Size {
            runner_type: name.clone(),
            cpu: offer.cpu,
            memory_gb: offer.memory_gb,
            time_budget_min: budget.unwrap_or(defaults.time_budget_min),
            tier: "explicit".to_owned(),
        }),
        None => match Explicit::named(name, budget) {
            Ok(said) => Ok(resolve(Some(&said), language)),
            Err(_) => Err(unknown(name, offers)),
        },
    };
    match (&spec.runner_type, spec.cpu.or(spec.memory_gb)) {
        (Some(name), _) => named(name),
        (None, Some(_)) => {
            let (cpu, memory_gb) = (spec.cpu.unwrap_or(defaults.cpu), spec.memory_gb.unwrap_or(defaults.memory_gb));
            Explicit::raw(cpu, memory_gb, budget).map(|said| resolve(Some(&said), language))
        }
        (None, None) => {
            let size = resolve(None, language);
            let time_budget_min = budget.unwrap_or(size.time_budget_min);
            Ok(Size { time_budget_min, ..size })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tables::{LANGUAGES, OTHER_LANGUAGES};
    use super::*;

    #[test]
    fn every_default_fits_a_tier_and_tiers_grow() {
        for entry in LANGUAGES.iter().chain([&OTHER_LANGUAGES]) {
            assert!(smallest_fitting(entry.cpu, entry.memory_gb).is_some(), "{entry:?}");
        }
        assert!(TIERS.windows(2).all(|pair| pair[0].cpu < pair[1].cpu && pair[0].memory_gb < pair[1].memory_gb));
    }

    #[test]
    fn languages_have_their_defaults() {
        let shown = |language| {
            let size = resolve(None, language);
            format!("{} {} {} {} {}", size.runner_type, size.cpu, size.memory_gb, size.time_budget_min, size.tier)
        };
        assert_eq!(shown(Some("rust")), "cax21 4 8 60 language_default");
        assert_eq!(shown(Some("Go")), "cax11 2 4 30 language_default");
        assert_eq!(shown(Some("java")), "cax21 4 8 45 language_default");
        assert_eq!(shown(Some("cobol")), "cax11 2 4 30 language_default");
        assert_eq!(shown(None), "cax11 2 4 30 language_default");
    }

    #[test]
    fn refuses_what_cannot_be_had() {
        let error = Explicit::named("cax13", None).expect_err("unknown");
        assert_eq!(error.to_string(), "there is no runner type `cax13`");
        assert_eq!(Explicit::raw(64, 8, None), Err(SizingError::TooLarge { cpu: 64, memory_gb: 8 }));
    }

    proptest! {
        #[test]
        fn explicit_always_wins_and_gets_at_least_what_it_asks(
            cpu in 1u32..=16,
            memory in 1u32..=32,
            budget in proptest::option::of(1u32..600),
            language in "(rust|go|java|c)",
        ) {
            let said = Explicit::raw(cpu, memory, budget).expect("within the largest tier");
            let size = resolve(Some(&said), Some(&language));
            let tier = tier(&size.runner_type).expect("a tier");
            prop_assert_eq!(size.tier.as_str(), "explicit");
            prop_assert!(tier.cpu >= cpu && tier.memory_gb >= memory);
            prop_assert!(TIERS.iter().take_while(|t| t.name != tier.name).all(|t| t.cpu < cpu || t.memory_gb < memory));
        }
    }
}

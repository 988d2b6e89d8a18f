//! Determines the size that a step asks for: the first source with an answer decides. Not responsible for: history,
//! until it is measured. Its place is in [`wanted`], before the language's default.

use super::tables::{SizeAlias, TIERS, language_default, smallest_fitting, tier};
use crate::domain::base::{nearest, shown};
use crate::domain::model::{BuildSpec, Classified, FaultClass, Offer, Size};

/// A size that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum SizingError {
    /// Neither a tier nor an offer has this name.
    #[error("there is no runner type `{}`", shown(name))]
    #[diagnostic(code(lian::sizing::unknown_runner_type), help("{help}"))]
    UnknownRunnerType {
        /// As given.
        name: String,
        /// The nearest name, or all names.
        help: String,
    },
}

impl Classified for SizingError {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// A language's default size.
pub fn resolve(language: Option<&str>) -> Size {
    let defaults = language_default(language);
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

/// The error for a name that is neither an offer nor a tier.
fn unknown(name: &str, offers: &[Offer], aliases: &[SizeAlias]) -> SizingError {
    let tiers = TIERS.map(|tier| tier.name);
    let offered: Vec<&str> = offers.iter().map(|offer| offer.runner_type.as_str()).collect();
    let known = offered.iter().copied().chain(tiers).chain(aliases.iter().map(|alias| alias.name));
    let there_are = format!("on offer: {}; or a tier: {}", offered.join(", "), tiers.join(", "));
    let help = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`? {there_are}"),
        None => there_are,
    };
    SizingError::UnknownRunnerType { name: name.to_owned(), help }
}

/// The size that a build specification asks for, or else the language's default. A runner type must be an offer, a
/// tier or an alias of one. Whether any offer is as large is checked later (see `ladder`).
///
/// # Errors
/// [`SizingError`] if a name is neither an offer nor a tier.
pub fn wanted(
    spec: Option<&BuildSpec>,
    language: Option<&str>,
    offers: &[Offer],
    aliases: &[SizeAlias],
) -> Result<Size, SizingError> {
    let language = spec.and_then(|spec| spec.language.as_deref()).or(language);
    let size = resolve(language);
    let Some(spec) = spec else { return Ok(size) };
    let time_budget_min = spec.time_budget_min.unwrap_or(size.time_budget_min);
    let explicit = |runner_type: &str, cpu, memory_gb| {
        let (runner_type, tier) = (runner_type.to_owned(), "explicit".to_owned());
        Size { runner_type, cpu, memory_gb, time_budget_min, tier }
    };
    if let Some(name) = &spec.runner_type {
        let offered = offers.iter().find(|offer| offer.runner_type == *name);
        let offered = offered.map(|offer| (offer.cpu, offer.memory_gb));
        let (cpu, memory_gb) = offered
            .or_else(|| tier(name, aliases).map(|tier| (tier.cpu, tier.memory_gb)))
            .ok_or_else(|| unknown(name, offers, aliases))?;
        return Ok(explicit(name, cpu, memory_gb));
    }
    if spec.cpu.is_none() && spec.memory_gb.is_none() {
        return Ok(Size { time_budget_min, ..size });
    }
    let (cpu, memory_gb) = (spec.cpu.unwrap_or(size.cpu), spec.memory_gb.unwrap_or(size.memory_gb));
    // A name for people until an offer is chosen: the smallest tier that is as large, or the largest tier.
    let named = smallest_fitting(cpu, memory_gb).unwrap_or(&TIERS[TIERS.len() - 1]);
    Ok(explicit(named.name, cpu, memory_gb))
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
            let size = resolve(language);
            format!("{} {} {} {} {}", size.runner_type, size.cpu, size.memory_gb, size.time_budget_min, size.tier)
        };
        assert_eq!(shown(Some("rust")), "medium 4 8 60 language_default");
        assert_eq!(shown(Some("Go")), "small 2 4 30 language_default");
        assert_eq!(shown(Some("java")), "medium 4 8 45 language_default");
        assert_eq!(shown(Some("cobol")), "small 2 4 30 language_default");
        assert_eq!(shown(None), "small 2 4 30 language_default");
    }

    #[test]
    fn a_name_must_be_on_offer_or_a_tiers() {
        let spec = BuildSpec { runner_type: Some("cax13".into()), ..BuildSpec::default() };
        let aliases = [SizeAlias { name: "cax31", tier: "large" }];
        let error = wanted(Some(&spec), None, &[], &aliases).expect_err("unknown");
        assert_eq!(error.to_string(), "there is no runner type `cax13`");
        let SizingError::UnknownRunnerType { help, .. } = error;
        assert!(help.starts_with("did you mean `cax31`?") && help.contains("small, medium, large, xlarge"), "{help}");
        for name in ["large", "cax31"] {
            let spec = BuildSpec { runner_type: Some(name.into()), ..BuildSpec::default() };
            let size = wanted(Some(&spec), None, &[], &aliases).expect("a tier");
            assert_eq!((size.runner_type.as_str(), size.cpu, size.memory_gb), (name, 8, 16));
        }
    }

    proptest! {
        #[test]
        fn explicit_always_wins_and_asks_for_what_it_says(
            cpu in proptest::option::of(1u32..=200),
            memory_gb in proptest::option::of(1u32..=2000),
            budget in proptest::option::of(1u32..600),
            language in "(rust|go|java|c)",
        ) {
            let spec = BuildSpec { cpu, memory_gb, time_budget_min: budget, ..BuildSpec::default() };
            let (size, default) = (wanted(Some(&spec), Some(&language), &[], &[]).expect("a size"), resolve(Some(&language)));
            let said = cpu.or(memory_gb).is_some();
            prop_assert_eq!(size.tier.as_str(), if said { "explicit" } else { "language_default" });
            prop_assert_eq!((size.cpu, size.memory_gb), (cpu.unwrap_or(default.cpu), memory_gb.unwrap_or(default.memory_gb)));
            prop_assert_eq!(size.time_budget_min, budget.unwrap_or(default.time_budget_min));
        }
    }
}

//! The size tiers and the languages' defaults, as in `defaults/size_tiers.ncl` and `defaults/languages.ncl`. Not
//! responsible for: prices (providers know them).

/// A named size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Its name, whatever the provider. Offers are mapped to it by CPU and memory.
    pub name: &'static str,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
}

/// The default size for a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The language; empty for all others.
    pub language: &'static str,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// The time budget, in minutes.
    pub time_budget_min: u32,
}

/// A provider's own name for a tier. It stands for the tier's size with every provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeAlias {
    /// The provider's name.
    pub name: &'static str,
    /// The tier's name.
    pub tier: &'static str,
}

/// The tiers, smallest first.
pub const TIERS: [Tier; 4] = [
    Tier { name: "small", cpu: 2, memory_gb: 4 },
    Tier { name: "medium", cpu: 4, memory_gb: 8 },
    Tier { name: "large", cpu: 8, memory_gb: 16 },
    Tier { name: "xlarge", cpu: 16, memory_gb: 32 },
];

/// Languages with needs of their own.
pub const LANGUAGES: [Defaults; 3] = [
    Defaults { language: "rust", cpu: 4, memory_gb: 8, time_budget_min: 60 },
    Defaults { language: "go", cpu: 2, memory_gb: 4, time_budget_min: 30 },
    Defaults { language: "java", cpu: 4, memory_gb: 8, time_budget_min: 45 },
];

/// The default for every other language, and for none.
pub const OTHER_LANGUAGES: Defaults = Defaults { language: "", cpu: 2, memory_gb: 4, time_budget_min: 30 };

/// The tier of this name, which may be an alias.
pub fn tier(name: &str, aliases: &[SizeAlias]) -> Option<&'static Tier> {
    let name = aliases.iter().find(|alias| alias.name == name).map_or(name, |alias| alias.tier);
    TIERS.iter().find(|tier| tier.name == name)
}

/// The smallest tier with at least these CPUs and this memory.
pub fn smallest_fitting(cpu: u32, memory_gb: u32) -> Option<&'static Tier> {
    TIERS.iter().find(|tier| tier.cpu >= cpu && tier.memory_gb >= memory_gb)
}

/// A language's default size. The case of its name does not matter.
pub fn language_default(language: Option<&str>) -> &'static Defaults {
    language
        .and_then(|name| LANGUAGES.iter().find(|entry| entry.language.eq_ignore_ascii_case(name)))
        .unwrap_or(&OTHER_LANGUAGES)
}

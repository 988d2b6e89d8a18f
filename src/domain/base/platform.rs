//! A platform as OCI writes it, and the list of platforms that one image is built for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One platform: `os/architecture[/variant]`, such as `linux/amd64` or `linux/arm64/v8`. The text is kept as written,
/// without surrounding blanks: the contract `Platform` checks declarations, and BuildKit checks the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Platform(String);

impl Platform {
    /// The platform that this text names.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The platform of these parts; an empty variant is left out.
    pub fn of(os: &str, architecture: &str, variant: &str) -> Self {
        match variant {
            "" => Self(format!("{os}/{architecture}")),
            variant => Self(format!("{os}/{architecture}/{variant}")),
        }
    }

    /// The text, as OCI and BuildKit write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The operating system: `linux`.
    pub fn os(&self) -> &str {
        self.part(0)
    }

    /// The processor architecture: `amd64`. Empty if the text has none.
    pub fn architecture(&self) -> &str {
        self.part(1)
    }

    /// The architecture's variant: `v8`. Empty if the text has none.
    pub fn variant(&self) -> &str {
        self.part(2)
    }

    fn part(&self, index: usize) -> &str {
        self.0.splitn(3, '/').nth(index).unwrap_or_default()
    }

    /// The platform as containerd normalises it, and BuildKit with it: one name for an architecture of several, without
    /// a variant that every machine of its architecture has. `linux/arm64/v8` becomes `linux/arm64`, `linux/x86_64`
    /// becomes `linux/amd64`, and `linux/arm` becomes `linux/arm/v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let lower = self.0.to_ascii_lowercase();
        let mut parts = lower.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (part(), part(), part());
        let os = if os == "macos" { "darwin" } else { os };
        let (architecture, variant) = match (architecture, variant) {
            ("amd64" | "x86_64" | "x86-64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("arm64" | "aarch64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
            ("arm64" | "aarch64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64", variant) => ("arm64", variant),
            ("i386", _) => ("386", ""),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("", _) => return Self(os.to_owned()),
            other => other,
        };
        Self::of(os, architecture, variant)
    }
}

impl From<&str> for Platform {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Platform {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The platforms that one image is built for: at least one, in the order in which they were written. Its text, which
/// layer keys and BuildKit's options hold, joins them with commas: `linux/amd64,linux/arm64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Platforms {
    first: Platform,
    others: Vec<Platform>,
}

impl Platforms {
    /// The platforms of a list; `None` for an empty list.
    pub fn of(list: &[Platform]) -> Option<Self> {
        let (first, others) = list.split_first()?;
        Some(Self { first: first.clone(), others: others.to_vec() })
    }

    /// The first of them.
    pub fn first(&self) -> &Platform {
        &self.first
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Platform> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The same platforms, each once, in an order that does not depend on how they were written.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let sorted: std::collections::BTreeSet<&Platform> = self.iter().collect();
        let mut sorted = sorted.into_iter().cloned();
        let first = sorted.next().expect("invariant: there is at least one");
        Self { first, others: sorted.collect() }
    }

    /// Whether a machine of this platform is one of those that the image is built for.
    pub fn include(&self, machine: &Platform) -> bool {
        self.iter().any(|platform| platform.normalised() == machine.normalised())
    }
}

impl From<Platform> for Platforms {
    fn from(platform: Platform) -> Self {
        Self { first: platform, others: Vec::new() }
    }
}

impl From<&str> for Platforms {
    fn from(text: &str) -> Self {
        let mut parts = text.split(',').map(Platform::new);
        Self { first: parts.next().unwrap_or_default(), others: parts.collect() }
    }
}

impl From<String> for Platforms {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Platforms> for Vec<Platform> {
    fn from(platforms: Platforms) -> Self {
        platforms.iter().cloned().collect()
    }
}

impl From<Platforms> for String {
    fn from(platforms: Platforms) -> Self {
        platforms.to_string()
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.first.as_str())?;
        self.others.iter().try_for_each(|platform| write!(f, ",{platform}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_up_to_three_parts() {
        let platform = Platform::new("linux/arm/v7");
        assert_eq!((platform.os(), platform.architecture(), platform.variant()), ("linux", "arm", "v7"));
        let platform = Platform::new("linux/amd64");
        assert_eq!((platform.architecture(), platform.variant()), ("amd64", ""));
        assert_eq!(Platform::new("arm64").architecture(), "");
    }

    #[test]
    fn a_variant_that_every_machine_has_is_left_out() {
        assert_eq!(Platform::new("linux/arm64/v8").normalised(), Platform::new("linux/arm64"));
        assert_eq!(Platform::new("linux/amd64/v1").normalised(), Platform::new("linux/amd64"));
        assert_eq!(Platform::new("linux/arm/v7").normalised(), Platform::new("linux/arm/v7"));
        assert_eq!(Platform::new("linux/riscv64").normalised(), Platform::new("linux/riscv64"));
        assert_eq!(Platform::new("").normalised(), Platform::new(""));
    }

    #[test]
    fn an_architecture_of_several_names_has_one() {
        for (written, meant) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/amd64/v2", "linux/amd64/v2"),
        ] {
            assert_eq!(Platform::new(written).normalised(), Platform::new(meant), "{written}");
        }
    }

    #[test]
    fn a_list_is_one_text_in_json() {
        let list: Platforms = serde_json::from_str(r#""linux/amd64,linux/arm64/v8""#).expect("a list");
        assert_eq!(list.iter().map(Platform::as_str).collect::<Vec<_>>(), ["linux/amd64", "linux/arm64/v8"]);
        assert_eq!(serde_json::to_string(&list).expect("JSON"), r#""linux/amd64,linux/arm64/v8""#);
        assert_eq!(Platforms::of(&[Platform::new("linux/amd64"), Platform::new("linux/arm64/v8")]), Some(list));
        assert_eq!(serde_json::to_string(&Platform::new("linux/amd64")).expect("JSON"), r#""linux/amd64""#);
        assert_eq!(Platforms::of(&[]), None);
    }

    #[test]
    fn a_list_includes_machines_whatever_variant_they_name() {
        let list = Platforms::from("linux/amd64, linux/arm64/v8");
        assert!(list.include(&Platform::new("linux/arm64")) && list.include(&Platform::new("linux/amd64")));
        assert!(!list.include(&Platform::new("linux/arm/v7")));
    }
}

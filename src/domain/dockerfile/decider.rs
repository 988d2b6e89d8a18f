//! What decides the platform of a stage: the machine that builds, what the layer is built for, or the file alone. Not
//! responsible for: the platform itself.

use std::collections::BTreeMap;

use super::budget::Budget;
use super::checks;
use super::expand::expand;
use super::steps::Dockerfile;
use super::word::Word;
use crate::domain::base::Platform;

/// Two platforms that differ in all their parts, so that at least one of them does so from any third.
const OTHERS: [&str; 2] = ["linux/arm/v6", "linux/s390x"];

/// What decides the platform of a stage. If neither does, the file fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decider {
    /// The machine that builds (`BUILD*`).
    pub builder: bool,
    /// What the layer is built for (`TARGET*`).
    pub target: bool,
}

impl Decider {
    /// That of a stage without `--platform`, and of what it copies from or mounts: BuildKit takes those for what the
    /// layer is built for, whatever the stage's own platform is.
    pub const TARGET: Self = Self { builder: false, target: true };
}

/// A file, and what is known of its build besides the platforms.
#[derive(Clone, Copy)]
pub(super) struct Globals<'a> {
    pub file: &'a Dockerfile,
    pub build_args: &'a BTreeMap<String, String>,
    /// The stage to build; the last one if `None`.
    pub target: Option<&'a str>,
}

impl Globals<'_> {
    /// What decides the platform of `FROM --platform=WORD`: whether another builder or target changes what comes of the
    /// word, be it through arguments of any name. What it says holds if the budget is not spent by it.
    pub fn decider(&self, word: &Word, builder: &Platform, target: &Platform, budget: &Budget) -> Decider {
        let found = |builder: &Platform, target: &Platform| {
            let values = self.values(builder, target, budget)?;
            checks::platform(word, self.file.escape, &values, builder, budget).ok()
        };
        let now = found(builder, target);
        let others = OTHERS.map(Platform::new);
        Decider {
            builder: others.iter().any(|other| found(other, target) != now),
            target: others.iter().any(|other| found(builder, other) != now),
        }
    }

    /// What FROM sees; `None` if that cannot be read.
    fn values(&self, builder: &Platform, target: &Platform, budget: &Budget) -> Option<BTreeMap<String, String>> {
        let mut values = self.own_values(builder, target);
        for arg in &self.file.args {
            let value = match (self.build_args.get(&arg.name), &arg.default) {
                (Some(given), _) => budget.copy(given).ok()?,
                (None, Some(default)) => expand(default, self.file.escape, &values, budget).ok()?.text,
                (None, None) => continue,
            };
            values.insert(arg.name.clone(), value);
        }
        Some(values)
    }

    /// The variables that BuildKit declares itself. A build argument of their name takes their place.
    pub fn own_values(&self, builder: &Platform, target: &Platform) -> BTreeMap<String, String> {
        let last = self.file.stages.last().and_then(|stage| stage.name.as_ref()).map(|name| name.text.as_str());
        let stage = self.target.or(last).unwrap_or("default");
        let mut values = BTreeMap::from([("TARGETSTAGE".to_owned(), stage.to_owned())]);
        for (side, platform) in [("BUILD", builder.normalised()), ("TARGET", target.normalised())] {
            let named = [
                ("PLATFORM", platform.as_str()),
                ("OS", platform.os()),
                ("OSVERSION", ""),
                ("ARCH", platform.architecture()),
                ("VARIANT", platform.variant()),
            ];
            values.extend(named.map(|(name, value)| (format!("{side}{name}"), value.to_owned())));
        }
        for (name, value) in &mut values {
            if let Some(given) = self.build_args.get(name) {
                value.clone_from(given);
            }
        }
        values
    }
}

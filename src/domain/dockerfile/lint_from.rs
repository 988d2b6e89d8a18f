//! What BuildKit's rules of style find in the variables and platforms of `FROM`. Not responsible for: the rest of a
//! stage.

use std::collections::BTreeMap;

use super::budget::Budget;
use super::expand::{Expanded, expand};
use super::lint::{Findings, Rules};
use super::platform;
use super::steps::{Dockerfile, Stage};
use crate::domain::base::Platform;
use crate::domain::model::ImageRef;

/// What FROM sees.
pub(super) struct Seen<'a> {
    pub values: &'a BTreeMap<String, String>,
    /// The same if no build argument is given; `None` if that cannot be read.
    pub defaults: Option<BTreeMap<String, String>>,
    /// The machine that builds: BuildKit completes a platform that names only a system.
    pub builder: &'a Platform,
}

/// The variables that FROM would see if no build argument were given. `start`: those that BuildKit declares itself.
pub(super) fn defaults(file: &Dockerfile, start: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let (mut values, budget) = (start.clone(), Budget::default());
    for arg in &file.args {
        if let Some(default) = &arg.default {
            let value = expand(default, file.escape, &values, &budget).ok()?.text;
            values.insert(arg.name.clone(), value);
        }
    }
    Some(values)
}

/// What the rules find in all `FROM`s.
pub(super) fn check(file: &Dockerfile, rules: &Rules, seen: &Seen<'_>, found: &mut Findings) {
    let budget = Budget::default();
    if let Some(defaults) = &seen.defaults {
        for stage in &file.stages {
            let Ok(image) = expand(&stage.from.text, file.escape, defaults, &budget) else { break };
            if image.text.parse::<ImageRef>().is_err() {
                let message = format!("without build arguments `{}` names no image", stage.from.text);
                found.add(rules, "InvalidDefaultArgInFrom", stage.written.span, message);
            }
        }
    }
    for stage in &file.stages {
        let own = rules.below(&stage.written.comments);
        let Ok(image) = expand(&stage.from.text, file.escape, seen.values, &budget) else { return };
        undeclared(file, &own, stage, &image, found);
        let Some(word) = &stage.platform else { continue };
        let Ok(platform) = expand(&word.text, file.escape, seen.values, &budget) else { return };
        undeclared(file, &own, stage, &platform, found);
        if platform.missing.is_empty() && platform.set.iter().eq(["TARGETPLATFORM"]) {
            if seen.values.get("TARGETPLATFORM") == Some(&platform.text) {
                let message = format!("`--platform={}` is the default", word.text);
                found.add(&own, "RedundantTargetPlatform", stage.written.span, message);
            }
        } else if platform.missing.is_empty() && platform.set.is_empty() {
            constant(&own, stage, &platform.text, seen.builder, found);
        }
    }
}

fn undeclared(file: &Dockerfile, rules: &Rules, stage: &Stage, word: &Expanded, found: &mut Findings) {
    for name in word.missing.iter().filter(|name| file.args.iter().all(|arg| arg.name != **name)) {
        let message = format!("no ARG before the first FROM declares `{name}`");
        found.add(rules, "UndefinedArgInFrom", stage.written.span, message);
    }
}

/// A platform that is written out, in a stage whose name does not tell it.
fn constant(rules: &Rules, stage: &Stage, text: &str, builder: &Platform, found: &mut Findings) {
    let Ok(platform) = platform::parse(text) else { return };
    let architecture = match platform.architecture() {
        "" => builder.architecture(),
        named => named,
    };
    let name = stage.name.as_ref().map_or("", |name| name.text.as_str());
    if !name.contains(platform.os()) && !name.contains(architecture) {
        let message = format!("`--platform={text}` is a constant");
        found.add(rules, "FromPlatformFlagConstDisallowed", stage.written.span, message);
    }
}

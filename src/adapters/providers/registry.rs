//! Which providers there are. Not responsible for: what each of them is like.

use std::path::{Path, PathBuf};

use super::descriptor::{Descriptor, Settings};
use crate::domain::model::{Fault, ProviderName, ProviderSettings};

/// The providers that a program knows, in the order in which they are listed.
#[derive(Debug, Clone)]
pub struct ProviderRegistry {
    descriptors: Vec<Descriptor>,
}

impl ProviderRegistry {
    /// These.
    pub fn new(descriptors: impl IntoIterator<Item = Descriptor>) -> Self {
        descriptors.into_iter().fold(Self { descriptors: Vec::new() }, Self::with)
    }

    /// One more; in place of another of the same name.
    #[must_use]
    pub fn with(mut self, descriptor: Descriptor) -> Self {
        self.descriptors.retain(|known| known.name != descriptor.name);
        self.descriptors.push(descriptor);
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.descriptors.iter()
    }

    /// The one of this name.
    ///
    /// # Errors
    /// `lian::providers::unknown`: the ledger of a newer lian-build may name one.
    pub fn find(&self, name: &ProviderName) -> Result<&Descriptor, Fault> {
        self.iter().find(|known| known.name == *name).ok_or_else(|| {
            let message = format!("this lian-build has no provider `{name}`");
            let names: Vec<&str> = self.iter().map(|known| known.name.as_str()).collect();
            Fault::configuration("lian::providers::unknown", message)
                .help(format!("use the lian-build that knows it; this one has {}", names.join(", ")))
        })
    }

    /// Says where runners are asked for, to every provider that can choose.
    pub fn locate(&self, settings: &mut ProviderSettings, locations: &[String]) {
        for descriptor in self.iter() {
            let Some(field) = descriptor.location_setting else { continue };
            let own = settings.entry(descriptor.name.clone()).or_insert(serde_json::Value::Null);
            own[field] = locations.into();
        }
    }

    /// Fills in what a workflow leaves unset of its providers' settings, and resolves their paths, which are relative to the
    /// workflow's folder.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn resolve(
        &self,
        settings: &mut ProviderSettings,
        resolve_path: impl Fn(&Path) -> PathBuf,
    ) -> Result<(), Fault> {
        for descriptor in self.iter() {
            let (Some(schema), Some(value)) = (&descriptor.settings, settings.get_mut(&descriptor.name)) else {
                continue;
            };
            *value = (schema.resolve)(&Settings::new(&descriptor.name, Some(value)), &resolve_path)?;
        }
        Ok(())
    }
}

//! The list of available providers. Not responsible for: what each provider does.

use std::path::{Path, PathBuf};

use super::descriptor::{Descriptor, Settings};
use crate::domain::model::{Fault, ProviderName, ProviderSettings};
use crate::domain::sizing::SizeAlias;

/// The providers of a program, in listing order.
#[derive(Debug, Clone)]
pub struct ProviderRegistry {
    descriptors: Vec<Descriptor>,
}

impl ProviderRegistry {
    /// Creates a registry of these providers.
    pub fn new(descriptors: impl IntoIterator<Item = Descriptor>) -> Self {
        descriptors.into_iter().fold(Self { descriptors: Vec::new() }, Self::with)
    }

    /// Adds a provider; replaces one of the same name.
    #[must_use]
    pub fn with(mut self, descriptor: Descriptor) -> Self {
        self.descriptors.retain(|known| known.name != descriptor.name);
        self.descriptors.push(descriptor);
        self
    }

    /// All providers.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.descriptors.iter()
    }

    /// All providers' own names for size tiers.
    pub fn size_aliases(&self) -> Vec<SizeAlias> {
        self.iter().flat_map(|known| known.size_aliases).copied().collect()
    }

    /// The provider of this name.
    ///
    /// # Errors
    /// `lian::providers::unknown`, e.g. if a newer lian-build wrote the name to the ledger.
    pub fn find(&self, name: &ProviderName) -> Result<&Descriptor, Fault> {
        self.iter().find(|known| known.name == *name).ok_or_else(|| {
            let message = format!("this lian-build has no provider `{name}`");
            let names: Vec<&str> = self.iter().map(|known| known.name.as_str()).collect();
            Fault::configuration("lian::providers::unknown", message)
                .help(format!("use the lian-build that knows it; this one has {}", names.join(", ")))
        })
    }

    /// Sets the requested locations in the settings of every provider that supports them.
    pub fn locate(&self, settings: &mut ProviderSettings, locations: &[String]) {
        for descriptor in self.iter() {
            let Some(field) = descriptor.location_setting else { continue };
            let own = settings.entry(descriptor.name.clone()).or_insert(serde_json::Value::Null);
            own[field] = locations.into();
        }
    }

    /// Fills in defaults in a workflow's provider settings and resolves their paths, which are relative to the
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

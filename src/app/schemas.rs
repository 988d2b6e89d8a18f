//! The Nickel schemas of this program: the fixed ones, and those of its providers. Not responsible for: evaluating.

use crate::adapters::nickel::{ProviderContract, ProviderSchema, Schemas};
use crate::adapters::providers::{Descriptor, registry};

/// All files that a catalog can import beside its own.
pub fn schemas() -> Schemas {
    let providers: Vec<ProviderSchema> = registry().iter().map(schema).collect();
    Schemas::new(&providers)
}

fn schema(descriptor: &Descriptor) -> ProviderSchema {
    let settings = descriptor.settings.as_ref().map(|settings| ProviderContract {
        summary: settings.summary,
        text: settings.contract,
        records: settings.records,
    });
    ProviderSchema { name: descriptor.name.as_str().to_owned(), settings }
}

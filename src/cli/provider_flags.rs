//! `--provider` and `--context-transfer`: where layers are built. Not responsible for: a provider's other settings
//! (see the workflow).

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::adapters::providers::registry;
use crate::app::config::ProviderChoice;
use crate::domain::model::{ContextTransfer, ProviderName};

/// Where layers are built.
#[derive(Debug, Clone, Default, Args)]
pub struct ProviderFlags {
    /// Where it is built; wins over the workflow
    #[arg(long, value_parser = provider_names())]
    pub provider: Option<ProviderName>,
    /// How the context reaches the runner; wins over the workflow
    #[arg(long, value_enum)]
    pub context_transfer: Option<Transfer>,
}

/// Accepts the names of this program's providers.
pub fn provider_names() -> impl TypedValueParser<Value = ProviderName> {
    let names = registry().iter().map(|known| PossibleValue::new(known.flag).help(known.summary));
    PossibleValuesParser::new(names).map(|given| {
        let named = registry().iter().find(|known| known.flag == given);
        named.expect("invariant: only these names pass").name.clone()
    })
}

/// `--context-transfer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transfer {
    /// To the runner's /workspace, images to a registry
    Rsync,
    /// Over the connection, images back over it
    Session,
}

impl From<Transfer> for ContextTransfer {
    fn from(transfer: Transfer) -> Self {
        match transfer {
            Transfer::Rsync => Self::Rsync,
            Transfer::Session => Self::Session,
        }
    }
}

impl From<ProviderFlags> for ProviderChoice {
    fn from(flags: ProviderFlags) -> Self {
        Self { provider: flags.provider, context_transfer: flags.context_transfer.map(Into::into) }
    }
}

//! `--provider` and `--context-transfer`: where layers are built, said on the command line. Not responsible for: what a provider needs
//! beside its name (the workflow says that).

use clap::{Args, ValueEnum};

use crate::app::config::ProviderChoice;
use crate::domain::model::{ComputeProvider, ContextTransfer};

/// Where layers are built.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ProviderFlags {
    /// Where it is built; wins over the workflow
    #[arg(long, value_enum)]
    pub provider: Option<Provider>,
    /// How the context reaches the runner; wins over the workflow
    #[arg(long, value_enum)]
    pub context_transfer: Option<Transfer>,
}

/// `--provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// This machine's BuildKit
    Local,
    /// A container on this machine's Docker Engine
    DockerLocal,
    /// A fixed host
    Ssh,
    /// Hetzner Cloud
    Hcloud,
    /// Proxmox VE
    Proxmox,
    /// A service that leases runners
    VmPool,
}

/// `--context-transfer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transfer {
    /// To the runner's /workspace, images to a registry
    Rsync,
    /// Over the connection, images back over it
    Session,
}

impl From<Provider> for ComputeProvider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Local => Self::Local,
            Provider::DockerLocal => Self::DockerLocal,
            Provider::Ssh => Self::Ssh,
            Provider::Hcloud => Self::Hcloud,
            Provider::Proxmox => Self::Proxmox,
            Provider::VmPool => Self::VmPool,
        }
    }
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
        Self { provider: flags.provider.map(Into::into), context_transfer: flags.context_transfer.map(Into::into) }
    }
}

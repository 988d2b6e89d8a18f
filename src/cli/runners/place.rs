//! `--provider` and `--context-transfer`: where layers are built, said on the command line. Refuses: what a provider needs
//! beside its name (the workflow says that).

use clap::{Args, ValueEnum};

use crate::model::{ComputeProvider, ContextTransfer, Workflow};

/// Where layers are built.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Place {
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

impl Place {
    /// What was said, over what the workflow says.
    pub fn over(self, workflow: &mut Workflow) {
        if let Some(provider) = self.provider {
            workflow.compute_provider = provider.into();
        }
        match self.context_transfer {
            Some(Transfer::Rsync) => workflow.runners.context_transfer = ContextTransfer::Rsync,
            Some(Transfer::Session) => workflow.runners.context_transfer = ContextTransfer::Session,
            None => {}
        }
    }
}

//! Leases virtual machines on a Proxmox VE node, each cloned from a template. Not responsible for: preparing the
//! template (`docs/providers/proxmox.md`), and machines that lack any of our marks (never touched).

mod api;
mod api_error;
mod boot;
#[cfg(test)]
mod bytes_tests;
mod descriptor;
mod machines;
mod mark;
mod provider;
mod record;
mod release;
mod settings;
mod tls;
mod token;

pub use descriptor::DESCRIPTOR;
pub use provider::Proxmox;
pub use settings::ProxmoxSettings;
pub use token::Token;

//! Virtual machines of a Proxmox VE node, cloned from a template for one lease each. Not responsible for: preparing the template
//! (`docs/providers/proxmox.md`), and touching a machine that does not carry every mark of ours.

mod api;
mod api_error;
mod boot;
mod descriptor;
mod machines;
mod mark;
mod provider;
mod settings;
mod tls;
mod token;

pub use descriptor::DESCRIPTOR;
pub use provider::Proxmox;
pub use settings::ProxmoxSettings;
pub use token::Token;

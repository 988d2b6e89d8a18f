//! The one integration binary: it links once.

mod apply;
mod buildkit;
mod buildkit_daemon;
mod buildkit_verify;
mod chaos;
mod check;
mod cloud;
mod commands;
mod context;
mod dispatch;
mod evidence;
mod exits;
mod hcloud;
mod hooks;
mod house;
mod nickel;
mod places;
mod pool;
mod proxmox;
mod recipe;
mod registry;
mod runners;
mod serve;
mod stop;
mod support;
mod travel;

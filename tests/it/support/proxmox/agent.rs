//! The guest agent: silent at first, and at first telling what is not true yet. Not responsible for: commands beyond two.

use serde_json::{Value, json};

use super::state::{Config, Vm};

/// The host key that the template was made with; cloud-init replaces it.
pub const STALE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What it says, or why it says nothing.
pub fn answer(vm: &mut Vm, id: u32, command: &str, fields: &Config) -> Result<Value, String> {
    if vm.get("agent").is_empty() {
        return Err("No QEMU guest agent configured".to_owned());
    }
    if !vm.running {
        return Err(format!("VM {id} is not running"));
    }
    match vm.silent {
        Some(0) => {}
        silent => {
            vm.silent = silent.map(|left| left - 1);
            return Err("QEMU guest agent is not running".to_owned());
        }
    }
    let Some(booted) = vm.booted.clone() else { return Err("QEMU guest agent is not running".to_owned()) };
    let settled = vm.settling == 0;
    vm.settling = vm.settling.saturating_sub(1);
    match (command, fields.get("file").map(String::as_str)) {
        ("network-get-interfaces", None) => {
            let lo =
                json!({ "name": "lo", "ip-addresses": [{ "ip-address": "127.0.0.1", "ip-address-type": "ipv4" }] });
            let mut addresses = vec![json!({ "ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64 })];
            if settled {
                addresses.push(json!({ "ip-address": booted.address.to_string(), "prefix": 24 }));
            }
            Ok(json!({ "result": [lo, { "name": "eth0", "ip-addresses": addresses }] }))
        }
        ("file-read", Some("/run/cloud-init/result.json")) if settled => {
            Ok(json!({ "content": "{\"v1\": {\"errors\": []}}\n", "bytes-read": 24 }))
        }
        ("file-read", Some("/etc/ssh/ssh_host_ed25519_key.pub")) => {
            let key = if settled { booted.host_key.as_str() } else { STALE };
            let content = format!("{key} root@runner\n");
            Ok(json!({ "bytes-read": content.len(), "content": content }))
        }
        ("file-read", Some(file)) => {
            Err(format!("Agent error: failed to open file '{file}' (mode: 'r'): No such file or directory"))
        }
        _ => Err(format!("the fake's agent does not know {command}")),
    }
}

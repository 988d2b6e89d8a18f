//! Gives back what a daemon that was killed left of its steps' networks: namespaces, addresses, rules of the firewall, the
//! bridge. Not responsible for: daemons that end by themselves (they give it back).

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::network::{bridge, conflist, links};
use crate::system::environment::{self, Purpose};
use crate::system::read::{self, Cap};

/// Where CNI's library keeps what plugins answered.
const ANSWERS: &str = "/var/lib/cni/results";
/// The device of a step: the loopback comes before it.
const DEVICE: &str = "eth1";

/// Gives back all networks of this daemon's folder. What does not work leaves something behind that does no harm.
pub(super) fn give_back(folder: &Path) {
    let table = read::text_of_user(Path::new("/proc/self/mountinfo"), Cap::Answer).unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for namespace in points.filter(|point| point.starts_with(folder) && point.parent().is_some_and(is_of_cni)) {
        let _ = withdraw(folder, namespace);
        let _ = environment::command("umount", Purpose::Local).arg("-l").arg(namespace).stderr(Stdio::null()).status();
        let _ = std::fs::remove_file(namespace);
    }
    let name = bridge(folder);
    // Without `ip` it stays, and serves the next daemon of this folder.
    if Path::new("/sys/class/net").join(&name).exists() {
        let _ =
            environment::command("ip", Purpose::Local).args(["link", "delete", &name]).stderr(Stdio::null()).status();
    }
}

fn is_of_cni(parent: &Path) -> bool {
    parent.ends_with("net/cni")
}

/// Asks each plugin to withdraw what it gave to a namespace, the last one first.
fn withdraw(folder: &Path, namespace: &Path) -> Option<()> {
    let id = namespace.file_name()?.to_str()?;
    let list: Value = serde_json::from_slice(&read::of_user(&conflist(folder), Cap::Answer).ok()?).ok()?;
    let name = list["name"].as_str()?;
    let answer = Path::new(ANSWERS).join(format!("{name}-{id}-{DEVICE}"));
    let given: Value = serde_json::from_slice(&read::of_user(&answer, Cap::Answer).ok()?).ok()?;
    for plugin in list["plugins"].as_array()?.iter().rev() {
        let mut orders = plugin.clone();
        for (field, value) in
            [("cniVersion", &list["cniVersion"]), ("name", &list["name"]), ("prevResult", &given["result"])]
        {
            orders[field] = value.clone();
        }
        let mut command = environment::command(links(folder).join(plugin["type"].as_str()?), Purpose::Local);
        command.env("CNI_COMMAND", "DEL").env("CNI_CONTAINERID", id).env("CNI_NETNS", namespace);
        command.env("CNI_IFNAME", DEVICE).env("CNI_PATH", links(folder));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().ok()?;
        let _ = child.stdin.take()?.write_all(orders.to_string().as_bytes());
        let _ = child.wait();
    }
    for answer in [answer, Path::new(ANSWERS).join(format!("cni-loopback-{id}-lo"))] {
        let _ = std::fs::remove_file(answer);
    }
    Some(())
}

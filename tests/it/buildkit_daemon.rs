//! The life of our own daemon: started once, shared, stopped when idle, and started anew after every kind of death.

use std::path::Path;
use std::time::{Duration, Instant};

use lian_build::adapters::buildkit::{Buildctl, BuildkitError, Daemon, DaemonConfig};
use lian_build::domain::base::Digest;
use lian_build::domain::model::FaultKind;
use lian_build::domain::ports::Builder as _;

use crate::support::buildkitd::{binaries, config, scratch, stage};

/// The buildkitd whose configuration is in this folder, by `/proc`: zombies have no command line.
fn daemons(folder: &Path) -> Vec<u32> {
    let toml = folder.join("buildkit/buildkitd.toml").display().to_string();
    let list = std::fs::read_dir("/proc").expect("/proc").flatten();
    list.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&toml).then_some(pid)
    })
    .collect()
}

async fn becomes(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never became true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("killed");
}

fn supervisor(config: &DaemonConfig) -> u32 {
    let text = std::fs::read_to_string(config.folder.join("supervisor.lock")).expect("a lock");
    text.trim().parse().expect("a pid")
}

/// Whether the firewall has rules of this bridge.
fn rules_of(bridge: &str) -> bool {
    let saved = std::process::Command::new("iptables-save").output().expect("iptables-save runs").stdout;
    String::from_utf8_lossy(&saved).contains(bridge)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_start_one_and_it_stops_when_nobody_is_left() {
    let folder = scratch();
    let config = config(folder.path());
    let (one, two) = tokio::join!(Daemon::ensure_with(&config, binaries()), Daemon::ensure_with(&config, binaries()));
    let (one, two) = (one.expect("a daemon"), two.expect("a daemon"));
    assert_eq!((one.address(), daemons(folder.path()).len()), (two.address(), 1));
    assert!(one.disk_use().await.expect("an answer").total < 1_000_000_000);
    one.prune(0).await.expect("pruned");
    // Another daemon that is left at the same time tells when the idle time is over: this one is still used.
    let beside = scratch();
    let clock = Daemon::ensure_with(&self::config(beside.path()), binaries()).await.expect("a daemon");
    drop((one, clock));
    becomes("the other daemon is gone", || daemons(beside.path()).is_empty()).await;
    assert_eq!(daemons(folder.path()).len(), 1);
    drop(two);
    becomes("the idle daemon is gone", || daemons(folder.path()).is_empty()).await;
    let again = Daemon::ensure_with(&config, binaries()).await.expect("a daemon after the idle stop");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_one_comes_after_every_kind_of_death() {
    let folder = scratch();
    let config = config(folder.path());
    // Files of a life long gone.
    std::fs::create_dir_all(&config.folder).expect("a folder");
    std::fs::write(config.socket(), "").expect("a leftover");
    std::fs::write(config.folder.join("supervisor.lock"), "1").expect("a leftover");

    let first = Daemon::ensure_with(&config, binaries()).await.expect("a daemon despite leftovers");
    kill(daemons(folder.path())[0], rustix::process::Signal::KILL);
    becomes("the killed daemon is gone", || daemons(folder.path()).is_empty()).await;
    let second = Daemon::ensure_with(&config, binaries()).await.expect("a daemon after a kill");
    kill(supervisor(&config), rustix::process::Signal::KILL);
    becomes("the daemon went with its supervisor", || daemons(folder.path()).is_empty()).await;
    let third = Daemon::ensure_with(&config, binaries()).await.expect("a daemon after its supervisor's death");
    assert_eq!(daemons(folder.path()).len(), 1);
    assert!(Daemon::stop(&config).await.expect("stopped"));
    assert!(daemons(folder.path()).is_empty());
    assert!(!Daemon::stop(&config).await.expect("nothing to stop"));
    drop((first, second, third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_under_a_build_is_not_the_layers_fault() {
    let folder = scratch();
    let config = config(folder.path());
    let daemon = Daemon::ensure_with(&config, binaries()).await.expect("a daemon");
    let builder = Buildctl::on(&daemon);
    let request = stage().request(folder.path(), "FROM base\nRUN sleep 313131");
    let build = tokio::spawn(async move { builder.build(&request, &|_| ()).await });
    let running = || {
        let list = std::fs::read_dir("/proc").expect("/proc").flatten();
        list.filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let found = line.starts_with(b"sleep\x00313131");
            if found { entry.file_name().to_str()?.parse::<u32>().ok() } else { None }
        })
        .collect::<Vec<u32>>()
    };
    becomes("the step runs", || !running().is_empty()).await;
    let bridge = format!("lian-{}", &Digest::of(config.folder.as_os_str().as_encoded_bytes()).hex()[..8]);
    assert!(rules_of(&bridge), "its step has a network of its own");
    kill(daemons(folder.path())[0], rustix::process::Signal::KILL);
    let fault = build.await.expect("an end").expect_err("it fails");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::daemon_gone"));
    // A daemon that is killed leaves its steps and their mounts behind; its supervisor takes them along.
    becomes("its step went with it", || running().is_empty()).await;
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("/proc");
    let left =
        || mounts().lines().any(|line| line.contains(&*folder.path().to_string_lossy()) && line.contains("/executor/"));
    becomes("its mounts went with it", || !left()).await;
    // So do its network, and what lets it through the firewall.
    becomes("its network went with it", || !rules_of(&bridge) && !Path::new("/sys/class/net").join(&bridge).exists())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_cannot_start_shows_its_log() {
    let folder = scratch();
    let mut config = config(folder.path());
    config.root = Some("/dev/null/nowhere".into());
    let error = Daemon::ensure_with(&config, binaries()).await.expect_err("it cannot start");
    let BuildkitError::DaemonFailed { tail, .. } = &error else { panic!("{error:?}") };
    assert!(tail.contains("/dev/null"), "{tail}");
    config.address = Some("unix:///nonexistent.sock".into());
    let error = Daemon::ensure_with(&config, binaries()).await.expect_err("nobody is there");
    assert!(matches!(error, BuildkitError::Unreachable { .. }), "{error:?}");
}

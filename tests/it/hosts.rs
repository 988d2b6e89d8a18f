//! Hosts that are not well: what is told of them, and that others are taken instead.

use std::time::{Duration, Instant};

use lian_build::adapters::transport::ssh::SshConnection;
use lian_build::adapters::transport::{Problem, Readiness, Transport as _};
use lian_build::domain::ports::SshTarget;

use crate::support::sandbox::{Sandbox, key_pair};

/// Kills the daemon and keeps it from being started again. Its socket stays.
const STALE: &str =
    "touch /run/lian/no-restart; pkill -9 buildkitd; while pgrep buildkitd; do :; done; ls /run/buildkit";

async fn connected(host: &Sandbox, key: &std::path::Path) -> SshConnection {
    let (address, user, host_key) = (host.address.to_string(), "root".to_owned(), host.host_key.clone());
    let target = SshTarget { address, port: 22, user, host_key, identity: Some(key.to_owned()) };
    let minute = Duration::from_secs(60);
    SshConnection::connect(&target, "host", minute, minute).await.unwrap_or_else(|fault| panic!("{fault:?}"))
}

/// The code and the words of what a host lacks.
async fn told(connection: &SshConnection) -> String {
    match connection.look().await.expect("it can be asked") {
        Readiness::Ready => "ready".to_owned(),
        missing => {
            let fault = connection.explain(Problem::NotReady(Duration::from_secs(3), missing)).await;
            format!("{} {} {:?} {:?}", fault.code, fault.message, fault.evidence, fault.help)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_which_of_no_socket_no_answer_and_not_ready_it_is() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with_ready(&public, 4, 8);
    let connection = connected(&host, &key).await;
    assert_eq!(told(&connection).await, "ready");
    // A host whose owner names the cgroup of its builds has the folder, and no file that a first boot would write.
    assert!(host.run("rm /run/lian/ready; ls /run/lian").contains("cgroup"));
    assert_eq!(told(&connection).await, "ready");
    host.run(": >/run/lian/booting");
    assert!(told(&connection).await.contains("lian::remote::not_ready"), "{}", told(&connection).await);
    host.run("rm /run/lian/booting");
    // A daemon that hangs takes connections: the kernel does.
    host.run("pkill -STOP buildkitd");
    let started = Instant::now();
    let hangs = told(&connection).await;
    assert!(hangs.contains("lian::remote::no_answer") && hangs.contains("said nothing for 8 s"), "{hangs}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    host.run("pkill -CONT buildkitd");
    assert_eq!(told(&connection).await, "ready");
    assert!(host.run(STALE).contains("buildkitd.sock"), "its socket is gone");
    let stale = told(&connection).await;
    assert!(stale.contains("lian::remote::no_answer") && stale.contains("restart buildkit"), "{stale}");
    host.run("rm /run/buildkit/buildkitd.sock");
    let none = told(&connection).await;
    assert!(none.contains("lian::remote::no_socket") && none.contains("no socket /run/buildkit"), "{none}");
}

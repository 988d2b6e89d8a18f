//! Writes small files on a runner and cleans folders there. Not responsible for: whole contexts, which each transport
//! copies in its own way.

use base64::Engine as _;

use crate::adapters::transport::Transport;
use crate::domain::model::{Fault, FaultKind};
use crate::system::shell::quoted;

/// Maximum bytes of a file that is sent together with others.
const SMALL: usize = 64 << 10;

/// Writes a file (mode 600) and creates its folder (mode 700).
async fn put(transport: &dyn Transport, path: &str, bytes: &[u8]) -> Result<(), Fault> {
    let (folder, file) = (quoted(folder_of(path)), quoted(path));
    let script = format!("umask 077 && mkdir -p {folder} && cat >{file}");
    let output = transport.exec(&script, bytes).await?;
    let evidence = || format!("{path}: {}", output.stderr.trim());
    if output.code == 0 { Ok(()) } else { Err(refused(transport, "a file", &evidence())) }
}

/// Writes files that only their owner may read, all small ones in one script.
pub(super) async fn put_all(transport: &dyn Transport, files: &[(String, Vec<u8>)]) -> Result<(), Fault> {
    let mut script = "umask 077; set -e".to_owned();
    let mut lines = String::new();
    for (path, bytes) in files {
        if bytes.len() > SMALL {
            put(transport, path, bytes).await?;
            continue;
        }
        // `read` consumes exactly one line. The content is not an argument, so it does not appear in process lists.
        let (folder, file) = (quoted(folder_of(path)), quoted(path));
        script.push_str(&format!("; mkdir -p {folder}; IFS= read -r l; printf %s \"$l\" | base64 -d >{file}"));
        lines.push_str(&base64::engine::general_purpose::STANDARD.encode(bytes));
        lines.push('\n');
    }
    expect(transport, &script, lines.as_bytes(), "a file").await
}

/// Creates a folder if missing.
pub(super) async fn make(transport: &dyn Transport, folder: &str) -> Result<(), Fault> {
    expect(transport, &format!("mkdir -p {}", quoted(folder)), b"", "a folder").await
}

/// Empties a folder.
pub(super) async fn empty(transport: &dyn Transport, folder: &str) -> Result<(), Fault> {
    let folder = quoted(folder);
    let script = format!("mkdir -p {folder} && find {folder} -mindepth 1 -delete");
    expect(transport, &script, b"", "to empty a folder").await
}

/// Removes files and folders, if they exist.
pub(super) async fn remove(transport: &dyn Transport, paths: &[String]) -> Result<(), Fault> {
    let paths: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
    expect(transport, &format!("rm -rf {}", paths.join(" ")), b"", "to remove files").await
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(folder, _)| folder)
}

async fn expect(transport: &dyn Transport, script: &str, input: &[u8], what: &str) -> Result<(), Fault> {
    let output = transport.exec(script, input).await?;
    if output.code == 0 { Ok(()) } else { Err(refused(transport, what, output.stderr.trim())) }
}

fn refused(transport: &dyn Transport, what: &str, evidence: &str) -> Fault {
    let message = format!("{} refuses {what}", transport.name());
    let mut fault = Fault::new(FaultKind::Infrastructure, "lian::remote::transfer", message);
    fault.evidence = Some(evidence.to_owned());
    fault.help("check whether its disk is full, and whether the user may write there")
}

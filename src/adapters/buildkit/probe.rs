//! Searches an image for tools by running one script in it, and reads the script's results. Not responsible for: images
//! without a shell (see `search`).

use std::fmt::Write as _;
use std::path::Path;

use super::argv;
use super::finding::Finding;
use super::image::{self, ImageSettings};
use super::own_build::{IMAGE, PROBE, over_image};
use super::scratch::scratch;
use super::solve::{Solver, Unsolved, fault_of, silent};
use super::version;
use crate::domain::model::{Fault, Tool};
use crate::domain::ports::VerifyRequest;
use crate::system::read;
use crate::system::shell::quoted;

/// Where the script writes its results. They are exported and never become part of the image.
const OUT: &str = "/.lian-verify";
/// At most this many bytes of a probe's output are read.
const OUTPUT_BYTES: usize = 16 * 1024;

/// A shell function that prints the path of a tool. `command -v` would also find the shell's built-ins, which are not
/// binaries.
const FIND: &str = r#"find_tool() {
case $1 in */*) [ -f "$1" ] && [ -x "$1" ] && echo "$1"; return;; esac
IFS=:; for folder in $PATH; do
if [ -f "${folder:-.}/$1" ] && [ -x "${folder:-.}/$1" ]; then echo "${folder:-.}/$1"; return 0; fi
done; return 1
}
"#;

/// What is wrong with the tools; `None` if the image has no shell.
pub(super) async fn tools(solver: &Solver, request: &VerifyRequest) -> Result<Option<Vec<Finding>>, Fault> {
    let folder = scratch()?;
    let (context, found) = (folder.path().join("context"), folder.path().join("found"));
    let settings = image::settings(request);
    let dockerfile = format!(
        "{}COPY Dockerfile {OUT}/\nRUN --network=none {}\nFROM scratch\nCOPY --from={PROBE} {OUT}/ /\n",
        head(&settings),
        serde_json::json!(["/bin/sh", "-c", script(&request.tools)]),
    );
    let mut args = over_image(&context, &dockerfile, request)?;
    argv::folder_output(&mut args, &found);
    match solver.solve(&args, &silent).await {
        Ok(_) => Ok(Some(request.tools.iter().enumerate().filter_map(|(at, tool)| read(&found, at, tool)).collect())),
        Err(Unsolved::Failed(failure)) if no_shell(&failure) => Ok(None),
        Err(unsolved) => Err(fault_of(unsolved)),
    }
}

/// Starts the stage [`PROBE`] from the image, as root. If the image has `ONBUILD` instructions, its files are copied
/// instead, because those instructions are meant for images built on it.
pub(super) fn head(settings: &ImageSettings) -> String {
    if !settings.triggers() {
        return format!("FROM {IMAGE} AS {PROBE}\nUSER 0\n");
    }
    let mut text = format!("FROM scratch AS {PROBE}\nCOPY --from={IMAGE} / /\nUSER 0\n");
    for (name, value) in settings.env() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        let _ = writeln!(text, "ENV {name}=\"{value}\"");
    }
    text
}

fn no_shell(failure: &super::classify::Failure) -> bool {
    // A shell for another architecture counts as none.
    let says = |line: &String| {
        line.contains("exec: \"/bin/sh\"") && line.contains("no such file or directory")
            || line.contains("exec format error")
    };
    failure.vertices.iter().any(|vertex| vertex.log_tail.iter().any(says))
}

/// The command whose output is read: the tool's own probe, or `--version` if a version is required.
pub(super) fn command(tool: &Tool) -> Option<String> {
    tool.probe.clone().or_else(|| tool.version.as_ref().map(|_| format!("{} --version", quoted(&tool.name))))
}

/// One script for all tools, so that all faults are reported together. It uses only POSIX shell built-ins, because the
/// image may hold little else, and the image's own PATH. COPY creates its output folder.
fn script(tools: &[Tool]) -> String {
    let mut text = FIND.to_owned();
    for (at, tool) in tools.iter().enumerate() {
        let name = quoted(&tool.name);
        let _ = writeln!(text, "if (find_tool {name}) > {OUT}/{at}.path 2>/dev/null; then :");
        if let Some(command) = command(tool) {
            let command = quoted(&command);
            let _ = writeln!(text, "/bin/sh -c {command} > {OUT}/{at}.out 2>&1 </dev/null; echo $? > {OUT}/{at}.code");
        }
        text.push_str("fi\n");
    }
    text.push_str("exit 0\n");
    text
}

fn read(found: &Path, at: usize, tool: &Tool) -> Option<Finding> {
    let text = |suffix: &str| {
        let bytes = read::beginning(&found.join(format!("{at}.{suffix}")), OUTPUT_BYTES as u64).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if text("path").trim().is_empty() {
        return Some(Finding::MissingTool { name: tool.name.clone() });
    }
    let command = command(tool)?;
    judge(tool, command, text("code").trim(), &text("out"))
}

/// What a probe's exit code and output say about its tool.
pub(super) fn judge(tool: &Tool, command: String, code: &str, output: &str) -> Option<Finding> {
    let name = tool.name.clone();
    if code != "0" {
        return Some(Finding::ProbeFailed { name, command, code: code.to_owned(), output: output.to_owned() });
    }
    let wanted = tool.version.as_ref()?;
    let requirement = match version::requirement(wanted) {
        Ok(requirement) => requirement,
        Err(what) => return Some(Finding::BadRequirement { name, what }),
    };
    let wanted = wanted.clone();
    match version::first_in(output) {
        Some(version) if version::meets(&requirement, &version) => None,
        Some(version) => Some(Finding::Version { name, wanted, found: Some(version.to_string()) }),
        None => Some(Finding::Version { name, wanted, found: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_quotes_what_it_is_given() {
        let tools = [
            Tool { name: "cargo".into(), version: None, probe: None },
            Tool { name: "it's".into(), version: Some(">=1".into()), probe: None },
            Tool { name: "nu".into(), version: None, probe: Some("nu -c 'version | get version'".into()) },
        ];
        insta::assert_snapshot!(script(&tools));
    }

    #[test]
    fn judges_a_probe_by_code_then_version() {
        let tool = Tool { name: "sccache".into(), version: Some(">=0.8".into()), probe: None };
        let judged = |code: &str, output: &str| judge(&tool, "sccache --version".into(), code, output);
        assert_eq!(judged("0", "sccache 0.8.2"), None);
        assert!(matches!(judged("0", "sccache 0.7.1"), Some(Finding::Version { found: Some(v), .. }) if v == "0.7.1"));
        assert!(matches!(judged("0", "hello"), Some(Finding::Version { found: None, .. })));
        assert!(matches!(judged("127", ""), Some(Finding::ProbeFailed { .. })));
        assert!(matches!(judged("", ""), Some(Finding::ProbeFailed { .. })));
    }
}

//! Searches an image that has no shell for tools, by copying files from the folders on its PATH. Not responsible for:
//! probes that need a shell.

use std::fmt::Write as _;
use std::path::Path;

use super::binaries::is_executable;
use super::finding::Finding;
use super::image::{self, ImageSettings};
use super::own_build::{IMAGE, over_image};
use super::probe::{command, head, judge};
use super::scratch::scratch;
use super::solve::{Solver, Unsolved, fault_of, silent};
use super::{argv, artifacts};
use crate::domain::model::{BuildEvent, Fault, Tool};
use crate::domain::ports::VerifyRequest;

/// What is wrong with the tools.
pub(super) async fn tools(solver: &Solver, request: &VerifyRequest) -> Result<Vec<Finding>, Fault> {
    let settings = image::settings(request);
    let folder = scratch()?;
    let mut present = vec![false; request.tools.len()];
    for (at, place) in settings.path().into_iter().enumerate() {
        let found = folder.path().join(format!("found-{at}"));
        if !copy(solver, request, place, folder.path(), &found).await? {
            continue;
        }
        for (at, tool) in request.tools.iter().enumerate() {
            present[at] |= is_executable(&found.join(at.to_string()).join(file_name(&tool.name)));
        }
    }
    let mut findings = Vec::new();
    for (tool, present) in request.tools.iter().zip(present) {
        if !present {
            findings.push(Finding::MissingTool { name: tool.name.clone() });
        } else if let Some(command) = command(tool) {
            findings.extend(run(solver, request, &settings, tool, command).await?);
        }
    }
    Ok(findings)
}

fn file_name(tool: &str) -> &str {
    tool.rsplit('/').next().unwrap_or(tool)
}

/// Copies all the tools that one folder of the PATH holds. A pattern without a match copies nothing; the copy fails if
/// the folder does not exist.
async fn copy(
    solver: &Solver,
    request: &VerifyRequest,
    place: &str,
    scratch: &Path,
    found: &Path,
) -> Result<bool, Fault> {
    let context = scratch.join("context");
    let mut dockerfile = "FROM scratch\n".to_owned();
    for (at, tool) in request.tools.iter().enumerate() {
        let path = if tool.name.starts_with('/') { tool.name.clone() } else { format!("{place}/{}", tool.name) };
        let Some(pattern) = pattern(&path) else { continue };
        let _ = writeln!(dockerfile, "COPY --from={IMAGE} {}", serde_json::json!([pattern, format!("/{at}/")]));
    }
    let mut args = over_image(&context, &dockerfile, request)?;
    argv::folder_output(&mut args, found);
    match solver.solve(&args, &silent).await {
        Ok(_) => Ok(true),
        Err(Unsolved::Failed(failure)) if artifacts::is_absent(&failure) => Ok(false),
        Err(unsolved) => Err(fault_of(unsolved)),
    }
}

/// `/usr/bin/cargo` as `/usr/bin/carg[o]`: a pattern that matches this path alone. `None` for a name that no binary
/// has.
fn pattern(path: &str) -> Option<String> {
    if path.contains(['*', '?', '[', ']', '\\', '$']) {
        return None;
    }
    let (at, last) = path.char_indices().next_back()?;
    Some(format!("{}[{last}]", &path[..at]))
}

/// Runs a probe without a shell: its words are the command. Its output is read from the step's log.
async fn run(
    solver: &Solver,
    request: &VerifyRequest,
    settings: &ImageSettings,
    tool: &Tool,
    command: String,
) -> Result<Option<Finding>, Fault> {
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches('\'')).collect();
    if command.contains(['"', '|', '&', ';', '<', '>', '$', '`', '*', '(']) {
        return Ok(Some(Finding::NeedsShell { name: tool.name.clone(), command }));
    }
    let folder = scratch()?;
    let context = folder.path().join("context");
    let dockerfile = format!("{}RUN --network=none {}\n", head(settings), serde_json::json!(words));
    let mut args = over_image(&context, &dockerfile, request)?;
    // A cached step writes no log.
    args.push("--no-cache".to_owned());
    let output = std::sync::Mutex::new(String::new());
    let listen = |event: BuildEvent| {
        if let (BuildEvent::Log { text, .. }, Ok(mut output)) = (event, output.lock()) {
            output.push_str(&text);
        }
    };
    let solved = solver.solve(&args, &listen).await;
    let output = output.into_inner().unwrap_or_default();
    match solved {
        Ok(_) => Ok(judge(tool, command, "0", &output)),
        Err(Unsolved::Failed(failure))
            if failure.vertices.iter().any(|vertex| vertex.error.contains("exit code: ")) =>
        {
            Ok(judge(tool, command, "1", &output))
        }
        Err(unsolved) => Err(fault_of(unsolved)),
    }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_pattern_matches_one_name() {
        assert_eq!(pattern("/usr/bin/cargo").as_deref(), Some("/usr/bin/carg[o]"));
        assert_eq!(pattern("/bin/[").as_deref(), None);
        assert_eq!(pattern(""), None);
    }
}

//! What is wrong with an image that was verified, and the one fault that reports all of it.

use crate::domain::model::{Fault, FaultKind};

/// One thing that is not as the layer promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The tool is not on the PATH.
    MissingTool { name: String },
    /// The tool is there, but its version is another one, or cannot be read.
    Version { name: String, wanted: String, found: Option<String> },
    /// The tool is there, but its probe failed.
    ProbeFailed { name: String, command: String, code: String, output: String },
    /// The probe needs a shell, and the image has none.
    NeedsShell { name: String, command: String },
    /// The layer's own requirement cannot be read.
    BadRequirement { name: String, what: String },
    /// The path is not in the image.
    MissingArtifact { path: String },
    /// The path cannot be copied as it is written.
    OddPath { path: String },
}

impl Finding {
    fn code(&self) -> &'static str {
        match self {
            Self::MissingTool { .. } => "lian::verify::missing_tool",
            Self::Version { .. } => "lian::verify::tool_version",
            Self::ProbeFailed { .. } | Self::NeedsShell { .. } => "lian::verify::probe_failed",
            Self::BadRequirement { .. } => "lian::verify::bad_requirement",
            Self::MissingArtifact { .. } => "lian::verify::missing_artifact",
            Self::OddPath { .. } => "lian::verify::artifact_path",
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::MissingTool { .. } => {
                "install it in the Dockerfile, see that its folder is on the image's PATH, or remove it from \
                 `tools_provided`"
            }
            Self::Version { .. } => {
                "install another version in the Dockerfile, or correct `version` in `tools_provided`"
            }
            Self::ProbeFailed { .. } => "run the probe in the Dockerfile to see why it fails, or correct `probe`",
            Self::NeedsShell { .. } => {
                "the image has no /bin/sh: write a probe of plain words, such as `tool --version`"
            }
            Self::BadRequirement { .. } => "write `version` as in Cargo, e.g. `>=1.80`",
            Self::MissingArtifact { .. } => "make the Dockerfile leave it there, or correct `artifact_paths`",
            Self::OddPath { .. } => "write absolute paths without patterns, variables or `..` in `artifact_paths`",
        }
    }

    /// Without the leading words that a list of several shares.
    fn text(&self) -> String {
        match self {
            Self::MissingTool { name } => format!("`{name}`"),
            Self::Version { name, wanted, found: Some(found) } => format!("`{name}` is {found}, not {wanted}"),
            Self::Version { name, wanted, found: None } => {
                format!("`{name}` reports no version, and {wanted} is required")
            }
            Self::ProbeFailed { name, command, code, .. } if command.starts_with(&format!("'{name}' ")) => {
                format!("`{name}{}` ends with exit code {code}", &command[name.len() + 2..])
            }
            Self::ProbeFailed { command, code, .. } => format!("`{command}` ends with exit code {code}"),
            Self::NeedsShell { name, command } => format!("`{command}` cannot probe `{name}` without a shell"),
            Self::BadRequirement { name, what } => format!("`{name}`: {what}"),
            Self::MissingArtifact { path } | Self::OddPath { path } => format!("`{path}`"),
        }
    }
}

/// One fault for all findings, of which there must be at least one. Findings of one kind stand together, in the order
/// in which the kinds first appear. The first finding determines the code and the help.
pub(super) fn fault(findings: &[Finding]) -> Fault {
    let first = &findings[0];
    let mut parts: Vec<String> = Vec::new();
    let mut codes: Vec<&str> = Vec::new();
    for finding in findings {
        if codes.contains(&finding.code()) {
            continue;
        }
        codes.push(finding.code());
        let alike: Vec<String> =
            findings.iter().filter(|other| other.code() == finding.code()).map(Finding::text).collect();
        let (lead, glue) = match finding {
            Finding::MissingTool { .. } => ("the image lacks ", ", "),
            Finding::MissingArtifact { .. } if alike.len() == 1 => ("the artifact path is not in the image: ", ", "),
            Finding::MissingArtifact { .. } => ("artifact paths are not in the image: ", ", "),
            Finding::OddPath { .. } => ("not a plain absolute path: ", ", "),
            _ => ("", "; "),
        };
        parts.push(format!("{lead}{}", alike.join(glue)));
    }
    let mut fault = Fault::new(FaultKind::Verification, first.code(), parts.join("; ")).help(first.help());
    fault.log_tail = findings.iter().find_map(probe_output).unwrap_or_default();
    fault
}

/// The last lines of a failed probe's output.
fn probe_output(finding: &Finding) -> Option<Vec<String>> {
    let Finding::ProbeFailed { output, .. } = finding else { return None };
    let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    Some(lines[lines.len().saturating_sub(12)..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_names_all_that_is_missing() {
        let fault = fault(&[
            Finding::MissingTool { name: "cargo".into() },
            Finding::Version { name: "sccache".into(), wanted: ">=0.8".into(), found: Some("0.7.1".into()) },
            Finding::MissingTool { name: "rustc".into() },
            Finding::MissingArtifact { path: "/usr/bin/app".into() },
            Finding::ProbeFailed {
                name: "nu".into(),
                command: "'nu' --version".into(),
                code: "1".into(),
                output: "broken\n".into(),
            },
        ]);
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Verification, "lian::verify::missing_tool"));
        assert_eq!(
            fault.message,
            "the image lacks `cargo`, `rustc`; `sccache` is 0.7.1, not >=0.8; the artifact path is not in the image: \
             `/usr/bin/app`; `nu --version` ends with exit code 1"
        );
        assert_eq!(fault.log_tail, ["broken"]);
        assert!(fault.help.is_some());
    }
}

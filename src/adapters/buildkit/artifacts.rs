//! Builds the artifacts image, which holds a layer's `artifact_paths` at their places and nothing else. If a path is
//! missing, all missing paths are reported. Not responsible for: promoting the image.

use std::fmt::Write as _;

use super::argv;
use super::classify::Failure;
use super::finding::Finding;
use super::own_build::{IMAGE, over_image};
use super::scratch::scratch;
use super::solve::{Solver, Unsolved, digest_in, fault_of, silent};
use crate::domain::base::Digest;
use crate::domain::model::Fault;
use crate::domain::ports::VerifyRequest;

/// How many paths are searched at the same time after the image could not be built.
const WIDTH: usize = 8;

/// The artifacts image, or what is wrong with the paths.
pub(super) async fn build(solver: &Solver, request: &VerifyRequest) -> Result<Result<Digest, Vec<Finding>>, Fault> {
    let odd: Vec<_> = request.artifact_paths.iter().filter(|path| !is_plain(path)).collect();
    if !odd.is_empty() {
        return Ok(Err(odd.into_iter().map(|path| Finding::OddPath { path: path.clone() }).collect()));
    }
    let folder = scratch()?;
    let metadata = folder.path().join("metadata.json");
    let text = dockerfile(&request.artifact_paths);
    let mut args = over_image(folder.path(), &text, request)?;
    for (name, value) in &request.labels {
        argv::opt(&mut args, &format!("label:{name}"), value);
    }
    argv::image_output(&mut args, &request.staging, request.push_artifacts.as_ref(), &metadata);
    match solver.solve(&args, &silent).await {
        Ok(_) => digest_in(&metadata).map(Ok),
        Err(Unsolved::Failed(failure)) if is_absent(&failure) => missing(solver, request).await.map(Err),
        Err(unsolved) => Err(fault_of(unsolved)),
    }
}

/// Whether a copy failed because its source does not exist.
pub(super) fn is_absent(failure: &Failure) -> bool {
    let says = |error: &str| {
        error.contains("no such file or directory") && error.contains("stat ") || error.ends_with(": not found")
    };
    failure.vertices.iter().any(|vertex| says(&vertex.error))
}

/// Whether the path is absolute and normal, and holds nothing that COPY would read as a pattern or a variable.
fn is_plain(path: &str) -> bool {
    let normal = path.trim_end_matches('/').split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    path.len() > 1 && path.starts_with('/') && normal && !path.contains(['*', '?', '[', ']', '\\', '$', '"', '\n'])
}

fn dockerfile(paths: &[String]) -> String {
    let mut text = "FROM scratch\n".to_owned();
    for path in paths {
        // Without a trailing slash, COPY copies a file as a file and a folder as a whole folder.
        let path = path.trim_end_matches('/');
        let _ = writeln!(text, "COPY --from={IMAGE} {}", serde_json::json!([path, path]));
    }
    text
}

/// Searches each path by itself, because a failed copy names only the first missing one.
async fn missing(solver: &Solver, request: &VerifyRequest) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    for chunk in request.artifact_paths.chunks(WIDTH) {
        let mut looking = tokio::task::JoinSet::new();
        for (at, path) in chunk.iter().enumerate() {
            let (solver, request, path) = (solver.clone(), request.clone(), path.clone());
            looking.spawn(async move { (at, exists(&solver, &request, &path).await, path) });
        }
        let mut found = looking.join_all().await;
        found.sort_by_key(|(at, ..)| *at);
        for (_, exists, path) in found {
            if !exists? {
                findings.push(Finding::MissingArtifact { path });
            }
        }
    }
    Ok(findings)
}

async fn exists(solver: &Solver, request: &VerifyRequest, path: &str) -> Result<bool, Fault> {
    let folder = scratch()?;
    let text = dockerfile(&[path.to_owned()]);
    let args = over_image(folder.path(), &text, request)?;
    match solver.solve(&args, &silent).await {
        Ok(_) => Ok(true),
        Err(Unsolved::Failed(failure)) if is_absent(&failure) => Ok(false),
        Err(unsolved) => Err(fault_of(unsolved)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_each_path_to_its_own_place() {
        let text = dockerfile(&["/usr/local/bin/app".into(), "/usr/share/app/".into()]);
        assert_eq!(
            text,
            "FROM scratch\nCOPY --from=lian-build-image [\"/usr/local/bin/app\",\"/usr/local/bin/app\"]\n\
             COPY --from=lian-build-image [\"/usr/share/app\",\"/usr/share/app\"]\n"
        );
    }

    #[test]
    fn refuses_what_a_copy_would_read_otherwise() {
        assert!(is_plain("/usr/include/c++/14") && is_plain("/opt/a b/"));
        for path in ["", "/", "usr/bin/x", "/a/../b", "/a//b", "/a/*", "/a/$X", "/a/[b]", "/a\n"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}

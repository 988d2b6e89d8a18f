//! Builds of lian-build's own over one image, to look into it or to copy from it. Not responsible for: running them.

use std::path::Path;

use super::argv;
use super::image::{self, LookedUp};
use super::policy::{FILE, policy};
use super::scratch::unwritten;
use crate::domain::model::Fault;
use crate::domain::ports::{NamedContext, VerifyRequest};

/// The image's name in these Dockerfiles. No trigger may mean it by chance: BuildKit looks up what triggers copy from.
pub(super) const IMAGE: &str = "lian-build-image";
/// The name of the stage that probes it.
pub(super) const PROBE: &str = "lian-build-probe";
/// BuildKit refuses a Dockerfile with far fewer stages, so a trigger that counts further is never run.
const STAGES: usize = 256;

/// Writes this Dockerfile, which uses the image as [`IMAGE`], into `folder`, which is also the context and is created if
/// it does not exist. Returns buildctl's arguments. Empty images and stages stand in for what the image's triggers
/// name: they are not run here, and BuildKit looks them up all the same.
pub(super) fn over_image(folder: &Path, dockerfile: &str, request: &VerifyRequest) -> Result<Vec<String>, Fault> {
    let LookedUp { images, stages } = image::settings(request).looked_up();
    let contexts = [NamedContext { name: IMAGE.to_owned(), source: request.image.clone() }];
    let dockerfile = format!("{}{dockerfile}", "FROM scratch\n".repeat(stages.min(STAGES)));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("Dockerfile"), dockerfile))
        .and_then(|()| std::fs::write(folder.join(FILE), policy(&contexts, None)))
        .map_err(|error| unwritten(folder, &error))?;
    let mut args = argv::over_image(folder, &request.platforms, &contexts);
    argv::stand_ins(&mut args, images.iter().filter(|name| ![IMAGE, PROBE].contains(&name.as_str())));
    Ok(args)
}

//! Builds of lian-build's own over one image, to look into it or to copy from it. Not responsible for: running them.

use std::path::Path;

use super::argv;
use super::policy::{FILE, policy};
use super::scratch::unwritten;
use crate::domain::base::Platforms;
use crate::domain::model::Fault;
use crate::domain::ports::{ImageSource, NamedContext};

/// Writes this Dockerfile, which uses the image as `img`, into `folder`, which is also the context and is created if it
/// does not exist. Returns buildctl's arguments.
pub(super) fn over_image(
    folder: &Path,
    dockerfile: &str,
    platforms: &Platforms,
    image: &ImageSource,
) -> Result<Vec<String>, Fault> {
    let contexts = [NamedContext { name: "img".to_owned(), source: image.clone() }];
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("Dockerfile"), dockerfile))
        .and_then(|()| std::fs::write(folder.join(FILE), policy(&contexts, None)))
        .map_err(|error| unwritten(folder, &error))?;
    Ok(argv::over_image(folder, platforms, &contexts))
}

//! Image references as Docker reads them. Not responsible for: asking a registry.

use std::fmt;
use std::str::FromStr;

use crate::domain::base::Digest;

/// An image reference, normalised as Docker does: `debian` is `docker.io/library/debian:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Host and port; `docker.io` if the text names none.
    pub registry: String,
    /// The repository; official images of Docker Hub begin with `library/`.
    pub repository: String,
    /// The tag; `latest` if the text has neither a tag nor a digest.
    pub tag: Option<String>,
    /// The digest, as written.
    pub digest: Option<String>,
}

/// The text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image reference")]
pub struct ImageRefError(pub String);

impl ImageRef {
    /// The form that people use: without `docker.io`, `library/`, `:latest` and the digest.
    pub fn familiar(&self) -> String {
        match self.tag.as_deref().filter(|tag| *tag != "latest") {
            Some(tag) => format!("{}:{tag}", self.familiar_name()),
            None => self.familiar_name(),
        }
    }

    /// The name of BuildKit's named context that replaces it: the familiar form, which keeps the tag `latest` only
    /// beside a digest.
    pub fn context_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (None, _) => self.familiar(),
            (Some(digest), None) => format!("{}@{digest}", self.familiar_name()),
            (Some(digest), Some(tag)) => format!("{}:{tag}@{digest}", self.familiar_name()),
        }
    }

    fn familiar_name(&self) -> String {
        match (self.registry.as_str(), self.repository.strip_prefix("library/")) {
            ("docker.io", Some(official)) => official.to_owned(),
            ("docker.io", None) => self.repository.clone(),
            (registry, _) => format!("{registry}/{}", self.repository),
        }
    }

    /// The name and tag without the digest. A missing tag becomes `latest`, even beside a digest.
    pub fn tagged(&self) -> (String, &str) {
        (self.name(), self.tag.as_deref().unwrap_or("latest"))
    }

    /// Whether both may name one image: one name and tag, and no two digests. With one digest in both, the tag says
    /// nothing more, and either may leave it out.
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (&self.digest, &other.digest) {
            (Some(own), Some(others)) if own != others => false,
            (Some(_), Some(_)) if self.tag.is_none() || other.tag.is_none() => self.name() == other.name(),
            _ => self.tagged() == other.tagged(),
        }
    }

    /// The whole name without the digest: the key in `lian.lock`.
    pub fn normalised(&self) -> String {
        let mut text = format!("{}/{}", self.registry, self.repository);
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        text
    }

    /// Registry and repository, without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let bad = || ImageRefError(text.to_owned());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].rfind(':') {
            Some(colon) => (&rest[..slash + colon], Some(rest[slash + colon + 1..].to_owned())),
            None => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || host != host.to_lowercase() => {
                (host.to_owned(), path.to_owned())
            }
            _ => ("docker.io".to_owned(), name.to_owned()),
        };
        if !is_host(&registry) {
            return Err(bad());
        }
        let registry = if registry == "index.docker.io" { "docker.io".to_owned() } else { registry };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let part = |part: &str| {
            let word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            // Between two words: a dot, one or two underscores, or any number of hyphens.
            let joint = |joint: &str| ["", ".", "_", "__"].contains(&joint) || joint.chars().all(|c| c == '-');
            edge(part.chars().next())
                && edge(part.chars().last())
                && part.split(|c| ".-_".contains(c)).all(word)
                && part.split(|c| !".-_".contains(c)).all(joint)
        };
        let tag_ok = |tag: &String| {
            !tag.is_empty()
                && tag.len() <= 128
                && !tag.starts_with(['.', '-'])
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let digest_ok = digest.as_ref().is_none_or(|digest| digest.parse::<Digest>().is_ok());
        if !repository.split('/').all(part) || !tag.iter().all(tag_ok) || !digest_ok {
            return Err(bad());
        }
        let tag = match (&tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            _ => tag,
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// Whether a registry's host may be written so: a domain or an IPv6 address, and perhaps a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rfind(':').filter(|at| !text[*at..].contains(']')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let address = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let sound = match address {
        Some(address) => !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
        None => host.split('.').all(part),
    };
    sound && port.is_none_or(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normalised())?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ImageRef;

    fn parse(text: &str) -> ImageRef {
        text.parse().expect("a reference")
    }

    #[test]
    fn normalises_like_docker() {
        assert_eq!(parse("debian").normalised(), "docker.io/library/debian:latest");
        assert_eq!(parse("debian").familiar(), "debian");
        assert_eq!(parse("docker.io/library/debian:trixie-slim").familiar(), "debian:trixie-slim");
        assert_eq!(parse("lamina/rust").normalised(), "docker.io/lamina/rust:latest");
        assert_eq!(parse("lamina/rust:latest").familiar(), "lamina/rust");
        assert_eq!(parse("localhost:5000/a/b:c").name(), "localhost:5000/a/b");
        let pinned = parse(&format!("ghcr.io/x/y@sha256:{}", "0".repeat(64)));
        assert_eq!((pinned.tag, pinned.registry.as_str()), (None, "ghcr.io"));
    }

    #[test]
    fn refuses_nonsense() {
        for text in ["", "UPPER", "a//b", "a:", "a b", "-a", "$BASE", "a@b", "a@sha256:0123", "a@md5:0123456789abcdef"]
        {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}

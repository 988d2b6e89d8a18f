//! The name of an image that is to be built, as people write it. Not responsible for: images that are read.

/// The image's destination and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetImage {
    /// `host[:port]`, if the reference has one.
    pub registry: Option<String>,
    /// The parts before the last one.
    pub namespace: String,
    /// The last part.
    pub name: String,
    /// The tag, if it is not `latest`.
    pub tag: Option<String>,
}

impl TargetImage {
    /// `namespace/name`, without registry and tag.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// `[registry/]namespace/name[:tag]`. As usual, the first part is a registry if it has a dot or a port.
pub fn parse(text: &str) -> Result<TargetImage, &'static str> {
    if text.contains('@') {
        return Err("it has a digest, which only the build can know");
    }
    let (registry, rest) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first.to_owned()), rest),
        _ => (None, text),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.chars().all(sound) {
            return Err("the tag is invalid");
        }
        // The build itself moves these tags.
        if tag.starts_with("key-") {
            return Err("a tag that begins with `key-` is a layer key's");
        }
    }
    let Some((namespace, name)) = path.rsplit_once('/') else { return Err("it has no namespace") };
    let plain = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    if !plain(name) || !namespace.split('/').all(plain) {
        return Err("a part of it is not lower case letters and digits, joined by `.`, `_` or `-`");
    }
    let tag = tag.filter(|tag| *tag != "latest").map(str::to_owned);
    Ok(TargetImage { registry, namespace: namespace.to_owned(), name: name.to_owned(), tag })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_whole_reference() {
        let parts = |text| {
            parse(text).map(|target| (target.registry.unwrap_or_default(), target.namespace, target.name, target.tag))
        };
        let of = |registry: &str, namespace: &str, name: &str, tag: Option<&str>| {
            Ok((registry.to_owned(), namespace.to_owned(), name.to_owned(), tag.map(str::to_owned)))
        };
        assert_eq!(parts("acme/api"), of("", "acme", "api", None));
        assert_eq!(parts("acme/api:v1.2"), of("", "acme", "api", Some("v1.2")));
        assert_eq!(parts("registry.example:5000/team/app"), of("registry.example:5000", "team", "app", None));
        assert_eq!(parts("ghcr.io/a/b/c:x"), of("ghcr.io", "a/b", "c", Some("x")));
        assert_eq!(parts("localhost/a/b:latest"), of("localhost", "a", "b", None));
        for wrong in
            ["api", "UPPER/x", "a//b", "host:5000/app", "a/b@sha256:00", "a/b:", "a/b:-x", "a/b:key-1", "", ":v"]
        {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}

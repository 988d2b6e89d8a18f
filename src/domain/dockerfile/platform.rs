//! Platforms as `FROM --platform=` may write them. Not responsible for: which platforms a machine can build.

use crate::domain::base::Platform;

const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// The platform that a text names: system and architecture, or one of both. The error says why it names none.
pub(super) fn parse(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let bad = || format!("`{text}` is not a platform");
    let (system, version) = match parts[0].split_once('(') {
        Some((system, version)) => (system, Some(version.strip_suffix(')').ok_or_else(bad)?)),
        None => (parts[0], None),
    };
    let all = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let sound = !system.is_empty()
        && all(system, "_-")
        && version.is_none_or(|version| {
            // A version, and features behind a `+` each.
            let mut parts = version.split('+');
            let first = parts.next().unwrap_or_default();
            let part = |part: &str| all(part, "_.%-") && is_escaped(part);
            part(first) && parts.all(|feature| !feature.is_empty() && part(feature))
        })
        && parts[1..].iter().all(|part| !part.is_empty() && all(part, "_.-"));
    if !sound {
        return Err(bad());
    }
    let name = Platform::new(system).normalised();
    match parts.as_slice() {
        [_] if SYSTEMS.contains(&name.as_str()) => Ok(name),
        [alone] => {
            let platform = Platform::of("linux", alone, "").normalised();
            match ARCHITECTURES.contains(&platform.architecture()) {
                true => Ok(platform),
                false => Err(format!("`{text}` is neither a system nor an architecture")),
            }
        }
        [_, architecture] => Ok(Platform::of(name.as_str(), architecture, "").normalised()),
        [_, architecture, variant] => Ok(Platform::of(name.as_str(), architecture, variant).normalised()),
        _ => Err(bad()),
    }
}

/// Whether a text is what a URL may hold: each `%` stands before two hexadecimal digits.
fn is_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_buildkit_reads() {
        let read =
            |text: &str| parse(text).map(|platform| platform.to_string()).unwrap_or_else(|what| format!("! {what}"));
        for (text, wanted) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
            ("linux", "linux"),
            ("beos", "! `beos` is neither a system nor an architecture"),
            ("linux/*", "! `linux/*` is not a platform"),
            ("a/b/c/d", "! `a/b/c/d` is not a platform"),
            ("linux/", "! `linux/` is not a platform"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }
}

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
        && version.is_none_or(|version| all(version, "_.%-+"))
        && parts[1..].iter().all(|part| !part.is_empty() && all(part, "_.-"));
    if !sound {
        return Err(bad());
    }
    let name = match system.to_ascii_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        name => name.to_owned(),
    };
    match parts.as_slice() {
        [_] if SYSTEMS.contains(&name.as_str()) => Ok(Platform::new(&name)),
        [alone] => {
            let (architecture, variant) = normalised(alone, "");
            match ARCHITECTURES.contains(&architecture.as_str()) {
                true => Ok(Platform::of("linux", &architecture, &variant)),
                false => Err(format!("`{text}` is neither a system nor an architecture")),
            }
        }
        [_, architecture] => {
            let (architecture, variant) = normalised(architecture, "");
            Ok(Platform::of(&name, &architecture, &variant))
        }
        [_, architecture, variant] => {
            let (architecture, variant) = normalised(architecture, variant);
            Ok(Platform::of(&name, &architecture, &variant))
        }
        _ => Err(bad()),
    }
}

fn normalised(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
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

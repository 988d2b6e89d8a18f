//! Values that BuildKit checks before it builds: signals, modes, ports, addresses. Not responsible for: replacing
//! variables in them.

use super::go;

/// `STOPSIGNAL`'s value.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = go::upper(text);
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let counted = |prefix, last| {
        let number = name.strip_prefix(prefix)?.parse::<u32>().ok()?;
        Some((1..=last).contains(&number) && name.ends_with(&format!("{prefix}{number}")))
    };
    NAMES.contains(&name) || counted("RTMIN+", 15) == Some(true) || counted("RTMAX-", 14) == Some(true)
}

/// `--chmod=`: an octal number, or symbols as `chmod` takes them.
pub(super) fn is_mode(text: &str) -> bool {
    if !text.starts_with('+')
        && let Ok(number) = u32::from_str_radix(text, 8)
    {
        return number <= 0o7777;
    }
    !text.starts_with(|c: char| c.is_ascii_digit()) && text.split(',').all(is_clause)
}

fn is_clause(clause: &str) -> bool {
    let operations = clause.trim_start_matches(['a', 'u', 'g', 'o']);
    let mut parts = operations.split(['+', '-', '=']);
    let first = parts.next() == Some("");
    let mut any = false;
    let sound = parts.all(|permissions| {
        any = true;
        permissions.chars().all(|c| "rwxXstugo".contains(c))
    });
    first && any && sound
}

/// One port of `EXPOSE`: `[ip:[port]:]port[-port][/protocol]`.
pub(super) fn is_port(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let (ip, host, container) = match parts.as_slice() {
        [port] => (String::new(), "", *port),
        [host, port] => (String::new(), *host, *port),
        [ip @ .., host, port] => (ip.join(":"), *host, *port),
        [] => return false,
    };
    let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
    if !["", "tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str()) {
        return false;
    }
    let ip = match ip.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) if !inner.contains(['[', ']']) => inner.to_owned(),
            _ => return false,
        },
        None => ip,
    };
    if !ip.is_empty() && ip.parse::<core::net::IpAddr>().is_err() {
        return false;
    }
    let Some((start, end)) = range(container) else { return false };
    match (host, range(host)) {
        ("", _) => true,
        (_, Some((from, to))) => end - start == to - from || end == start,
        (_, None) => false,
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let one = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        None => one(text).map(|port| (port, port)),
        Some((start, end)) if start == end => one(start).map(|port| (port, port)),
        Some((start, end)) => Some((one(start)?, one(end)?)).filter(|(start, end)| start <= end),
    }
}

/// Whether a source is downloaded.
pub(super) fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Whether a source is a git repository, and not a path that only looks like one.
pub(super) fn is_git(text: &str) -> bool {
    let address = text.split(['#', '?']).next().unwrap_or_default();
    if let Some((scheme, rest)) = address.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => true,
            "http" | "https" => rest.split_once('/').is_some_and(|(_, path)| path.ends_with(".git")),
            _ => false,
        };
    }
    // `user@host:path`.
    let Some((user, rest)) = address.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    word(user) && word(host) && !path.is_empty()
}

/// Whether the settings behind a git repository's `?` are settings.
pub(super) fn is_git_query(text: &str) -> bool {
    let address = text.split('#').next().unwrap_or_default();
    let Some((_, query)) = address.split_once('?') else { return true };
    let mut seen = Vec::new();
    query.split('&').filter(|pair| !pair.is_empty()).all(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let first = !seen.contains(&key);
        seen.push(key);
        first
            && match key {
                "ref" | "tag" | "branch" | "subdir" | "checksum" | "commit" => !value.is_empty(),
                "keep-git-dir" | "submodules" | "fetch-by-commit" => {
                    value.is_empty() || go::parse_bool(value).is_some()
                }
                "mtime" => ["checkout", "commit"].contains(&value),
                _ => false,
            }
    })
}

/// A digest of a download.
pub(super) fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    digits.len() == length && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether an absolute path is `/`, its `.` and `..` resolved.
pub(super) fn is_root(path: &str) -> bool {
    let mut depth = 0u32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_buildkit_takes() {
        for (text, sound) in [
            ("SIGTERM", true),
            ("quit", true),
            ("9", true),
            ("0", false),
            ("RTMIN+3", true),
            ("RTMIN+16", false),
            ("X", false),
        ] {
            assert_eq!(is_signal(text), sound, "{text}");
        }
        for (text, sound) in [
            ("0755", true),
            ("7777", true),
            ("17777", false),
            ("u+x,go-w", true),
            ("a=rX", true),
            ("8", false),
            ("rwx", false),
            ("u+q", false),
        ] {
            assert_eq!(is_mode(text), sound, "{text}");
        }
        for (text, sound) in [
            ("80", true),
            ("80/TCP", true),
            ("8000-9000/udp", true),
            ("9000-8000", false),
            ("80/http", false),
            ("", false),
            ("127.0.0.1::80", true),
            ("[::1]:80:80", true),
            ("x:80:80", false),
            ("70000", false),
            ("1-2:3-5", false),
        ] {
            assert_eq!(is_port(text), sound, "{text}");
        }
        assert!(is_git("https://example.org/a.git#main") && is_git("git@example.org:a/b") && !is_git("a@b"));
        assert!(is_root("/a/..") && is_root("/") && !is_root("/a") && !is_root("a"));
    }
}

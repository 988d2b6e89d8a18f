//! Reads the values of `RUN --mount=`. Mounts that name neither an image, a secret nor an ssh socket are skipped.

/// What a mount asks for, with the offset of its name in the flag's value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mount {
    /// `from=`: a stage or an image.
    From(String, usize),
    /// The id of a secret.
    Secret(String, usize),
    /// The id of an ssh socket.
    Ssh(String, usize),
}

/// Reads `type=secret,id=x,…`. Ids with variables are skipped: their value may differ from step to step.
pub(super) fn read(value: &str) -> Option<Mount> {
    let mut kind = "bind".to_owned();
    let (mut from, mut id, mut source, mut target) = (None, None, None, None);
    let mut offset = 0;
    for field in value.split(',') {
        let at = offset;
        offset += field.len() + 1;
        let Some((key, text)) = field.split_once('=') else { continue };
        let found = Some((text.to_owned(), at + key.len() + 1)).filter(|(text, _)| !text.is_empty());
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => kind = text.to_ascii_lowercase(),
            "from" => from = found,
            "id" => id = found,
            "source" | "src" => source = found,
            "target" | "dst" | "destination" => target = found,
            _ => {}
        }
    }
    let literal = |(text, at): (String, usize)| (!text.contains('$')).then_some((text, at));
    match kind.as_str() {
        "secret" => {
            let base = |(text, at): (String, usize)| {
                let text = text.trim_end_matches('/');
                let start = text.rfind('/').map_or(0, |slash| slash + 1);
                (text[start..].to_owned(), at + start)
            };
            let (text, at) = literal(source.or(id).or_else(|| target.map(base))?)?;
            Some(Mount::Secret(text, at))
        }
        "ssh" => {
            let (text, at) = literal(id.unwrap_or_else(|| ("default".to_owned(), 0)))?;
            Some(Mount::Ssh(text, at))
        }
        _ => from.map(|(text, at)| Mount::From(text, at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_buildkit_reads() {
        let cases = [
            ("type=bind,from=lamina/rust,source=/a,target=/b", Some(Mount::From("lamina/rust".into(), 15))),
            ("from=x,target=/b", Some(Mount::From("x".into(), 5))),
            ("type=cache,target=/root/.cargo", None),
            ("type=secret,id=creds,target=/run/x", Some(Mount::Secret("creds".into(), 15))),
            ("type=secret,target=/run/secrets/token", Some(Mount::Secret("token".into(), 32))),
            ("type=secret,id=$WHICH", None),
            ("type=ssh", Some(Mount::Ssh("default".into(), 0))),
            ("type=ssh,id=hub", Some(Mount::Ssh("hub".into(), 12))),
            ("type=tmpfs,target=/tmp", None),
        ];
        for (value, wanted) in cases {
            assert_eq!(read(value), wanted, "{value}");
        }
    }
}

//! Reads the values of `RUN --mount=`: first what holds whatever is built, then with variables replaced. Not responsible
//! for: which stage or image a name means.

use super::word::{MountId, Word};
use super::{go, values};
use crate::domain::base::{Span, nearest};

/// A mount as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The whole value.
    pub word: Word,
    /// Its fields, in order.
    pub(super) fields: Vec<Word>,
    /// `from=`: a stage or an image.
    pub from: Option<Word>,
}

/// What a mount asks for, its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mount {
    /// Files of the context, a stage, an image or a cache. Whether the target is `/`; `None`: the working folder says.
    Files { at_root: Option<bool> },
    /// A secret.
    Secret(MountId),
    /// An ssh socket.
    Ssh(MountId),
}

/// A fault of a mount, and the next action.
pub(super) type Refused = (String, String);

const TYPES: [&str; 5] = ["bind", "cache", "secret", "ssh", "tmpfs"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountFlag {
    /// Cuts a flag's value, whose place in the file is `span`, into its fields.
    pub(super) fn read(text: &str, span: Span) -> Result<Self, Refused> {
        let exact = text.len() == span.end - span.start;
        let cut = fields(text).ok_or_else(|| {
            (
                format!("`{text}` is not a list of `key=value`"),
                "put a comma between two, and no quotes into them".to_owned(),
            )
        })?;
        let place = |(text, at): (String, Option<usize>)| {
            let start = at.filter(|_| exact).map(|at| span.start + at);
            let span = start.map_or(span, |start| Span::new(start, start + text.len()));
            Word { text, span }
        };
        let fields: Vec<Word> = cut.into_iter().map(place).collect();
        let mut from = None;
        for field in &fields {
            let Some((key, value)) = field.text.split_once('=').filter(|(key, _)| go::lower(key) == "from") else {
                continue;
            };
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err((
                    format!("BuildKit replaces no variables in `{value}`"),
                    format!("name it with a stage: `FROM {value} AS name`, then `from=name`"),
                ));
            }
            from = Some(part(field, key.len() + 1)).filter(|word| !word.text.is_empty());
        }
        Ok(Self { word: Word { text: text.to_owned(), span }, fields, from })
    }

    /// The flag with all its words at one place.
    pub(super) fn moved(mut self, place: Span) -> Self {
        let words = self.fields.iter_mut().chain(&mut self.from).chain([&mut self.word]);
        words.for_each(|word| word.span = place);
        self
    }

    /// Reads the fields, each value through `expand`. `None`: a value is not known here. The error says what BuildKit
    /// refuses.
    pub(super) fn mount(
        &self,
        mut expand: impl FnMut(&str) -> Result<Option<String>, String>,
    ) -> Result<Option<Mount>, Refused> {
        let mut read = Read { kind: "bind".to_owned(), ..Read::default() };
        for field in &self.fields {
            match field.text.split_once('=') {
                None => read.switch(field)?,
                Some((key, value)) => {
                    let plain = |what| (what, "correct what is marked".to_owned());
                    let Some(value) = expand(value).map_err(plain)? else { return Ok(None) };
                    let exact = field.text.ends_with(&value) && field.text.len() == field.span.end - field.span.start;
                    let word = match exact {
                        true => part(field, field.text.len() - value.len()),
                        false => Word { text: value, span: field.span },
                    };
                    read.pair(&go::lower(key), word, &field.text)?;
                }
            }
        }
        read.finish(&self.word).map(Some)
    }
}

/// The text from `at` on, with its own place if the field has its own.
fn part(field: &Word, at: usize) -> Word {
    let text = field.text[at..].to_owned();
    let exact = field.text.len() == field.span.end - field.span.start;
    let span = if exact && !text.is_empty() { Span::new(field.span.start + at, field.span.end) } else { field.span };
    Word { text, span }
}

/// The fields of one line of CSV, each with its offset if it is not quoted.
fn fields(line: &str) -> Option<Vec<(String, Option<usize>)>> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return None;
    }
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = &line[at..];
        let Some(quoted) = rest.strip_prefix('"') else {
            let length = rest.find(',').unwrap_or(rest.len());
            if rest[..length].contains('"') {
                return None;
            }
            found.push((rest[..length].to_owned(), Some(at)));
            if length == rest.len() {
                return Some(found);
            }
            at += length + 1;
            continue;
        };
        let mut text = String::new();
        let mut behind = quoted;
        loop {
            let (inside, after) = behind.split_once('"')?;
            text.push_str(inside);
            behind = after;
            match behind.strip_prefix('"') {
                Some(after) => {
                    text.push('"');
                    behind = after;
                }
                None => break,
            }
        }
        found.push((text, None));
        if behind.is_empty() {
            return Some(found);
        }
        at = line.len() - behind.strip_prefix(',')?.len();
    }
}

/// What has been read of a mount.
#[derive(Default)]
struct Read {
    kind: String,
    from: bool,
    source: Option<Word>,
    target: Option<Word>,
    id: Option<Word>,
    sharing: bool,
    required: bool,
    owned: Option<&'static str>,
}

impl Read {
    fn switch(&mut self, field: &Word) -> Result<(), Refused> {
        match go::lower(&field.text).as_str() {
            "readonly" | "ro" | "readwrite" | "rw" => Ok(()),
            "required" => {
                self.required = true;
                self.may_be_required()
            }
            _ => Err((format!("`{}` has no value", field.text), "write `key=value`".to_owned())),
        }
    }

    fn may_be_required(&self) -> Result<(), Refused> {
        self.only(&["secret", "ssh"], "required")
    }

    fn only(&self, kinds: &[&str], key: &str) -> Result<(), Refused> {
        if kinds.contains(&self.kind.as_str()) {
            return Ok(());
        }
        let help = format!("write `type={}` before it, or remove it", kinds.join("` or `type="));
        Err((format!("a mount of type `{}` knows no `{key}`", self.kind), help))
    }

    fn pair(&mut self, key: &str, value: Word, written: &str) -> Result<(), Refused> {
        let unsound = |help: &str| Err((format!("`{}` is not a value of `{key}`", value.text), help.to_owned()));
        let number = |base| u32::from_str_radix(&value.text, base).is_ok() && !value.text.starts_with('+');
        match key {
            "type" => {
                let kind = go::lower(&value.text);
                if !TYPES.contains(&kind.as_str()) {
                    let help = match nearest(&kind, TYPES) {
                        Some(meant) => format!("did you mean `type={meant}`?"),
                        None => format!("the types are `{}`", TYPES.join("`, `")),
                    };
                    return Err((format!("`{}` is not a type of mount", value.text), help));
                }
                self.kind = kind;
            }
            "from" => self.from = !value.text.is_empty(),
            "source" | "src" => self.source = Some(value).filter(|word| !word.text.is_empty()),
            "target" | "dst" | "destination" => self.target = Some(value).filter(|word| !word.text.is_empty()),
            "id" => self.id = Some(value).filter(|word| !word.text.is_empty()),
            "readonly" | "ro" | "readwrite" | "rw" if go::parse_bool(&value.text).is_some() => {}
            "readonly" | "ro" | "readwrite" | "rw" => return unsound("write `true` or `false`"),
            "required" => {
                self.may_be_required()?;
                match go::parse_bool(&value.text) {
                    Some(required) => self.required = required,
                    None => return unsound("write `true` or `false`"),
                }
            }
            "size" => {
                self.only(&["tmpfs"], key)?;
                if !is_size(&value.text) {
                    return unsound("write a number of bytes, or one with a unit: `64m`");
                }
            }
            "sharing" => {
                let sharing = go::lower(&value.text);
                if !["shared", "private", "locked"].contains(&sharing.as_str()) {
                    return unsound("write `shared`, `private` or `locked`");
                }
                self.sharing = true;
            }
            "mode" if number(8) => self.owned = self.owned.or(Some("mode")),
            "uid" if number(10) => self.owned = self.owned.or(Some("uid")),
            "gid" if number(10) => self.owned = self.owned.or(Some("gid")),
            "mode" => return unsound("write an octal number, such as `0400`"),
            "uid" | "gid" => return unsound("write a number"),
            "env" => {}
            _ => {
                let help = match nearest(key, KEYS) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the keys are `{}`", KEYS.join("`, `")),
                };
                return Err((format!("a mount knows no `{key}` (in `{written}`)"), help));
            }
        }
        Ok(())
    }

    fn finish(self, word: &Word) -> Result<Mount, Refused> {
        if let Some(key) = self.owned {
            self.only(&["secret", "ssh", "cache"], key)?;
        }
        let out = |what: &str| Err((what.to_owned(), "take it out".to_owned()));
        if self.sharing && self.kind != "cache" {
            return out("only a mount of type `cache` has a `sharing`");
        }
        match self.kind.as_str() {
            "secret" if self.from => out("a secret has no `from`"),
            "secret" if self.source.is_some() && self.id.is_some() => {
                out("a secret has an `id` or a `source`, not both")
            }
            "secret" => {
                let base = |word: Word| {
                    let text = word.text.trim_end_matches('/');
                    let start = text.rfind('/').map_or(0, |slash| slash + 1);
                    let exact = word.text.len() == word.span.end - word.span.start;
                    let at = word.span.start;
                    let span = if exact { Span::new(at + start, at + text.len()) } else { word.span };
                    match text[start..].is_empty() {
                        true => Word { text: "/".to_owned(), span: word.span },
                        false => Word { text: text[start..].to_owned(), span },
                    }
                };
                match self.source.or(self.id).or_else(|| self.target.map(base)) {
                    Some(word) => Ok(Mount::Secret(MountId { word, required: self.required })),
                    None => Err(("a secret without an id".to_owned(), "write `type=secret,id=…`".to_owned())),
                }
            }
            "ssh" if self.source.is_some() => out("an ssh mount has no `source`"),
            "ssh" => {
                let word = self.id.unwrap_or(Word { text: "default".to_owned(), span: word.span });
                Ok(Mount::Ssh(MountId { word, required: self.required }))
            }
            _ => Ok(Mount::Files { at_root: self.target.and_then(|target| at_root(&target.text)) }),
        }
    }
}

/// Whether a target is `/`; `None` where the working folder says.
fn at_root(target: &str) -> Option<bool> {
    match target.starts_with('/') {
        // BuildKit resolves no `..` in an absolute path.
        true => Some(target == "/"),
        // A path that leads below the working folder is never `/`; one with `..` may be.
        false if values::is_root(&format!("/{target}")) => None,
        false => Some(false),
    }
}

/// A number of bytes as `units.RAMInBytes` reads it: `64m`, `1.5 GiB`.
fn is_size(text: &str) -> bool {
    let Some(end) = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ') else { return false };
    let (number, unit) = match text[end..].strip_prefix(' ') {
        Some(unit) => (&text[..end], unit),
        None => text.split_at(end + 1),
    };
    let unit = unit.to_ascii_lowercase();
    let sound = match unit.as_bytes() {
        [] | [b'b'] => true,
        [first, rest @ ..] => b"kmgtp".contains(first) && matches!(rest, [] | [b'b'] | [b'i', b'b']),
    };
    sound && number.parse::<f64>().is_ok_and(|number| number >= 0.0)
}

/// What BuildKit refuses in `RUN --device=`.
pub(super) fn check_device(text: &str) -> Result<(), String> {
    let mut name = String::new();
    for (field, _) in fields(text).ok_or_else(|| format!("`{text}` names no device"))? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (go::lower(key), Some(value)),
            None => (go::lower(&field), None),
        };
        match (key.as_str(), value) {
            ("required", None) => {}
            ("required", Some(value)) if go::parse_bool(value).is_some() => {}
            ("required", Some(value)) => return Err(format!("`{value}` is not a value of `required`")),
            ("name", Some(_)) if !name.is_empty() => return Err(format!("the device `{name}` has a second name")),
            ("name", Some(value)) => name = value.to_owned(),
            _ if name.is_empty() => name = field,
            _ => return Err(format!("a device knows no `{field}`")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let read = MountFlag::read(text, Span::new(0, text.len())).and_then(|flag| {
            let from = flag.from.clone();
            Ok((from, flag.mount(|value| Ok((!value.contains('$')).then(|| value.to_owned())))?))
        });
        let place = |word: &Word| format!("{}@{}", word.text, word.span.start);
        let id_of = |id: &MountId| format!("{}{}", place(&id.word), if id.required { " required" } else { "" });
        match read {
            Err((what, _)) => format!("! {what}"),
            Ok((Some(from), Some(Mount::Files { .. }))) => format!("from {}", place(&from)),
            Ok((_, Some(Mount::Secret(id)))) => format!("secret {}", id_of(&id)),
            Ok((_, Some(Mount::Ssh(id)))) => format!("ssh {}", id_of(&id)),
            Ok((_, Some(Mount::Files { at_root: Some(true) }))) => "root".to_owned(),
            Ok((_, Some(Mount::Files { .. }))) => "files".to_owned(),
            Ok((_, None)) => "unknown".to_owned(),
        }
    }

    #[test]
    fn reads_what_buildkit_reads() {
        let cases = [
            ("type=bind,from=lamina/rust,source=/a,target=/b", "from lamina/rust@15"),
            ("FROM=x,target=/b", "from x@5"),
            ("type=cache,target=/root/.cargo,sharing=locked,uid=1", "files"),
            ("type=secret,id=creds,target=/run/x", "secret creds@15"),
            ("type=secret,target=/run/secrets/token/", "secret token@32"),
            ("type=secret,id=$WHICH", "unknown"),
            ("type=ssh", "ssh default@0"),
            ("type=ssh,id=hub,required", "ssh hub@12 required"),
            ("type=secret,id=a,required=true", "secret a@15 required"),
            ("type=secret,id=a,required,required=0", "secret a@15"),
            ("type=tmpfs,target=/tmp,size=64m", "files"),
            ("\"type=ssh\",\"id=a,b\"", "ssh a,b@0"),
            ("from=$X,target=/x", "! BuildKit replaces no variables in `$X`"),
            ("type=bnd", "! `bnd` is not a type of mount"),
            ("type=bind,tagret=/x", "! a mount knows no `tagret` (in `tagret=/x`)"),
            ("target=/x,uid=1", "! a mount of type `bind` knows no `uid`"),
            ("type=secret", "! a secret without an id"),
            ("type=tmpfs,size=big", "! `big` is not a value of `size`"),
            ("target=/a/..", "files"),
            ("target=/", "root"),
            ("a\"b", "! `a\"b` is not a list of `key=value`"),
        ];
        for (value, wanted) in cases {
            assert_eq!(shown(value), wanted, "{value}");
        }
    }
}

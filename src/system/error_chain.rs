//! Formats an error with its causes. Not responsible for: help texts.

use std::error::Error;

/// An error and all its causes in one line: `outer: inner: innermost`.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// The innermost cause alone, for errors whose outer levels only repeat the request.
pub fn innermost(error: &dyn Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes<'e>(error: &'e dyn Error) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Layered {
        what: &'static str,
        #[source]
        cause: Option<Box<Layered>>,
    }

    #[test]
    fn causes_stand_behind_what_they_caused() {
        let layered = |what, cause: Option<Layered>| Layered { what, cause: cause.map(Box::new) };
        let alone = layered("alone", None);
        assert_eq!((with_causes(&alone), innermost(&alone)), ("alone".into(), "alone".into()));
        let error = layered("asked", Some(layered("sent", Some(layered("no route", None)))));
        assert_eq!((with_causes(&error), innermost(&error)), ("asked: sent: no route".into(), "no route".into()));
    }
}

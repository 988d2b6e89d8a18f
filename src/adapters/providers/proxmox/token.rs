//! The secret that the API is asked with. Not responsible for: showing it; and storing it.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::HeaderValue;

use crate::domain::base::Digest;
use crate::domain::model::Fault;

/// An API token, `USER@REALM!TOKENID=UUID`. It is shown nowhere: `Debug` says only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The variable that holds it.
    pub const VARIABLE: &str = "PROXMOX_TOKEN";
    /// The variable that names a file which holds it.
    pub const FILE_VARIABLE: &str = "PROXMOX_TOKEN_FILE";

    /// From `PROXMOX_TOKEN`, or from the file that `PROXMOX_TOKEN_FILE` names.
    ///
    /// # Errors
    /// `lian::proxmox::no_token` where neither is set, the file cannot be read, or what they hold is no token.
    pub fn from_environment() -> Result<Self, Fault> {
        let text = std::env::var(Self::VARIABLE).ok();
        Self::find(text, std::env::var_os(Self::FILE_VARIABLE).map(PathBuf::from))
    }

    /// From a text, whose white space around it does not count.
    ///
    /// # Errors
    /// `lian::proxmox::no_token` where it is none.
    pub fn new(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let sound = text.split_once('=').is_some_and(|(id, secret)| {
            let named = id.split_once('!').is_some_and(|(user, name)| user.contains('@') && !name.is_empty());
            named && !secret.is_empty()
        });
        if sound && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(no_token("what was given is no API token of Proxmox VE"))
        }
    }

    fn find(text: Option<String>, file: Option<PathBuf>) -> Result<Self, Fault> {
        let set = |text: &String| !text.trim().is_empty();
        match (text.filter(set), file) {
            (Some(text), _) => Self::new(&text),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| no_token(&format!("cannot read {}: {error}", file.display())))?;
                Self::new(&text)
            }
            (None, None) => Err(no_token("there is no API token for Proxmox VE")),
        }
    }

    /// Tells this token from others, with a salt, without telling the token.
    pub fn digest(&self, salt: &str) -> Digest {
        Digest::of(format!("{salt} {}", self.0))
    }

    /// The header that carries it, marked as sensitive.
    pub(super) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("PVEAPIToken={}", self.0))
            .expect("invariant: a token is printable ASCII, see `new`");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn no_token(message: &str) -> Fault {
    Fault::denied("lian::proxmox::no_token", message).help(
        "set PROXMOX_TOKEN to `USER@REALM!TOKENID=UUID`, or PROXMOX_TOKEN_FILE to a file that holds it; \
         `pveum user token add USER@REALM TOKENID` makes one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "lian@pve!build=12345678-1234-1234-1234-123456789abc";

    #[test]
    fn is_found_in_the_variable_or_in_the_file_and_shown_nowhere() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{TOKEN}\n")).expect("written");
        let of_file = Token::find(Some(" ".into()), Some(file.path().into())).expect("a token");
        assert_eq!(of_file, Token::find(Some(TOKEN.into()), None).expect("a token"));
        assert_eq!(format!("{of_file:?} {:?}", of_file.header()), "Token(…) Sensitive");
    }

    #[test]
    fn what_is_none_is_refused_without_being_repeated() {
        for text in ["", "secret", "lian@pve=secret", "lian!build=secret", "lian@pve!build=", "a@b!c=sec\nret"] {
            let fault = Token::new(text).expect_err(text);
            assert_eq!(fault.code, "lian::proxmox::no_token");
            assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
        }
        let fault = Token::find(None, None).expect_err("none");
        assert!(fault.help.expect("help").contains("PROXMOX_TOKEN_FILE"));
        let fault = Token::find(None, Some("/no/such/file".into())).expect_err("no file");
        assert!(fault.message.contains("/no/such/file"));
    }
}

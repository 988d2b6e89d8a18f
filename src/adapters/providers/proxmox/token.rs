//! The API token: reads it and sends it without exposing it. Not responsible for: storing it.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::HeaderValue;

use crate::domain::base::Digest;
use crate::domain::model::Fault;
use crate::system::read::{self, Cap};

/// An API token, `USER@REALM!TOKENID=UUID`. Never printed: `Debug` hides the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Environment variable with the token.
    pub const VARIABLE: &str = "PROXMOX_TOKEN";
    /// Environment variable with the path of a token file.
    pub const FILE_VARIABLE: &str = "PROXMOX_TOKEN_FILE";

    /// Reads `PROXMOX_TOKEN`, or the file named by `PROXMOX_TOKEN_FILE`.
    ///
    /// # Errors
    /// `lian::proxmox::no_token` if neither is set, the file is unreadable, or the content is not a token.
    pub fn from_environment() -> Result<Self, Fault> {
        let text = std::env::var(Self::VARIABLE).ok();
        Self::find(text, std::env::var_os(Self::FILE_VARIABLE).map(PathBuf::from))
    }

    /// Parses a token; surrounding white space is ignored.
    ///
    /// # Errors
    /// `lian::proxmox::no_token` if it is not a token.
    pub fn new(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let sound = text.split_once('=').is_some_and(|(id, secret)| {
            let named = id.split_once('!').is_some_and(|(user, name)| user.contains('@') && !name.is_empty());
            named && !secret.is_empty()
        });
        if sound && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(no_token("this is not an API token of Proxmox VE"))
        }
    }

    fn find(text: Option<String>, file: Option<PathBuf>) -> Result<Self, Fault> {
        let set = |text: &String| !text.trim().is_empty();
        match (text.filter(set), file) {
            (Some(text), _) => Self::new(&text),
            (None, Some(file)) => {
                let text = read::text_of_user(&file, Cap::Credential)
                    .map_err(|error| no_token(&format!("cannot read {}: {error}", file.display())))?;
                Self::new(&text)
            }
            (None, None) => Err(no_token("there is no API token for Proxmox VE")),
        }
    }

    /// Salted digest that identifies this token without revealing it.
    pub fn digest(&self, salt: &str) -> Digest {
        Digest::of(format!("{salt} {}", self.0))
    }

    /// The authorization header, marked as sensitive.
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

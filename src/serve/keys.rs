//! SSH public keys of callers: a key that sshd would not take rents a machine that nobody can enter. Not responsible
//! for: whether the caller has the private half.

use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};
use ssh_key::{EcdsaCurve, PublicKey};

/// Longest line with a key, in bytes.
pub(super) const LINE_MOST: usize = 8192;
/// Sizes of RSA keys that are taken, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16_384;
/// The types of key that sshd takes by default.
pub(super) const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Type and key of a public key line. The comment is dropped: it must not reach the machine's boot script.
///
/// # Errors
/// Why the line is no key that somebody could log in with.
pub(super) fn public_key(line: &str) -> Result<String, &'static str> {
    if line.len() > LINE_MOST || line.chars().any(char::is_control) {
        return Err("one line such as `ssh-ed25519 AAAA…` is expected");
    }
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let (kind, encoded) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if kind.contains("-cert-v0") {
        return Err("a certificate is not taken: send the key itself");
    }
    if !KINDS.contains(&kind) {
        return Err("it does not begin with a type of key that is taken, such as `ssh-ed25519`");
    }
    let bare = format!("{kind} {encoded}");
    let key = PublicKey::from_openssh(&bare).map_err(|_| "it is damaged: it is no whole key of its type")?;
    usable(key.key_data())?;
    // What is passed on is what was understood.
    match key.to_openssh() {
        Ok(written) if written.trim_end() == bare => Ok(bare),
        _ => Err("it is damaged: it is no whole key of its type"),
    }
}

fn usable(key: &KeyData) -> Result<(), &'static str> {
    let sound = match key {
        // Like sshd, which takes any 32 bytes.
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) => true,
        KeyData::Ecdsa(key) => on_its_curve(key),
        KeyData::SkEcdsaSha2NistP256(key) => p256::PublicKey::from_sec1_bytes(key.ec_point().as_bytes()).is_ok(),
        KeyData::Rsa(key) => return rsa(key),
        _ => false,
    };
    if sound { Ok(()) } else { Err("it is damaged: no private key belongs to it") }
}

fn on_its_curve(key: &EcdsaPublicKey) -> bool {
    let point = key.as_sec1_bytes();
    match key.curve() {
        EcdsaCurve::NistP256 => p256::PublicKey::from_sec1_bytes(point).is_ok(),
        EcdsaCurve::NistP384 => p384::PublicKey::from_sec1_bytes(point).is_ok(),
        EcdsaCurve::NistP521 => p521::PublicKey::from_sec1_bytes(point).is_ok(),
    }
}

fn rsa(key: &RsaPublicKey) -> Result<(), &'static str> {
    let damaged = "it is damaged: no private key belongs to it";
    let (Some(modulus), Some(exponent)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else {
        return Err(damaged);
    };
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("an RSA key of 2048 to 16384 bits is expected");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let usual = (1..=8).contains(&exponent.len()) && exponent != [1];
    if odd(modulus) && odd(exponent) && usual { Ok(()) } else { Err(damaged) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb";

    /// A key of these fields: each is preceded by its length.
    fn line(kind: &str, fields: &[&[u8]]) -> String {
        let mut blob = Vec::new();
        for field in [kind.as_bytes()].iter().chain(fields) {
            blob.extend(u32::try_from(field.len()).expect("short").to_be_bytes());
            blob.extend_from_slice(field);
        }
        format!("{kind} {}", STANDARD.encode(blob))
    }

    /// A modulus of so many bits, as it is written: with a zero before it.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut number = vec![0xff; bits / 8 + 1];
        number[0] = 0;
        number
    }

    /// The generator of P-256.
    fn point() -> Vec<u8> {
        use p256::elliptic_curve::sec1::ToEncodedPoint as _;
        p256::PublicKey::from_affine(p256::AffinePoint::GENERATOR)
            .expect("a point")
            .to_encoded_point(false)
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn keys_that_sshd_takes_are_taken_without_their_comment() {
        let rsa = line("ssh-rsa", &[&[1, 0, 1], &modulus(2048)]);
        let ecdsa = line("ecdsa-sha2-nistp256", &[b"nistp256", &point()]);
        let token = line("sk-ecdsa-sha2-nistp256@openssh.com", &[b"nistp256", &point(), b"ssh:"]);
        for key in [ED25519.to_owned(), rsa, ecdsa, token] {
            assert_eq!(public_key(&key).as_deref(), Ok(key.as_str()));
            assert_eq!(public_key(&format!(" {key}  me@here \"x\"")).as_deref(), Ok(key.as_str()));
        }
    }

    #[test]
    fn what_only_looks_like_a_key_is_refused() {
        let ed = |key: &[u8]| line("ssh-ed25519", &[key]);
        let mut off = point();
        off[64] ^= 1;
        let whole = STANDARD.decode(ED25519.split(' ').nth(1).expect("a key")).expect("base64");
        let mut lying = whole.clone();
        lying[18] = 0x10;
        let shown = |blob: &[u8]| format!("ssh-ed25519 {}", STANDARD.encode(blob));
        for key in [
            String::new(),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 AAAA".to_owned(),
            shown(&whole[..whole.len() - 1]),
            shown(&whole[..whole.len() - 16]),
            shown(&[whole.as_slice(), &[0]].concat()),
            shown(&lying),
            ED25519.trim_end_matches('b').to_owned(),
            ed(&[7; 31]),
            ed(&[7; 33]),
            ed(&[]),
            line("ssh-rsa", &[&[1, 0, 1], &modulus(512)]),
            line("ssh-rsa", &[&[1, 0, 1], &modulus(1024)]),
            line("ssh-rsa", &[&[1, 0, 1], &modulus(32_768)]),
            line("ssh-rsa", &[&[1], &modulus(2048)]),
            line("ssh-rsa", &[&[2], &modulus(2048)]),
            line("ssh-rsa", &[&modulus(2048)]),
            line("ecdsa-sha2-nistp256", &[b"nistp256", &off]),
            line("ecdsa-sha2-nistp256", &[b"nistp256", &point()[..64]]),
            line("ecdsa-sha2-nistp384", &[b"nistp384", &point()]),
            line("ssh-dss", &[&[7; 32]]),
            line("ssh-ed448", &[&[7; 57]]),
            line("ssh-ed25519-cert-v01@openssh.com", &[&[7; 32], &[7; 32]]),
            line("sk-ssh-ed25519@openssh.com", &[&whole[19..]]),
            format!("{ED25519}\nssh-rsa x"),
            format!("{ED25519}\u{7f}"),
            format!("command=\"x\" {ED25519}"),
            format!("no-pty {ED25519}"),
            ED25519.replace("ssh-ed25519", "ssh-rsa"),
            ED25519.replace("ssh-ed25519", "SSH-ED25519"),
            format!("ssh-ed25519 {}", "A".repeat(9000)),
        ] {
            assert!(public_key(&key).is_err(), "{key}");
        }
    }
}

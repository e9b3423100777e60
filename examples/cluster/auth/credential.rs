//! Tokens as clients hold them.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use crate::control_group::SecretHash;
use crate::hex;

/// What every token begins with, so that scanners find those that were published by mistake.
const PREFIX: &str = "dss_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Longer than any token is.
const TEXT_BYTES_MAX: usize = 256;

/// The operating system has no random numbers to give.
#[derive(Debug, thiserror::Error)]
#[error("there is no randomness to make a secret of: {0}")]
pub(crate) struct RandomnessError(getrandom::Error);

/// A token: `dss_<id>_<secret>`. Only a hash of it is ever kept.
pub(crate) struct Credential {
    text: String,
    /// Where the id ends.
    id_end: usize,
}

impl Credential {
    /// A new one, of 256 random bits.
    pub(crate) fn generate() -> Result<Self, RandomnessError> {
        let mut random = [0; ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut random).map_err(RandomnessError)?;
        let (id, secret) = random.split_at(ID_BYTES);
        let text = format!("{PREFIX}{}_{}", hex::encode(id), hex::encode(secret));
        Ok(Self { text, id_end: PREFIX.len() + 2 * ID_BYTES })
    }

    /// The token that this text is, if it looks like one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_word =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id_end = PREFIX.len() + id.len();
        (is_word(id) && is_word(secret)).then(|| Self { text: text.to_owned(), id_end })
    }

    /// The token that a request carries: `authorization: Bearer <token>`, once.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next()?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer") && values.next().is_none();
        if is_bearer { Self::parse(token.trim_matches(' ')) } else { None }
    }

    /// Its public part.
    pub(crate) fn id(&self) -> &str {
        &self.text[PREFIX.len()..self.id_end]
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.text.as_bytes()).into())
    }

    /// The token itself, for whoever is to have it.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    /// What a request carries that is made with it.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.text))
            .expect("a token consists of letters, digits and dashes");
        value.set_sensitive(true);
        value
    }
}

/// Tells the public part.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credential({PREFIX}{}_…)", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        Credential::of(&headers).map(|credential| credential.reveal().to_owned())
    }

    #[test]
    fn a_new_token_has_a_public_part_and_256_bits_that_nobody_else_has() {
        let (one, other) = (Credential::generate().unwrap(), Credential::generate().unwrap());
        assert_ne!(one.id(), other.id());
        assert_ne!(one.hash(), other.hash());
        let again = Credential::parse(one.reveal()).unwrap();
        assert_eq!((again.id(), again.hash()), (one.id(), one.hash()));
        let secret = one.reveal().rsplit('_').next().unwrap();
        assert!(hex::decode::<SECRET_BYTES>(secret).is_some(), "256 bits");
        assert!(!format!("{one:?}").contains(secret), "not in what is printed");
        assert!(!format!("{:?}", one.header()).contains(secret));
    }

    #[test]
    fn only_one_bearer_token_is_heard() {
        let good = "dss_abc_123";
        for value in ["Bearer dss_abc_123", "bearer dss_abc_123", "BEARER   dss_abc_123"] {
            assert_eq!(of(&[value]).as_deref(), Some(good), "{value}");
        }
        let long = format!("Bearer dss_abc_{}", "1".repeat(TEXT_BYTES_MAX));
        for values in [
            &[][..],
            &["Bearer dss_abc_123", "Bearer dss_abc_123"],
            &["Basic dss_abc_123"],
            &["dss_abc_123"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer dss_abc"],
            &["Bearer dss__123"],
            &["Bearer dss_abc_"],
            &["Bearer dss_abc_12_3"],
            &["Bearer xyz_abc_123"],
            &["Bearer dss_abc_123, Bearer dss_abc_123"],
            &[&long],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }
}

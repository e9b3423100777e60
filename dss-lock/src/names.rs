//! The names that clients choose: of locks, sessions, owners and requests.

use std::borrow::Borrow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::text::Text;

/// The longest name, in bytes. Names are kept per holder and per waiter, travel in every command,
/// and appear as one segment of a URL.
pub const NAME_BYTES_MAX: usize = 512;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no characters, where a name must have some.
    #[error("a name must not be empty")]
    Empty,
    /// It is longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} bytes, not {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It contains a control character.
    #[error("a name must not contain control characters")]
    ControlCharacter,
}

/// The rule that all names share; only an owner may be without one.
fn check(name: &str) -> Result<(), NameError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: name.len() });
    }
    // Most names are plain, and every name of every command comes by here.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    if !name.as_bytes().iter().all(plain) && name.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(())
}

fn check_not_empty(name: &str) -> Result<(), NameError> {
    if name.is_empty() { Err(NameError::Empty) } else { check(name) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            #[doc = concat!("A `", stringify!($name), "` of ", $expected, ".")]
            ///
            /// # Errors
            ///
            /// Where the text is anything else.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                $check(&name)?;
                Ok(Self(Text::from(name.as_str())))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.as_str().fmt(formatter)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<Text> for $name {
            fn as_ref(&self) -> &Text {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        // What is decoded obeys the same rule as what a client sends: a name that exists is valid.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Name;

                impl Visitor<'_> for Name {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $check(text).map_err(E::custom)?;
                        Ok($name(Text::from(text)))
                    }
                }

                deserializer.deserialize_str(Name)
            }
        }
    };
}

name!(
    /// What is locked: `"orders/42"`. Locks need no creation; one exists while it is held.
    LockName, check_not_empty, "1 to 512 bytes without control characters"
);
name!(
    /// A session, named by the client: `"worker-7"`. Locks go when their session ends.
    SessionId, check_not_empty, "1 to 512 bytes without control characters"
);
name!(
    /// Names one request among those of its owner, so that a repeat is recognised.
    RequestId, check_not_empty, "1 to 512 bytes without control characters"
);
name!(
    /// Tells apart the tasks that share a session. Empty where a session has only one.
    #[derive(Default)]
    OwnerId, check, "0 to 512 bytes without control characters"
);

/// Who holds and waits: one sequential task of a session.
///
/// An owner waits for at most one lock at a time, which is what makes deadlock detection exact
/// and cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Its session.
    pub session: SessionId,
    /// Which of the session's tasks.
    pub owner: OwnerId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_512_bytes_without_control_characters() {
        assert_eq!(LockName::new(""), Err(NameError::Empty));
        assert!(LockName::new("a").is_ok());
        assert!(LockName::new("ä".repeat(256)).is_ok());
        assert_eq!(LockName::new("a".repeat(513)), Err(NameError::TooLong { bytes: 513 }));
        assert_eq!(SessionId::new("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(RequestId::new("\u{7f}"), Err(NameError::ControlCharacter));
    }

    #[test]
    fn only_an_owner_may_be_empty() {
        assert_eq!(OwnerId::new(""), Ok(OwnerId::default()));
        assert!(OwnerId::new("a".repeat(513)).is_err());
    }

    #[test]
    fn a_decoded_name_is_checked_as_a_given_one() {
        let bytes = postcard::to_allocvec("a\tb").unwrap();
        assert!(postcard::from_bytes::<LockName>(&bytes).is_err());
        let bytes = postcard::to_allocvec("a b").unwrap();
        assert_eq!(postcard::from_bytes::<LockName>(&bytes), Ok(LockName::new("a b").unwrap()));
    }
}

//! The names that clients choose: of locks, sessions, owners and requests.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

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
    if name.chars().any(char::is_control) {
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
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("A `", stringify!($name), "` of ", $expected, ".")]
            ///
            /// # Errors
            ///
            /// Where the text is anything else.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                $check(&name)?;
                Ok(Self(name.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        // What is decoded obeys the same rule as what a client sends: a name that exists is valid.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $check(text).map_err(E::custom)?;
                        Ok($name(text.into()))
                    }
                }

                deserializer.deserialize_str(Text)
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
    OwnerId, check, "0 to 512 bytes without control characters"
);

impl Default for OwnerId {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

/// Orders locks by their names.
///
/// The first bytes of the name stand in the key itself, so that most comparisons need not follow
/// a pointer. Names have no zero bytes, so what is shorter comes first, as in the order of texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameOrder {
    head: u128,
    text: Arc<str>,
}

impl NameOrder {
    pub(crate) fn of(lock: &LockName) -> Self {
        Self { head: Self::head(lock.as_str()), text: Arc::clone(&lock.0) }
    }

    /// Where a text that need not be a name would stand.
    pub(crate) fn of_text(text: &str) -> Self {
        Self { head: Self::head(text), text: text.into() }
    }

    fn head(text: &str) -> u128 {
        let mut head = [0; 16];
        let bytes = text.as_bytes();
        let len = bytes.len().min(head.len());
        head[..len].copy_from_slice(&bytes[..len]);
        u128::from_be_bytes(head)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

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
    fn the_order_of_locks_is_that_of_their_names() {
        let mut names = ["b", "a", "a b", "orders/000000000002", "orders/00000000001", "ä"]
            .map(|name| NameOrder::of(&LockName::new(name).unwrap()));
        names.sort();
        assert!(names.is_sorted_by(|a, b| a.text() < b.text()), "{names:?}");
        assert!(NameOrder::of_text("") < names[0]);
        assert!(NameOrder::of_text("orders/0000000000") < names[4], "{:?}", names[4]);
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

//! What topics, groups and consumers are called.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no character at all.
    #[error("a name must not be empty")]
    Empty,
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    #[error("a name must not have more than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// It holds a control character.
    #[error("a name must not hold control characters")]
    ControlCharacter,
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        ///
        /// 1 to [`NAME_BYTES_MAX`](crate::limits::NAME_BYTES_MAX) bytes without control
        /// characters; a clone shares the text.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as a name.
            ///
            /// # Errors
            ///
            /// Where it is empty, too long, or holds control characters.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check(&name)?;
                Ok(Self(name.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Names a topic, within all shards.
    TopicName
}

name! {
    /// Names a consumer group, within its topic.
    GroupName
}

name! {
    /// Names who receives; it tells people who holds a lease and decides nothing.
    ConsumerName
}

/// The key of a message: what is in order with what. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct Key(Arc<str>);

impl Key {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_512_bytes_and_no_control_characters() {
        assert_eq!(TopicName::new(""), Err(NameError::Empty));
        assert_eq!(TopicName::new("a".repeat(513)), Err(NameError::TooLong));
        assert_eq!(TopicName::new("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(TopicName::new("a\u{7f}b"), Err(NameError::ControlCharacter));
        assert!(TopicName::new("a".repeat(512)).is_ok());
        assert!(TopicName::new("Aufträge/42 ☂").is_ok());
    }

    #[test]
    fn a_name_is_checked_when_it_is_decoded() {
        let good = postcard::to_allocvec("orders").unwrap();
        assert_eq!(postcard::from_bytes(&good), Ok(TopicName::new("orders").unwrap()));
        let bad = postcard::to_allocvec("or\0ders").unwrap();
        assert!(postcard::from_bytes::<TopicName>(&bad).is_err());
    }
}

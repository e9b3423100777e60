//! The text of a name: short ones stand in place, since most are and each command has several.
//! To copy or compare those takes neither an allocation, nor a count, nor a pointer to follow.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many bytes stand in place: a text is then three words long.
const SHORT: usize = 22;

/// Bits without a pattern: the fraction of pi.
const PI: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0];

/// A text that never changes.
///
/// A text has one form: up to 22 bytes without zeros are short, all else is long.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// What follows the text is zero.
    Short {
        len: u8,
        bytes: [u8; SHORT],
    },
    Long(Arc<str>),
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            Form::Short { len, bytes } => std::str::from_utf8(&bytes[..usize::from(*len)])
                .expect("the bytes are those of a text"),
            Form::Long(text) => text,
        }
    }

    /// A number that other texts hardly have too, and that nobody can choose a text for who does
    /// not know the seed.
    #[inline]
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        match &self.0 {
            Form::Short { bytes, .. } => {
                let word = |first: usize| {
                    let word =
                        bytes[first..].first_chunk().expect("three words overlap in 22 bytes");
                    u64::from_le_bytes(*word)
                };
                let (head, body, tail) = (word(0), word(8), word(SHORT - 8));
                let folded = fold(head ^ seed ^ PI[0], body ^ PI[1]);
                fold(folded ^ tail, seed.rotate_left(32) ^ PI[2])
            }
            Form::Long(text) => xxh3_64_with_seed(text.as_bytes(), seed),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { len, bytes } => &bytes[..usize::from(*len)],
            Form::Long(text) => text.as_bytes(),
        }
    }
}

/// Both halves of a product, in which each bit of the factors has come to many.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is one of the two")]
    let low = product as u64;
    low ^ (product >> 64) as u64
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let len = u8::try_from(text.len()).ok().filter(|len| usize::from(*len) <= SHORT);
        match len {
            Some(len) if !text.as_bytes().contains(&0) => {
                let mut bytes = [0; SHORT];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self(Form::Short { len, bytes })
            }
            _ => Self(Form::Long(text.into())),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self(Form::Short { len: 0, bytes: [0; SHORT] })
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Without zeros in them, a text that another begins with comes first.
            (Form::Short { bytes, .. }, Form::Short { bytes: others, .. }) => bytes.cmp(others),
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a `str` does, which it can be looked up by.
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 12] = [
        "",
        "\0",
        "a",
        "a\0",
        "a\0b",
        "a b",
        "b",
        "orders/000000000000001",
        "orders/0000000000000010",
        "orders/0000000000000011",
        "orders/000000000000002",
        "ä",
    ];

    #[test]
    fn a_text_is_what_it_was_made_of() {
        for text in TEXTS {
            assert_eq!(Text::from(text).as_str(), text);
            assert_eq!(Text::from(text).as_bytes(), text.as_bytes());
            assert_eq!(format!("{:?}", Text::from(text)), format!("{text:?}"));
        }
        assert_eq!(Text::default(), Text::from(""));
    }

    #[test]
    fn texts_compare_as_strings_do() {
        for one in TEXTS {
            for other in TEXTS {
                assert_eq!(Text::from(one) == Text::from(other), one == other);
                assert_eq!(Text::from(one).cmp(&Text::from(other)), one.cmp(other));
            }
        }
    }

    /// Names that count: the halves of their hashes must not lie closer than chance has it.
    #[test]
    fn hashes_of_texts_that_hardly_differ_are_spread() {
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15] {
            for (before, behind) in [("", ""), ("orders/", ""), ("", "/worker/12345")] {
                let mut cells = vec![0_u32; 1 << 12];
                for number in 0..cells.len() {
                    let text = Text::from(format!("{before}{number}{behind}").as_str());
                    cells[(text.hash(seed) >> 32) as usize % (1 << 12)] += 1;
                }
                let empty = cells.iter().filter(|count| **count == 0).count();
                let fullest = cells.iter().max().unwrap();
                // One in e is empty where chance has it, give or take one in a hundred.
                assert!((1_380..1_640).contains(&empty) && *fullest < 10, "{empty}, {fullest}");
            }
        }
    }

    #[test]
    fn a_text_is_three_words_long_with_or_without_another_case() {
        assert_eq!(size_of::<Text>(), 24);
        assert_eq!(size_of::<Option<Text>>(), 24);
    }
}

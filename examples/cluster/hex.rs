//! Hashes and keys as text.

use std::fmt::Write as _;

/// As lowercase hexadecimal digits.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes whatever is written");
        text
    })
}

/// From lowercase hexadecimal digits, exactly as many as it takes: each value has one form.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    let is_lowercase = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.iter().all(is_lowercase) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_has_one_form() {
        let bytes = [0, 1, 0x7f, 0xa0, 0xff];
        assert_eq!(encode(&bytes), "00017fa0ff");
        assert_eq!(decode("00017fa0ff"), Some(bytes));
        for text in
            ["00017FA0FF", "00017fa0f", "00017fa0ff00", "00017fa0fg", "+0017fa0ff", "ä017fa0f"]
        {
            assert_eq!(decode::<5>(text), None, "{text}");
        }
    }
}

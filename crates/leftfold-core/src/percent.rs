//! Percent signs in URLs, as RFC 3986 has them: one decoder for every URL of a store.

/// Puts bytes in the place of their hexadecimal digits behind percent signs.
///
/// # Errors
/// Returns the first percent sign that is not followed by two hexadecimal digits, with up to two
/// characters behind it.
pub fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        // `from_str_radix` takes a sign, which is no digit.
        let digits =
            after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let found = || format!("%{}", after.chars().take(2).collect::<String>());
        bytes.push(byte.ok_or_else(found)?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Decodes a value that is a text; `None` if a percent sign is wrong, or the bytes are no UTF-8.
#[must_use]
pub fn decoded_text(text: &str) -> Option<String> {
    String::from_utf8(decoded(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_stands_before_two_hexadecimal_digits_and_nothing_else() {
        assert_eq!(decoded_text("a%20b%C3%a9%25").as_deref(), Some("a bé%"));
        assert_eq!(decoded("%ff"), Ok(vec![0xff]));
        assert_eq!(decoded_text("%ff"), None);
        for (text, found) in [("x%", "%"), ("%2", "%2"), ("%+1y", "%+1"), ("%é1", "%é1")] {
            assert_eq!(decoded(text), Err(found.to_owned()));
        }
    }
}

//! Unsigned LEB128, at most 10 bytes, in its shortest form.

pub(crate) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a value off the front; `None` if the bytes end early, are too many, or are not the
/// shortest form.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        let low = u64::from(byte & 0x7f);
        if index == 9 && low > 1 {
            return None;
        }
        value |= low << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            let shortest = byte != 0 || index == 0;
            return shortest.then_some(value);
        }
    }
    None
}

/// Takes a length or an offset off the front.
pub(crate) fn take_usize(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(take(bytes)?).ok()
}

/// Takes `len` bytes off the front; `None` if there are fewer.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put(value, &mut bytes);
                bytes.push(7);
                let mut rest = bytes.as_slice();
                assert_eq!((take(&mut rest), rest), (Some(value), [7].as_slice()));
            }
        }
    }

    #[test]
    fn longer_forms_and_overflows_are_refused() {
        assert_eq!(take(&mut [0x80, 0].as_slice()), None);
        assert_eq!(take(&mut [0xff; 10].as_slice()), None);
        assert_eq!(take(&mut [0x80, 0x80].as_slice()), None);
        assert_eq!(
            take(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()),
            None
        );
    }
}

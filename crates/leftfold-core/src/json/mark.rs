//! Marks: what serde was told of a value, in 64 bits, so that two values can be compared without
//! keeping either.

/// Mark of all that serde was told of a value: names, types and contents, all the way down.
///
/// It knows more than the JSON does: that a number was a `u32`, that a null was a `None`. The order
/// of an object's members does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// Kind of a value, as serde calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum ValueKind {
    Bool = 1,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    UnitVariant,
    NewtypeStruct,
    NewtypeVariant,
    Seq,
    Tuple,
    TupleStruct,
    TupleVariant,
    Map,
    Struct,
    StructVariant,
    Verbatim,
}

impl Mark {
    /// A value of at most 64 bits. No two of one kind have the same mark.
    pub(super) const fn bits(kind: ValueKind, bits: u64) -> Self {
        Self(stir(bits ^ stir(kind as u64)))
    }

    /// A value of 128 bits.
    pub(super) const fn wide(kind: ValueKind, bits: u128) -> Self {
        Self::bits(kind, bits as u64).and(Self::bits(kind, (bits >> 64) as u64))
    }

    /// A text, or bytes.
    pub(super) fn text(kind: ValueKind, text: &[u8]) -> Self {
        let mut mark = stir(kind as u64 ^ (text.len() as u64) << 8);
        let mut words = text.chunks_exact(8);
        for word in &mut words {
            mark = folded(
                mark ^ u64::from_le_bytes(
                    word.try_into().expect("a chunk has the bytes asked for"),
                ),
            );
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        Self(stir(mark ^ u64::from_le_bytes(last)))
    }

    /// This one, and then another.
    pub(super) const fn and(self, next: Self) -> Self {
        Self(folded(self.0 ^ SALT).wrapping_add(stir(next.0)))
    }

    /// Another one beside those that were taken: their order does not count.
    pub(super) const fn beside(self, other: Self) -> Self {
        Self(self.0.wrapping_add(stir(other.0 ^ SALT)))
    }
}

const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit over all 64, and takes no two numbers to the same one.
const fn stir(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(SALT);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The same, faster, and nearly so well.
const fn folded(bits: u64) -> u64 {
    let wide = (bits as u128) * 0xa076_1d64_78bd_642f;
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_order_of_what_stands_beside_each_other_does_not_count() {
        let [one, two] = [1, 2].map(|bits| Mark::bits(ValueKind::U8, bits));
        let none = Mark::bits(ValueKind::Seq, 0);
        assert_eq!(none.beside(one).beside(two), none.beside(two).beside(one));
        assert_ne!(none.beside(one).beside(one), none.beside(two).beside(two));
        assert_ne!(none.beside(one), none.beside(one).beside(one));
        assert_ne!(none.and(one).and(two), none.and(two).and(one));
    }

    #[test]
    fn marks_of_texts_tell_every_byte_and_the_length() {
        let texts = [
            "",
            "\0",
            "a",
            "a\0",
            "b",
            "abcdefgh",
            "abcdefgh\0",
            "bbcdefgh",
            "abcdefghabcdefgi",
            "abcdefghabcdefgh",
        ];
        let mut marks: Vec<Mark> =
            texts.iter().map(|text| Mark::text(ValueKind::Str, text.as_bytes())).collect();
        marks.push(Mark::text(ValueKind::Bytes, b"a"));
        marks.sort_by_key(|mark| mark.0);
        marks.dedup();
        assert_eq!(marks.len(), texts.len() + 1);
    }
}

//! The positions of a key, cut into chunks so that any of them is found without reading those
//! before it.

use crate::format::varint;

/// Positions in one chunk: about 1 to 3 KiB.
pub(super) const CHUNK_POSITIONS: usize = 1024;

/// The value of a chunk: the distances between its positions; the first one is the `at` of its
/// entry.
pub(super) fn encode(positions: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(positions.len() * 2);
    for pair in positions.windows(2) {
        varint::put(pair[1] - pair[0], &mut bytes);
    }
    bytes
}

/// Decodes the positions of a chunk, which increase; `None` if they would not.
pub(super) fn decode(at: u64, mut value: &[u8], out: &mut Vec<u64>) -> Option<()> {
    let mut last = at;
    out.push(last);
    while !value.is_empty() {
        let distance = varint::take(&mut value)?;
        last = last.checked_add(distance).filter(|_| distance > 0)?;
        out.push(last);
    }
    Some(())
}

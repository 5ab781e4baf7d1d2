//! Changes of an input that know nothing of what it means.

use fastrand::Rng;

/// Bytes that stand at edges: of numbers, of lengths, of text.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x12, b'$'];

/// Changes some inputs in some places, and leaves the others.
pub(crate) fn some(random: &mut Rng, input: &mut Vec<u8>) {
    if random.bool() {
        for _ in 0..random.usize(1..6) {
            change(random, input);
        }
    }
}

fn change(random: &mut Rng, input: &mut Vec<u8>) {
    if input.is_empty() {
        input.push(random.u8(..));
    }
    let at = random.usize(..input.len());
    match random.u8(..6) {
        0 => input[at] ^= 1 << random.u8(..8),
        1 => input[at] = EDGES[random.usize(..EDGES.len())],
        2 => input.insert(at, random.u8(..)),
        3 => drop(input.remove(at)),
        4 => input.truncate(at),
        _ => {
            let end = (at + random.usize(1..64)).min(input.len());
            let piece = input[at..end].to_vec();
            let to = random.usize(..=input.len());
            input.splice(to..to, piece);
        }
    }
}

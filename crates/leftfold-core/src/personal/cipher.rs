//! Sealing: XChaCha20-Poly1305 with a nonce of 192 bits, so that one key may seal any number of
//! values. The nonce is random, or a keyed hash of the occasion and of all that is sealed, so that
//! no nonce serves two values either.
//!
//! From the secret of a subject keys are derived for each use (BLAKE3), so that none says anything
//! of another. The value is JSON, filled up with spaces, which JSON does not mind: so a sealed name
//! does not tell its length to the letter.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::secret::{KeyId, Lookup, Randomless, Secret, random};
use crate::store::Label;

/// A value is filled up to a multiple of this number of bytes.
const STEP_BYTES: usize = 32;
/// Before the ciphertext stands the nonce.
const NONCE_BYTES: usize = 24;

/// The id that a key has.
pub(super) fn key_id(secret: &Secret) -> KeyId {
    KeyId(half(blake3::derive_key("leftfold personal key id v1", &secret.0)))
}

/// The nonce and the ciphertext of a value, the same for one occasion, and never the same without
/// one. The tag that stands beside them is authenticated with them.
pub(super) fn seal(
    secret: &Secret,
    tag: &str,
    mut json: Vec<u8>,
    occasion: Option<&str>,
) -> Result<Vec<u8>, Randomless> {
    json.resize(json.len().next_multiple_of(STEP_BYTES), b' ');
    let nonce = match occasion {
        None => random::<NONCE_BYTES>()?,
        Some(occasion) => nonce_of(secret, [occasion.as_bytes(), tag.as_bytes(), &json]),
    };
    let payload = Payload { msg: &json, aad: tag.as_bytes() };
    // It fails only for texts of 256 GiB.
    let sealed = cipher(secret)
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a value within its limit can be sealed");
    Ok([&nonce[..], &sealed].concat())
}

/// The JSON that was sealed; `None` if a bit of it, or of its tag, is another, or the key is.
pub(super) fn open(secret: &Secret, tag: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    cipher(secret).decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: tag.as_bytes() }).ok()
}

fn nonce_of(secret: &Secret, parts: [&[u8]; 3]) -> [u8; NONCE_BYTES] {
    let mut hasher =
        blake3::Hasher::new_keyed(&blake3::derive_key("leftfold personal nonce v1", &secret.0));
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut nonce = [0; NONCE_BYTES];
    hasher.finalize_xof().fill(&mut nonce);
    nonce
}

/// A value as a key store looks for it.
pub(super) fn lookup(secret: &Secret, name: Label, json: &[u8]) -> Lookup {
    let mut hasher =
        blake3::Hasher::new_keyed(&blake3::derive_key("leftfold personal lookup v1", &secret.0));
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(json);
    Lookup { hash: half(*hasher.finalize().as_bytes()), name }
}

/// A digest that only the key's owner can make.
pub(super) fn fingerprint(secret: &Secret, bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&blake3::derive_key("leftfold personal fingerprint v1", &secret.0), bytes)
        .as_bytes()
}

fn cipher(secret: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&blake3::derive_key("leftfold personal cipher v1", &secret.0).into())
}

fn half(whole: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personal::Personal;

    #[test]
    fn whatever_bit_is_changed_nothing_is_opened() {
        let secret = Secret([7; 32]);
        let sealed = seal(&secret, "email:x", br#""Ada""#.to_vec(), None).unwrap();
        assert_eq!(
            open(&secret, "email:x", &sealed).unwrap(),
            br#""Ada"                           "#
        );
        for at in 0..sealed.len() * 8 {
            let mut other = sealed.clone();
            other[at / 8] ^= 1 << (at % 8);
            assert_eq!(open(&secret, "email:x", &other), None, "bit {at}");
        }
        assert_eq!(open(&secret, "email:y", &sealed), None);
        assert_eq!(open(&Secret([8; 32]), "email:x", &sealed), None);
        for len in 0..sealed.len() {
            assert_eq!(open(&secret, "email:x", &sealed[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn one_value_is_sealed_differently_but_for_one_occasion_and_short_ones_are_of_one_length() {
        let secret = Secret([7; 32]);
        let sealed = |text: &str, tag, occasion| {
            seal(&secret, tag, text.as_bytes().to_vec(), occasion).unwrap()
        };
        assert_ne!(sealed("\"Bo\"", "", None), sealed("\"Bo\"", "", None));
        assert_eq!(sealed("\"Bo\"", "", None).len(), sealed("\"Maximiliana\"", "", None).len());
        let once = sealed("\"Bo\"", "", Some("a"));
        assert_eq!(sealed("\"Bo\"", "", Some("a")), once);
        let others =
            [("\"Bo\"", "", "b"), ("\"Bi\"", "", "a"), ("\"Bo\"", "x", "a"), ("\"Bo\"", "a", "")];
        for (text, tag, occasion) in others {
            let other = sealed(text, tag, Some(occasion));
            assert!(other[..NONCE_BYTES] != once[..NONCE_BYTES], "{text} {tag} {occasion}");
        }
    }

    /// Sealed values must stay readable, and found: these texts may never change their meaning.
    #[test]
    fn what_the_first_release_sealed_is_opened() {
        let secret = Secret(std::array::from_fn(|at| at as u8));
        let sealed: Personal<String> = "personal1.38a1343b47b22db7acb6c107ca64db6b.rqw655ztvU2Go_6I0dpTLMQMjBPJJMwanxj_du4hV79mtLLE6PXWINHYEEZ0FReKRn3qiQIp-uvI1M7E4Mjb5Oya7LiyT8La.email:0a"
            .parse()
            .unwrap();
        assert_eq!((key_id(&secret), sealed.tag()), (sealed.key(), "email:0a"));
        assert_eq!(
            open(&secret, sealed.tag(), &sealed.sealed().unwrap()).unwrap().trim_ascii(),
            b"\"Ada\""
        );
        let found = [80, 136, 139, 48, 227, 124, 84, 153, 30, 147, 25, 156, 207, 181, 240, 186];
        assert_eq!(lookup(&secret, Label::try_from("email").unwrap(), b"\"Ada\"").hash, found);
        assert_eq!(fingerprint(&secret, b"Ada")[..8], [56, 119, 211, 20, 3, 204, 193, 0]);
    }
}

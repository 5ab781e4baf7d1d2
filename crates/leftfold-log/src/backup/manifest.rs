//! The manifest of a backup: what it consists of. It is replaced in one step, so a backup is
//! complete or not there.

use std::io;
use std::str::FromStr;

use leftfold_core::store::{Epoch, Hash, Head, Identity, Position, StoreId, Timestamp};
use uuid::Uuid;

use super::error::BackupError;
use crate::disk::Disk;

/// The name of the manifest.
pub(super) const MANIFEST: &str = "backup.manifest";
const FORMAT: &str = "leftfold backup 1";
/// A manifest has less than 200 bytes for each segment.
const BYTES_MAX: u64 = 1 << 30;

/// Parts of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupManifest {
    pub(super) identity: Identity,
    /// Durable end that was backed up.
    pub(super) head: Head,
    pub(super) segments: Vec<BackedUpSegment>,
}

/// A segment, or the beginning of one, that was backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BackedUpSegment {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Chain hash before its first group.
    pub(super) chain: Hash,
    /// BLAKE3 hash of the bytes.
    pub(super) digest: Hash,
}

impl BackupManifest {
    /// Reads the manifest of a directory; `None` if there is none.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, BackupError> {
        let file = match disk.open(MANIFEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = file.len()?;
        if len > BYTES_MAX {
            return Err(BackupError::damaged(MANIFEST, &"it is too large"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| BackupError::damaged(MANIFEST, &"it is no text"))?;
        let format = text.lines().next().unwrap_or_default();
        if format != FORMAT && format.starts_with("leftfold backup ") {
            let found = format.chars().take(64).collect();
            return Err(BackupError::OtherRelease { place: disk.place(), found });
        }
        let parsed = Self::parse(&text);
        parsed.map(Some).ok_or_else(|| {
            BackupError::damaged(MANIFEST, &"its checksum or a line of it is not as was written")
        })
    }

    /// Puts it in the place of the one before, durably.
    pub(super) fn replace(&self, disk: &dyn Disk) -> io::Result<()> {
        let temporary = format!("{MANIFEST}.tmp");
        match disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&temporary)?;
        file.write_all_at(self.text().as_bytes(), 0)?;
        file.sync()?;
        disk.rename(&temporary, MANIFEST)?;
        disk.sync_names()
    }

    fn text(&self) -> String {
        let Identity { store, epoch } = self.identity;
        let Head { position, chain, recorded_at } = self.head;
        let mut text = format!(
            "{FORMAT}\nstore {store}\nepoch {} {} {}\nend {position} {} {chain}\n",
            epoch.number,
            epoch.id,
            epoch.began_after,
            recorded_at.as_micros(),
        );
        for BackedUpSegment { number, bytes, chain, digest } in &self.segments {
            text.push_str(&format!("segment {number} {bytes} {chain} {digest}\n"));
        }
        let sum = blake3::hash(text.as_bytes()).to_hex();
        format!("{text}sum {sum}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let body = text.get(..=body.len())?;
        if *sum.strip_prefix("sum ")? != *blake3::hash(body.as_bytes()).to_hex() {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let store = StoreId(lines.next()?.strip_prefix("store ")?.parse().ok()?);
        let mut epoch = lines.next()?.strip_prefix("epoch ")?.split(' ');
        let number = next(&mut epoch)?;
        let (id, began_after) = (next::<Uuid>(&mut epoch)?, Position(next(&mut epoch)?));
        let mut end = lines.next()?.strip_prefix("end ")?.split(' ');
        let position = Position(next(&mut end)?);
        let recorded_at = Timestamp::from_micros(next(&mut end)?);
        let head = Head { position, chain: hash(end.next()?)?, recorded_at };
        let segment = |line: &str| {
            let mut words = line.strip_prefix("segment ")?.split(' ');
            let (number, bytes) = (next(&mut words)?, next(&mut words)?);
            let (chain, digest) = (hash(words.next()?)?, hash(words.next()?)?);
            Some(BackedUpSegment { number, bytes, chain, digest })
        };
        let segments: Vec<_> = lines.map(segment).collect::<Option<_>>()?;
        let numbered = segments.iter().zip(1..).all(|(segment, number)| segment.number == number);
        let identity = Identity { store, epoch: Epoch { id, number, began_after } };
        (numbered && !segments.is_empty()).then_some(Self { identity, head, segments })
    }
}

fn next<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<T> {
    words.next()?.parse().ok()
}

fn hash(text: &str) -> Option<Hash> {
    blake3::Hash::from_hex(text).ok().map(|hash| Hash(*hash.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_a_changed_one_is_not() {
        let segment = |number, bytes| BackedUpSegment {
            number,
            bytes,
            chain: Hash([1; 32]),
            digest: Hash([2; 32]),
        };
        let manifest = BackupManifest {
            identity: Identity { store: StoreId::random(), epoch: Epoch::first() },
            head: Head {
                position: Position(7),
                chain: Hash([3; 32]),
                recorded_at: Timestamp::from_micros(-5),
            },
            segments: vec![segment(1, 9_000), segment(2, 300)],
        };
        let text = manifest.text();
        assert_eq!(BackupManifest::parse(&text), Some(manifest));
        for (at, byte) in text.bytes().enumerate() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if byte == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(BackupManifest::parse(&changed), None, "byte {at}");
            assert_eq!(BackupManifest::parse(&text[..at]), None, "byte {at}");
        }
    }
}

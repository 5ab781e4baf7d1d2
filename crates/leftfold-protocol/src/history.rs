//! Pages of the history that the chain of hashes covers.

use bytes::Bytes;
use leftfold_core::store::{
    AppendsFrom, Hash, HistoryEnd, HistoryFrom, HistoryKind, HistoryLink, HistoryPage, HistoryRule,
    Position,
};

use crate::malformed::{Malformed, exactly, some};
use crate::wire;

impl From<HistoryFrom> for wire::HistoryPlace {
    fn from(from: HistoryFrom) -> Self {
        Self { link: Some(from.link.into()), known_bytes: from.known_bytes }
    }
}

impl TryFrom<wire::HistoryPlace> for HistoryFrom {
    type Error = Malformed;

    fn try_from(place: wire::HistoryPlace) -> Result<Self, Malformed> {
        let link = AppendsFrom::try_from(some("link", place.link)?)?;
        Ok(Self { link, known_bytes: place.known_bytes })
    }
}

impl From<HistoryLink> for wire::HistoryLink {
    fn from(link: HistoryLink) -> Self {
        let kind = match link.kind {
            HistoryKind::Records => wire::HistoryKind::Records,
            HistoryKind::Life => wire::HistoryKind::Life,
        };
        let end = |end: HistoryEnd| wire::HistoryEnd {
            hash: Bytes::copy_from_slice(&end.hash.0),
            position: end.position.0,
        };
        Self {
            kind: kind.into(),
            version: link.version,
            hashed: link.hashed,
            end: link.end.map(end),
        }
    }
}

impl TryFrom<wire::HistoryLink> for HistoryLink {
    type Error = Malformed;

    fn try_from(link: wire::HistoryLink) -> Result<Self, Malformed> {
        let kind = match link.kind() {
            wire::HistoryKind::Records => HistoryKind::Records,
            wire::HistoryKind::Life => HistoryKind::Life,
        };
        let end = |end: wire::HistoryEnd| {
            let hash = Hash(exactly("hash of a link", &end.hash)?);
            Ok::<_, Malformed>(HistoryEnd { hash, position: Position(end.position) })
        };
        let end = link.end.map(end).transpose()?;
        Ok(Self { kind, version: link.version, hashed: link.hashed, end })
    }
}

impl From<HistoryPage> for wire::HistoryPage {
    fn from(page: HistoryPage) -> Self {
        let rule = match page.rule {
            HistoryRule::Blake3 => wire::HistoryRule::Blake3,
            HistoryRule::Sha256Field => wire::HistoryRule::Sha256Field,
            // The client says that it does not know the rule.
            _ => wire::HistoryRule::Unknown,
        };
        Self {
            rule: rule.into(),
            before: Bytes::copy_from_slice(&page.before.0),
            links: page.links.into_iter().map(Into::into).collect(),
            next: Some(page.next.into()),
            head: Some(page.head.into()),
        }
    }
}

impl TryFrom<wire::HistoryPage> for HistoryPage {
    type Error = Malformed;

    fn try_from(page: wire::HistoryPage) -> Result<Self, Malformed> {
        let rule = match page.rule() {
            wire::HistoryRule::Blake3 => HistoryRule::Blake3,
            wire::HistoryRule::Sha256Field => HistoryRule::Sha256Field,
            wire::HistoryRule::Unknown => return Err(Malformed::Absent { field: "rule" }),
        };
        let links = page.links.into_iter().map(HistoryLink::try_from);
        Ok(Self {
            rule,
            before: Hash(exactly("hash before a page", &page.before)?),
            links: links.collect::<Result<_, _>>()?,
            next: some("next", page.next)?.try_into()?,
            head: some("head", page.head)?.try_into()?,
        })
    }
}

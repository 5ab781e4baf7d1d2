//! Fixture of the rules: a target, its home, and sessions that write what a rule says.

use std::time::Duration;

use leftfold_core::runtime::projection::{Place, ProjectionError, Rows, Session, Target};
use leftfold_core::store::Position;

use super::Subject;

/// Time in which a session must be gone after it was dropped.
const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A target at its home.
pub(super) struct TargetFixture<'s, S: Subject> {
    pub(super) subject: &'s S,
    pub(super) target: S::Target,
    pub(super) home: S::Home,
}

/// A session of the subject's target.
pub(super) type SessionOf<S> = <<S as Subject>::Target as Target>::Session;

/// One version of one projection, in its first lane.
pub(super) fn place(name: &'static str, version: u32) -> Place {
    Place { name, version, lane: 0 }
}

impl<'s, S: Subject> TargetFixture<'s, S> {
    pub(super) async fn new(subject: &'s S) -> Self {
        let home = subject.home().await;
        let target = subject.target(&home).await;
        Self { subject, target, home }
    }

    /// The target as another process has it.
    pub(super) async fn another(&self) -> S::Target {
        self.subject.target(&self.home).await
    }

    /// A session, as soon as the session that was dropped before is gone.
    pub(super) async fn open(&self, place: &Place) -> SessionOf<S> {
        Self::open_at(&self.target, place).await
    }

    pub(super) async fn open_at(target: &S::Target, place: &Place) -> SessionOf<S> {
        let opening = async {
            loop {
                match target.open(place).await {
                    Ok(session) => return session,
                    Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, opening).await {
            Ok(session) => session,
            Err(_) => panic!("{place:?} cannot be opened: {:?}", target.open(place).await.err()),
        }
    }

    /// Discards a version, as soon as the session that was dropped before is gone.
    pub(super) async fn discarded(&self, name: &str, version: u32) {
        let discarding = async {
            while self.target.discard(name, version).await.is_err() {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        let discarded = tokio::time::timeout(PATIENCE, discarding).await;
        assert!(discarded.is_ok(), "version {version} of {name} cannot be discarded");
    }

    /// A session of a version whose rows are set up.
    pub(super) async fn set_up(&self, place: &Place) -> SessionOf<S> {
        let mut session = self.open(place).await;
        done(session.begin().await);
        done(self.subject.set_up(session.rows()).await);
        done(session.commit().await);
        session
    }

    pub(super) async fn write(
        &self,
        session: &mut SessionOf<S>,
        position: u64,
        rows: &[(&str, &str)],
    ) {
        session.at(Position(position));
        for (key, value) in rows {
            done(self.subject.write(session.rows(), key, value).await);
        }
    }

    pub(super) async fn remove(&self, session: &mut SessionOf<S>, position: u64, key: &str) {
        session.at(Position(position));
        done(self.subject.remove(session.rows(), key).await);
    }

    /// Writes one row and one note in a transaction of their own.
    pub(super) async fn commit(
        &self,
        session: &mut SessionOf<S>,
        position: u64,
        key: &str,
        value: &str,
    ) {
        done(session.begin().await);
        self.write(session, position, &[(key, value)]).await;
        done(session.note(key, Some(value.as_bytes())).await);
        done(session.commit().await);
    }

    pub(super) async fn fail(&self, rows: &mut Rows<S::Target>) -> ProjectionError {
        self.subject.fail(rows).await
    }

    pub(super) async fn row(&self, place: &Place, key: &str) -> Option<String> {
        self.subject.read(&self.target, place.name, place.version, key).await
    }

    pub(super) async fn served(&self, name: &str, key: &str) -> Option<String> {
        self.subject.served(&self.target, name, key).await
    }
}

/// Returns the value of a result that must be a success.
pub(super) fn done<T>(result: Result<T, ProjectionError>) -> T {
    result.unwrap_or_else(|error| panic!("the target refused what it should do: {error}"))
}

/// The notes that begin so, in a transaction of their own.
pub(super) async fn notes(session: &mut impl Session, prefix: &str) -> Vec<(String, Vec<u8>)> {
    done(session.begin().await);
    let notes = done(session.notes(prefix, None, 1_000).await);
    done(session.commit().await);
    notes
}

/// The notes as texts.
pub(super) fn texts(notes: &[(String, Vec<u8>)]) -> Vec<(&str, &str)> {
    notes
        .iter()
        .map(|(key, value)| (key.as_str(), std::str::from_utf8(value).unwrap_or("not UTF-8")))
        .collect()
}

//! The thread that writes the key file: it takes what waits, makes it durable at once, and answers.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyRecord, KeyState, KeyStoreError, Lookup, Randomless, Ring, Token,
};
use leftfold_core::store::{Label, Timestamp};
use tokio::sync::oneshot;

use super::SharedKeys;
use super::file::OpenKeyFile;

type AnswerSender<T> = oneshot::Sender<Result<T, KeyStoreError>>;

/// A request that may have to be written.
pub(super) enum KeyRequest {
    Draw { subject: Label, answer: AnswerSender<KeyState> },
    Token { value: Lookup, owner: KeyId, since: Timestamp, answer: AnswerSender<Option<Token>> },
    Destroy { key: DestroyedKey, answer: AnswerSender<()> },
    Release { values: Vec<(Lookup, KeyId)>, answer: AnswerSender<()> },
}

/// Requests that are made durable at once at most: their records fit into a frame.
const BATCH_MAX: usize = 200;

/// Tells the caller of a request its result.
type AnswerFn = Box<dyn FnOnce(Result<(), KeyStoreError>) + Send>;

pub(super) struct KeyWriter {
    file: OpenKeyFile,
    shared: Arc<SharedKeys>,
    /// Records that are to be made durable: only of new things, or only of destructions.
    records: Vec<KeyRecord>,
    waiting: Vec<AnswerFn>,
}

impl KeyWriter {
    pub(super) fn new(file: OpenKeyFile, shared: Arc<SharedKeys>) -> Self {
        Self { file, shared, records: Vec::new(), waiting: Vec::new() }
    }

    /// Answers until nobody can ask any more.
    pub(super) fn run(mut self, requests: &Receiver<KeyRequest>) {
        while let Ok(first) = requests.recv() {
            self.take(first);
            for request in std::iter::from_fn(|| requests.try_recv().ok()).take(BATCH_MAX - 1) {
                self.take(request);
            }
            self.write();
        }
    }

    fn take(&mut self, request: KeyRequest) {
        // What rests on a record that is not durable yet is looked at when it is.
        if self.records.iter().any(|record| request.meets(record)) {
            self.write();
        }
        match request {
            KeyRequest::Draw { subject, answer } => {
                let drawn = self.ring().draw(&subject);
                self.keep(drawn, answer);
            }
            KeyRequest::Token { value, owner, since, answer } => {
                let token = self.ring().token(&value, owner, since);
                let token = token.map(|token| {
                    token.map_or((None, None), |(token, record)| (Some(token), record))
                });
                self.keep(token, answer);
            }
            KeyRequest::Destroy { key, answer } => {
                let is_destroyed = matches!(self.ring().key(key.id), Some(KeyState::Destroyed(_)));
                self.keep(Ok(((), (!is_destroyed).then_some(KeyRecord::Destroyed(key)))), answer);
            }
            KeyRequest::Release { values, answer } => drop(answer.send(self.release(&values))),
        }
    }

    /// Writes the file without tokens that are released.
    fn release(&mut self, values: &[(Lookup, KeyId)]) -> Result<(), KeyStoreError> {
        let mut after = self.ring().clone();
        values.iter().for_each(|(value, owner)| after.release(value, *owner));
        self.file.rewrite(after.records())?;
        *self.shared.ring.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }

    /// Answers when the record is durable; at once if there is none.
    fn keep<T: Send + 'static>(
        &mut self,
        kept: Result<(T, Option<KeyRecord>), Randomless>,
        answer: AnswerSender<T>,
    ) {
        // Anyone who has left needs no answer.
        match kept {
            Ok((value, None)) => drop(answer.send(Ok(value))),
            Ok((value, Some(record))) => {
                self.records.push(record);
                self.waiting.push(Box::new(move |done| drop(answer.send(done.map(|()| value)))));
            }
            Err(error) => {
                let (place, detail) = (self.shared.place.clone(), error.to_string());
                drop(answer.send(Err(KeyStoreError::Failed { place, detail })));
            }
        }
    }

    /// Makes durable what there is, shows it, and answers.
    fn write(&mut self) {
        let records = std::mem::take(&mut self.records);
        let done = match records.first() {
            None => Ok(()),
            Some(KeyRecord::Destroyed(_)) => {
                let mut after = self.ring().clone();
                records.iter().cloned().for_each(|record| after.take(record));
                self.file.rewrite(after.records())
            }
            Some(_) => self.file.append(&records),
        };
        if done.is_ok() {
            let mut ring = self.shared.ring.write().unwrap_or_else(PoisonError::into_inner);
            records.into_iter().for_each(|record| ring.take(record));
        }
        self.waiting.drain(..).for_each(|tell| tell(done.clone()));
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.shared.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyRequest {
    /// Returns if the answer may be another one once a record is durable, or the two cannot be
    /// written at once.
    fn meets(&self, record: &KeyRecord) -> bool {
        match (self, record) {
            (Self::Draw { subject, .. }, KeyRecord::Key { subject: other, .. }) => subject == other,
            (Self::Token { value, .. }, KeyRecord::Token { value: other, .. }) => value == other,
            (Self::Destroy { key, .. }, KeyRecord::Destroyed(other)) => key.id == other.id,
            (Self::Destroy { .. } | Self::Release { .. }, _) | (_, KeyRecord::Destroyed(_)) => true,
            (Self::Draw { .. }, KeyRecord::Token { .. })
            | (Self::Token { .. }, KeyRecord::Key { .. }) => false,
        }
    }
}

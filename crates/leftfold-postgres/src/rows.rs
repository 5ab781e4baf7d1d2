//! Access to the rows for the code of users.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type};
use tokio_postgres::{Client, Error, Statement};

/// Statements that are kept prepared; one more discards them all.
const STATEMENTS_MAX: usize = 256;
/// Statements that were sent and not answered, at most; one more waits for the oldest.
const SENT_MAX: usize = 256;

/// A [`Client`] with a transaction open, and statements that are kept prepared. It cannot begin a
/// transaction; a `SAVEPOINT` is a statement as any other.
#[derive(Debug)]
pub struct Rows {
    client: Arc<Client>,
    prepared: Mutex<HashMap<String, Statement>>,
    sent: Mutex<SentStatements>,
}

/// Answers that are to come, in the order of their statements.
#[derive(Default)]
struct SentStatements(VecDeque<StatementAnswer>);

type StatementAnswer = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send>>;

impl std::fmt::Debug for SentStatements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} statements without an answer", self.0.len())
    }
}

impl Rows {
    pub(crate) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), prepared: Mutex::default(), sent: Mutex::default() }
    }

    /// Sends a statement and does not wait for its answer. The statements of a transaction then
    /// share a few round trips to the server, instead of one each; their order stays.
    ///
    /// The statement is kept prepared, as [`prepare_cached`](Self::prepare_cached) has it. At most
    /// 256 statements have no answer; one more waits for the oldest. Use `execute` if the number of
    /// changed rows matters.
    ///
    /// ```no_run
    /// # use leftfold_postgres::Rows;
    /// # use leftfold_postgres::tokio_postgres::Error;
    /// async fn add(rows: &Rows, page: &str) -> Result<(), Error> {
    ///     rows.send("UPDATE visits SET count = count + 1 WHERE page = $1", &[&page]).await
    /// }
    /// ```
    ///
    /// # Errors
    /// What the server says about the statement when it is prepared, or about an earlier one. An
    /// error of this one is returned by a later `send`, by [`answered`](Self::answered), or by the
    /// commit, which then does not take place: the projection goes on as after any other error of
    /// an event. A statement behind it that is not sent by `send` says only that the transaction is
    /// aborted.
    pub async fn send(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        let statement = match self.prepare_cached(statement).await {
            Ok(statement) => statement,
            Err(error) => {
                // It may say only that the transaction was aborted by an earlier statement.
                self.answered().await?;
                return Err(error);
            }
        };
        self.send_prepared(&statement, parameters).await
    }

    /// Sends a prepared statement and does not wait for its answer, as [`send`](Self::send) does.
    pub(crate) async fn send_prepared(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        let Some(encoded) = EncodedParameter::all(statement, parameters) else {
            // This fails, and says why they do not suit.
            return self.client.execute(statement, parameters).await.map(drop);
        };
        let (client, statement) = (Arc::clone(&self.client), statement.clone());
        let mut answer: StatementAnswer =
            Box::pin(async move { client.execute_raw(&statement, encoded).await });
        // It is sent when it is polled first. Nobody is woken by its answer until it is waited for.
        let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(answered) => answered.map(drop),
            Poll::Pending => {
                self.sent().0.push_back(answer);
                self.answered_but(SENT_MAX).await
            }
        }
    }

    /// Waits for the answers to all statements that were [sent](Self::send).
    ///
    /// # Errors
    /// That of the first one that failed.
    pub async fn answered(&self) -> Result<(), Error> {
        self.answered_but(0).await
    }

    /// Waits until so many answers are missing.
    async fn answered_but(&self, missing: usize) -> Result<(), Error> {
        poll_fn(|context| {
            let mut sent = self.sent();
            while sent.0.len() > missing {
                let Some(oldest) = sent.0.front_mut() else { break };
                let Poll::Ready(answered) = oldest.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                sent.0.pop_front();
                answered?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits for none of the answers any more: what they are about is undone.
    pub(crate) fn forget_sent(&self) {
        self.sent().0.clear();
    }

    fn sent(&self) -> MutexGuard<'_, SentStatements> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares a statement, or finds it prepared: without it each `execute` of a text asks the
    /// server twice. At most 256 different texts are kept, so values are parameters and no part of
    /// the text.
    ///
    /// ```no_run
    /// use leftfold_postgres::Rows;
    /// use leftfold_postgres::tokio_postgres::Error;
    ///
    /// async fn add(rows: &Rows, page: &str) -> Result<u64, Error> {
    ///     let statement = "UPDATE visits SET count = count + 1 WHERE page = $1";
    ///     rows.execute(&rows.prepare_cached(statement).await?, &[&page]).await
    /// }
    /// ```
    ///
    /// # Errors
    /// What the server says about the statement.
    pub async fn prepare_cached(&self, text: &str) -> Result<Statement, Error> {
        if let Some(kept) = self.prepared().get(text) {
            return Ok(kept.clone());
        }
        let statement = self.client.prepare(text).await?;
        let mut prepared = self.prepared();
        if prepared.len() == STATEMENTS_MAX {
            prepared.clear();
        }
        prepared.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// After an error none is trusted: a table may have changed under a plan.
    pub(crate) fn forget_prepared(&self) {
        self.prepared().clear();
    }

    fn prepared(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Rows {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A parameter as the server takes it, or NULL.
#[derive(Debug)]
struct EncodedParameter(Option<BytesMut>);

impl EncodedParameter {
    /// Encodes the parameters of a statement; `None` if they do not suit it.
    fn all(statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Option<Vec<Self>> {
        if parameters.len() != statement.params().len() {
            return None;
        }
        let each = parameters.iter().zip(statement.params());
        each.map(|(parameter, as_type)| {
            let mut bytes = BytesMut::new();
            let is_null = parameter.to_sql_checked(as_type, &mut bytes).ok()?;
            Some(Self(matches!(is_null, IsNull::No).then_some(bytes)))
        })
        .collect()
    }
}

impl ToSql for EncodedParameter {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(bytes) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

//! The calls of a key store, as statements on its tables.

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyState, Lookup, OutlivedValue, Secret, SubjectKey, Token,
};
use leftfold_core::store::{Label, Timestamp};
use tokio_postgres::Row;

use super::calls::{KeyConnections, KeyLock, KeyTransaction};
use super::error::CallFailure;
use crate::store::text::{original, stored};
use crate::store::values::DatabaseTime;

/// Columns of a key that is held, and of one that was destroyed.
const HELD: &str = "id, subject, secret, NULL::timestamptz, NULL::bigint AS number";
const DESTROYED: &str = "id, subject, NULL::bytea, at, number";

/// The tables of a key store, in its schema.
#[derive(Debug)]
pub(super) struct KeyTables {
    /// Quoted name of the schema.
    pub(super) schema: String,
    pub(super) connections: KeyConnections,
}

impl KeyTables {
    pub(super) async fn draw(&self, subject: Label) -> Result<KeyState, CallFailure> {
        if let Some(known) = self.key_of(&subject).await? {
            return Ok(known);
        }
        let schema = &self.schema;
        let key = SubjectKey::new(subject, Secret::random()?);
        // Another process may have drawn one, or have destroyed it, since.
        let insert = format!(
            "INSERT INTO {schema}.keys (id, subject, secret)
            SELECT $1::bytea, $2::text, $3::bytea
            WHERE NOT EXISTS (SELECT FROM {schema}.destroyed WHERE subject = $2::text)
            ON CONFLICT DO NOTHING"
        );
        let transaction = self.connections.begin(KeyLock::Drawing).await?;
        let (id, name) = (key.id.0.as_slice(), stored(&key.subject));
        transaction.execute(&insert, &[&id, &name, &key.secret.0.as_slice()]).await?;
        let rows = transaction.query(&self.ask_key_of(), &[&name]).await?;
        let kept = rows.first().map(key_state).transpose()?;
        transaction.commit().await?;
        kept.ok_or_else(|| damaged("a key that was drawn is not there"))
    }

    pub(super) async fn key_of(&self, subject: &Label) -> Result<Option<KeyState>, CallFailure> {
        let rows = self.connections.read(&self.ask_key_of(), &[&stored(subject)]).await?;
        rows.first().map(key_state).transpose()
    }

    pub(super) async fn key(&self, id: KeyId) -> Result<Option<KeyState>, CallFailure> {
        let schema = &self.schema;
        let ask = format!(
            "SELECT {HELD} FROM {schema}.keys WHERE id = $1
            UNION ALL SELECT {DESTROYED} FROM {schema}.destroyed WHERE id = $1"
        );
        let rows = self.connections.read(&ask, &[&id.0.as_slice()]).await?;
        rows.first().map(key_state).transpose()
    }

    fn ask_key_of(&self) -> String {
        let schema = &self.schema;
        format!(
            "SELECT {HELD} FROM {schema}.keys WHERE subject = $1
            UNION ALL SELECT {DESTROYED} FROM {schema}.destroyed WHERE subject = $1
            ORDER BY number DESC NULLS FIRST LIMIT 1"
        )
    }

    pub(super) async fn token(
        &self,
        value: &Lookup,
        owner: KeyId,
        since: Timestamp,
    ) -> Result<Option<Token>, CallFailure> {
        let schema = &self.schema;
        let (name, hash, id) = (stored(&value.name), value.hash.as_slice(), owner.0.as_slice());
        let ask = format!(
            "SELECT t.token FROM {schema}.tokens t JOIN {schema}.owners o USING (name, hash)
            WHERE t.name = $1 AND t.hash = $2 AND o.owner = $3"
        );
        let rows = self.connections.read(&ask, &[&name, &hash, &id]).await?;
        if let Some(row) = rows.first() {
            return token_of(row, 0).map(Some);
        }
        let transaction = self.connections.begin(KeyLock::Drawing).await?;
        let has_key = format!("SELECT FROM {schema}.keys WHERE id = $1");
        if transaction.query(&has_key, &[&id]).await?.is_empty() {
            transaction.commit().await?;
            return Ok(None);
        }
        let insert = format!(
            "INSERT INTO {schema}.tokens (name, hash, token) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING"
        );
        let drawn = Token::random()?;
        transaction.execute(&insert, &[&name, &hash, &drawn.0.as_slice()]).await?;
        let own = format!(
            "INSERT INTO {schema}.owners (owner, name, hash, since) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING"
        );
        transaction.execute(&own, &[&id, &name, &hash, &DatabaseTime(since)]).await?;
        let rows = transaction.query(&self.ask_token(), &[&name, &hash]).await?;
        let kept = rows.first().map(|row| token_of(row, 0)).transpose()?;
        transaction.commit().await?;
        kept.map(Some).ok_or_else(|| damaged("a token that was drawn is not there"))
    }

    pub(super) async fn find(&self, value: &Lookup) -> Result<Option<Token>, CallFailure> {
        let values = (stored(&value.name), value.hash.as_slice());
        let rows = self.connections.read(&self.ask_token(), &[&values.0, &values.1]).await?;
        rows.first().map(|row| token_of(row, 0)).transpose()
    }

    fn ask_token(&self) -> String {
        format!("SELECT token FROM {}.tokens WHERE name = $1 AND hash = $2", self.schema)
    }

    pub(super) async fn outlived(&self) -> Result<Vec<OutlivedValue>, CallFailure> {
        let schema = &self.schema;
        let ask = format!(
            "SELECT t.name, t.hash, t.token, o.owner, o.since
            FROM {schema}.tokens t JOIN {schema}.owners o USING (name, hash)
            WHERE t.outlives ORDER BY t.name, t.hash"
        );
        let mut outlived: Vec<OutlivedValue> = Vec::new();
        for row in self.connections.read(&ask, &[]).await? {
            let value = Lookup { name: label_of(row.try_get(0)?)?, hash: bytes_of(&row, 1)? };
            let owner = (KeyId(bytes_of(&row, 3)?), row.try_get::<_, DatabaseTime>(4)?.0);
            match outlived.last_mut().filter(|last| last.value == value) {
                Some(last) => last.owners.push(owner),
                None => {
                    let token = token_of(&row, 2)?;
                    outlived.push(OutlivedValue { value, token, owners: vec![owner] });
                }
            }
        }
        Ok(outlived)
    }

    pub(super) async fn release(&self, values: &[(Lookup, KeyId)]) -> Result<bool, CallFailure> {
        let schema = &self.schema;
        let leave =
            format!("DELETE FROM {schema}.owners WHERE owner = $1 AND name = $2 AND hash = $3");
        let end = format!(
            "DELETE FROM {schema}.tokens t WHERE name = $1 AND hash = $2 AND NOT EXISTS
                (SELECT FROM {schema}.owners o WHERE o.name = t.name AND o.hash = t.hash)"
        );
        let transaction = self.connections.begin(KeyLock::Destroying).await?;
        let mut deleted = 0;
        for (value, owner) in values {
            let (name, hash) = (stored(&value.name), value.hash.as_slice());
            deleted += transaction.execute(&leave, &[&owner.0.as_slice(), &name, &hash]).await?;
            deleted += transaction.execute(&end, &[&name, &hash]).await?;
        }
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// Destroys a key, and returns if rows were deleted.
    pub(super) async fn destroy(&self, key: &DestroyedKey) -> Result<bool, CallFailure> {
        let schema = &self.schema;
        let (id, subject) = (key.id.0.as_slice(), stored(&key.subject));
        let transaction = self.connections.begin(KeyLock::Destroying).await?;
        let held = format!("SELECT id FROM {schema}.keys WHERE id = $1 OR subject = $2");
        let rows = transaction.query(&held, &[&id, &subject]).await?;
        let held = rows.iter().map(|row| bytes_of(row, 0)).collect::<Result<Vec<_>, _>>()?;
        for held in &held {
            self.delete_key(&transaction, KeyId(*held)).await?;
        }
        // The one that was asked for is written last: it is the one that the subject had.
        let others = held.iter().map(<[u8; 16]>::as_slice).filter(|held| *held != id);
        let note = format!(
            "INSERT INTO {schema}.destroyed (id, subject, at) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING"
        );
        for id in others.chain([id]) {
            transaction.execute(&note, &[&id, &subject, &DatabaseTime(key.at)]).await?;
        }
        transaction.commit().await?;
        Ok(!held.is_empty())
    }

    async fn delete_key(
        &self,
        transaction: &KeyTransaction<'_>,
        id: KeyId,
    ) -> Result<(), CallFailure> {
        let schema = &self.schema;
        // A token lives on if somebody else has the value.
        let statements = [
            format!(
                "UPDATE {schema}.tokens t SET outlives = true FROM {schema}.owners o
                WHERE o.owner = $1 AND o.name = t.name AND o.hash = t.hash"
            ),
            format!(
                "WITH left_behind AS
                    (DELETE FROM {schema}.owners WHERE owner = $1 RETURNING name, hash)
                DELETE FROM {schema}.tokens t USING left_behind l
                WHERE l.name = t.name AND l.hash = t.hash AND NOT EXISTS
                    (SELECT FROM {schema}.owners o
                    WHERE o.name = t.name AND o.hash = t.hash AND o.owner <> $1)"
            ),
            format!("DELETE FROM {schema}.keys WHERE id = $1"),
        ];
        for statement in &statements {
            transaction.execute(statement, &[&id.0.as_slice()]).await?;
        }
        Ok(())
    }

    pub(super) async fn destroyed(&self) -> Result<Vec<DestroyedKey>, CallFailure> {
        let ask = format!("SELECT {DESTROYED} FROM {}.destroyed", self.schema);
        self.connections.read(&ask, &[]).await?.iter().map(destroyed_key).collect()
    }

    /// Asks the server to take deleted rows out of the files of the tables, and returns if it
    /// warned that it does not.
    pub(super) async fn vacuum(&self) -> Result<bool, CallFailure> {
        let schema = &self.schema;
        let tables = format!("{schema}.keys, {schema}.tokens, {schema}.owners");
        self.connections.run_alone(&format!("VACUUM (SKIP_LOCKED) {tables}")).await
    }
}

fn key_state(row: &Row) -> Result<KeyState, CallFailure> {
    if row.try_get::<_, Option<&[u8]>>(2)?.is_none() {
        return destroyed_key(row).map(KeyState::Destroyed);
    }
    let key = SubjectKey::new(label_of(row.try_get(1)?)?, Secret(bytes_of(row, 2)?));
    if key.id.0 != bytes_of(row, 0)? {
        return Err(damaged("a key has another id than its secret"));
    }
    Ok(KeyState::Held(key))
}

fn destroyed_key(row: &Row) -> Result<DestroyedKey, CallFailure> {
    Ok(DestroyedKey {
        id: KeyId(bytes_of(row, 0)?),
        subject: label_of(row.try_get(1)?)?,
        at: row.try_get::<_, DatabaseTime>(3)?.0,
    })
}

fn token_of(row: &Row, column: usize) -> Result<Token, CallFailure> {
    bytes_of(row, column).map(Token)
}

fn label_of(text: String) -> Result<Label, CallFailure> {
    Label::new(original(text)).map_err(|error| damaged(&error.to_string()))
}

fn bytes_of<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], CallFailure> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| damaged("a column of bytes has another length"))
}

fn damaged(detail: &str) -> CallFailure {
    CallFailure::NotDone(format!("its tables are damaged, bring back a copy of them: {detail}"))
}

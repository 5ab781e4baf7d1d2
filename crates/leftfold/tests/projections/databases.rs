//! Rows of accounts in each of the databases, written as a user would.

use leftfold::runtime::projection::ProjectionError;
use leftfold_postgres::{Postgres, PostgresError};
use leftfold_redis::redis::AsyncTypedCommands;
use leftfold_redis::{Redis, RedisError, Writes};
use leftfold_sqlite::rusqlite::Connection;
use leftfold_sqlite::{Sqlite, SqliteError};

use crate::payments::{Balance, Balances, Database};

const TABLE: &str = "CREATE TABLE accounts (account TEXT PRIMARY KEY, sum BIGINT NOT NULL, payments BIGINT NOT NULL)";
/// An amount that is refused is one of SQL, not of ours.
const PAYMENTS: &str =
    "CREATE TABLE amounts (account TEXT PRIMARY KEY, last BIGINT NOT NULL CHECK (last >= 0))";
const SELECT: &str = "SELECT account, sum, payments FROM accounts";

impl Database for Sqlite {
    async fn set_up(rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(&format!("{TABLE}; {PAYMENTS}"))?)
    }

    async fn add(rows: &mut Connection, account: &str, amount: i64) -> Result<(), ProjectionError> {
        let add = "INSERT INTO accounts VALUES (?1, ?2, 1)
            ON CONFLICT (account) DO UPDATE SET sum = sum + excluded.sum, payments = payments + 1";
        rows.prepare_cached(add)?.execute((account, amount))?;
        rows.prepare_cached("INSERT OR REPLACE INTO amounts VALUES (?1, ?2)")?
            .execute((account, amount))?;
        Ok(())
    }

    async fn balances(&self, name: &str) -> Balances {
        let read = self.reader_of(name).read(|rows| {
            let mut select = rows.prepare(SELECT)?;
            let balances = select.query_map([], |row| {
                Ok((row.get(0)?, Balance { sum: row.get(1)?, payments: row.get(2)? }))
            })?;
            balances.collect()
        });
        match read {
            Err(SqliteError::NothingServes { .. }) => Balances::new(),
            read => read.unwrap(),
        }
    }
}

impl Database for Postgres {
    async fn set_up(rows: &mut leftfold_postgres::Rows) -> Result<(), ProjectionError> {
        Ok(rows.batch_execute(&format!("{TABLE}; {PAYMENTS}")).await?)
    }

    async fn add(
        rows: &mut leftfold_postgres::Rows,
        account: &str,
        amount: i64,
    ) -> Result<(), ProjectionError> {
        let add = "WITH last AS (INSERT INTO amounts VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET last = excluded.last)
            INSERT INTO accounts AS a VALUES ($1, $2, 1)
            ON CONFLICT (account) DO UPDATE SET sum = a.sum + excluded.sum, payments = a.payments + 1";
        let add = rows.prepare_cached(add).await?;
        rows.execute(&add, &[&account, &amount]).await?;
        Ok(())
    }

    async fn balances(&self, name: &str) -> Balances {
        let rows = match self.reader_of(name).read().await {
            Err(PostgresError::NothingServes { .. }) => return Balances::new(),
            rows => rows.unwrap(),
        };
        let found = rows.query(SELECT, &[]).await.unwrap();
        found
            .iter()
            .map(|row| (row.get(0), Balance { sum: row.get(1), payments: row.get(2) }))
            .collect()
    }
}

impl Database for Redis {
    async fn set_up(_: &mut Writes) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn add(rows: &mut Writes, account: &str, amount: i64) -> Result<(), ProjectionError> {
        if amount < 0 {
            // There is no statement that Redis could refuse, but a key.
            rows.put("", "")?;
        }
        let Balance { sum, payments } =
            rows.read(account).await?.as_deref().map(balance).unwrap_or_default();
        Ok(rows.put(account, format!("{} {}", sum + amount, payments + 1))?)
    }

    async fn balances(&self, name: &str) -> Balances {
        let reader = self.reader_of(name);
        let prefix = match reader.prefix().await {
            Err(RedisError::NothingServes { .. }) => return Balances::new(),
            prefix => prefix.unwrap(),
        };
        let mut connection = self.client().get_multiplexed_async_connection().await.unwrap();
        let keys = connection.keys(format!("{prefix}*")).await.unwrap();
        let accounts: Vec<&str> = keys.iter().filter_map(|key| key.strip_prefix(&prefix)).collect();
        let rows = reader.read_all(&accounts).await.unwrap();
        accounts
            .into_iter()
            .zip(rows)
            .map(|(account, row)| (account.to_owned(), balance(&row.unwrap())))
            .collect()
    }
}

fn balance(row: &[u8]) -> Balance {
    let (sum, payments) = std::str::from_utf8(row).unwrap().split_once(' ').unwrap();
    Balance { sum: sum.parse().unwrap(), payments: payments.parse().unwrap() }
}

//! PostgreSQL against the rules for targets.

use leftfold_core::runtime::projection::{ProjectionError, Target};
use leftfold_postgres::tokio_postgres::Error;
use leftfold_postgres::{Postgres, PostgresError, Rows};
use leftfold_proving::PostgresServer;
use leftfold_testing::target::{Subject, conformance, following};

#[derive(Clone)]
struct Databases;

impl Subject for Databases {
    type Target = Postgres;
    type Home = String;

    async fn home(&self) -> String {
        PostgresServer::shared().database("rows")
    }

    async fn target(&self, home: &String) -> Postgres {
        Postgres::at(home).unwrap()
    }

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        Ok(rows
            .batch_execute("CREATE TABLE cats (name text PRIMARY KEY, colour text NOT NULL)")
            .await?)
    }

    async fn write(&self, rows: &mut Rows, key: &str, value: &str) -> Result<(), ProjectionError> {
        let upsert = "INSERT INTO cats VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET colour = excluded.colour";
        let upsert = rows.prepare_cached(upsert).await?;
        rows.execute(&upsert, &[&key, &value]).await?;
        Ok(())
    }

    async fn remove(&self, rows: &mut Rows, key: &str) -> Result<(), ProjectionError> {
        rows.execute("DELETE FROM cats WHERE name = $1", &[&key]).await?;
        Ok(())
    }

    async fn fail(&self, rows: &mut Rows) -> ProjectionError {
        rows.execute("INSERT INTO dogs VALUES (1)", &[]).await.unwrap_err().into()
    }

    async fn read(&self, target: &Postgres, name: &str, version: u32, key: &str) -> Option<String> {
        if !target.versions(name).await.unwrap().contains(&version) {
            return None;
        }
        let read = target.reader_of(name).of_version(version).read().await.unwrap();
        colour(&read, key).await.unwrap()
    }

    async fn served(&self, target: &Postgres, name: &str, key: &str) -> Option<String> {
        match target.reader_of(name).read().await {
            Err(PostgresError::NothingServes { .. }) => None,
            read => colour(&read.unwrap(), key).await.unwrap(),
        }
    }
}

async fn colour(rows: &Rows, name: &str) -> Result<Option<String>, Error> {
    let found = rows.query_opt("SELECT colour FROM cats WHERE name = $1", &[&name]).await?;
    found.map(|row| row.try_get(0)).transpose()
}

#[tokio::test]
async fn postgres_is_a_target() {
    conformance(&Databases).await;
    following(&Databases).await;
}

//! Redis against the rules for targets.

use leftfold_core::runtime::projection::ProjectionError;
use leftfold_proving::RedisServer;
use leftfold_redis::{Redis, RedisError, Writes};
use leftfold_testing::target::{Subject, conformance, following};

#[derive(Clone)]
struct Databases;

impl Subject for Databases {
    type Target = Redis;
    type Home = String;

    async fn home(&self) -> String {
        RedisServer::shared().database()
    }

    async fn target(&self, home: &String) -> Redis {
        Redis::at(home).unwrap()
    }

    async fn set_up(&self, _: &mut Writes) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn write(
        &self,
        rows: &mut Writes,
        key: &str,
        value: &str,
    ) -> Result<(), ProjectionError> {
        Ok(rows.put(key, value)?)
    }

    async fn remove(&self, rows: &mut Writes, key: &str) -> Result<(), ProjectionError> {
        Ok(rows.remove(key)?)
    }

    async fn fail(&self, rows: &mut Writes) -> ProjectionError {
        rows.put("", "a cat without a name").unwrap_err().into()
    }

    async fn read(&self, target: &Redis, name: &str, version: u32, key: &str) -> Option<String> {
        text(target.reader_of(name).of_version(version).read(key).await.unwrap())
    }

    async fn served(&self, target: &Redis, name: &str, key: &str) -> Option<String> {
        match target.reader_of(name).read(key).await {
            Err(RedisError::NothingServes { .. }) => None,
            found => text(found.unwrap()),
        }
    }
}

fn text(row: Option<Vec<u8>>) -> Option<String> {
    row.map(|row| String::from_utf8(row).unwrap())
}

#[tokio::test]
async fn redis_is_a_target() {
    conformance(&Databases).await;
    following(&Databases).await;
}

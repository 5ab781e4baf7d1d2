//! Costs of a cascade to very many children.

use std::time::Instant;

use examples::figures::{memory, processor_time, seconds};
use leftfold::prelude::*;
use tokio::task::JoinSet;

use crate::Failure;
use crate::cascade::CityCascade;
use crate::domain::{City, CityCommand, Company, CompanyCommand, CompanyEvent};

/// Companies that are founded at once.
const UNDER_WAY: u32 = 256;

/// Disables and enables a city with so many companies, and tells how long it takes until each of
/// them knows.
pub(crate) async fn measure(companies: u32) -> Result<(), Failure> {
    let place = tempfile::Builder::new().prefix("leftfold-").tempdir()?;
    let path = place.path().join("store");
    let store =
        leftfold::open(path.to_str().ok_or("the directory for temporary files is not UTF-8")?)
            .await?;
    let running = Runtime::new(&store).process::<CityCascade>().start().await?;
    let began = Instant::now();
    found(&store, companies).await?;
    println!("{companies} companies founded in {}", seconds(began.elapsed()));
    for command in [CityCommand::Disable, CityCommand::Enable] {
        let (began, worked) = (Instant::now(), processor_time());
        let news = store.follow::<CompanyEvent>(store.head().position)?;
        store.aggregate::<City>().execute("lyon", command.clone()).await?;
        all_told(news, companies).await?;
        let worked =
            processor_time().zip(worked).map(|(now, then)| seconds(now.saturating_sub(then)));
        println!(
            "{command:?}: each company knows it after {}, {} of processors; {}",
            seconds(began.elapsed()),
            worked.unwrap_or_default(),
            memory()
        );
    }
    let parked = running.processes().parked(CityCascade::NAME).await?;
    assert!(parked.is_empty(), "the cascade is parked: {parked:?}");
    running.stop().await?;
    Ok(store.close().await?)
}

async fn found(store: &Store, companies: u32) -> Result<(), Failure> {
    let mut workers = JoinSet::new();
    for worker in 0..UNDER_WAY {
        let all = store.aggregate::<Company>();
        workers.spawn(async move {
            for company in (worker..companies).step_by(UNDER_WAY as usize) {
                all.execute(&company.to_string(), CompanyCommand::Create { city: "lyon".into() })
                    .await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

/// Waits until so many companies were switched.
async fn all_told(
    mut news: leftfold::fold::Following<CompanyEvent>,
    companies: u32,
) -> Result<(), Failure> {
    let mut waiting = companies;
    while waiting > 0 {
        let event = news.next().await?.event;
        waiting -= u32::from(matches!(
            event,
            CompanyEvent::Disabled { .. } | CompanyEvent::Enabled { .. }
        ));
    }
    Ok(())
}

//! Costs of many festivals: measured, and what follows for a million.

use std::error::Error;
use std::time::{Duration, Instant};

use examples::figures::{bytes, megabytes, memory, millis, processor_time, rate, seconds};
use leftfold::prelude::*;
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
use tokio::task::JoinSet;

use super::deletion::Deletion;
use super::teams::{self, Teams};
use super::{
    BeginDeletion, CreateTeam, Festival, FestivalCommand, FestivalEvent, MoveTeam, festival_tag,
};

/// Requests that are under way at once: what a busy server has.
const UNDER_WAY: u64 = 256;
/// Number of lists, of moves and of deletions that are timed.
const TIMED: u64 = 200;
/// Number of festivals that is planned for.
const PLANNED: u64 = 1_000_000;

type Failed = Box<dyn Error + Send + Sync>;

/// Figures that are measured once, and grow with the number of festivals.
struct Figures {
    created_in: Duration,
    log_bytes: u64,
    listed_in: Duration,
    rows_bytes: u64,
}

pub(super) async fn measure(festivals: u64, teams: u64) -> Result<(), Box<dyn Error>> {
    if festivals < TIMED || teams == 0 {
        return Err(format!(
            "{TIMED} festivals are deleted to time it: measure that many at least, with teams"
        )
        .into());
    }
    let place = tempfile::Builder::new().prefix("leftfold-").tempdir()?;
    let (log, rows) = (place.path().join("store"), place.path().join("rows"));
    let path = log.to_str().ok_or("the directory for temporary files is not UTF-8")?;
    let store = leftfold::open(path).await?;

    println!(
        "{festivals} festivals with {teams} teams each, {UNDER_WAY} requests under way at once"
    );
    let began = Instant::now();
    create(&store, festivals, teams).await.map_err(|error| error.to_string())?;
    let created_in = began.elapsed();
    let events = store.head().position.0;
    println!("created: {events} events in {}, {}", seconds(created_in), rate(events, created_in));
    store.close().await?;
    let log_bytes = bytes(&log)?;
    println!(
        "on disk: {} of log and index, {} bytes an event; {}",
        megabytes(log_bytes),
        log_bytes / events,
        memory()
    );

    let began = Instant::now();
    let store = leftfold::open(path).await?;
    println!("opened again in {}", millis(began.elapsed()));
    let target = Sqlite::at(&rows);
    let lists = target.reader::<Teams>();
    let began = Instant::now();
    let running = Runtime::new(&store).process::<Deletion>().project(Teams, target).start().await?;
    running
        .projections()
        .wait_until(Teams::NAME, store.head().position, Duration::from_secs(24 * 3600))
        .await?;
    let listed_in = began.elapsed();
    let rows_bytes = bytes(&rows)?;
    println!(
        "lists built in {}, {}; {} of rows",
        seconds(listed_in),
        rate(festivals * teams, listed_in),
        megabytes(rows_bytes)
    );

    list(&lists, festivals, teams)?;
    move_teams(&store, festivals).await?;
    delete(&store).await?;
    running
        .projections()
        .wait_until(Teams::NAME, store.head().position, Duration::from_secs(60))
        .await?;
    for festival in 0..TIMED {
        assert!(
            teams::of(&lists, &festival.to_string())?.is_empty(),
            "a festival that was deleted has teams"
        );
    }
    println!("{}", memory());
    running.stop().await?;
    store.close().await?;
    plan(&Figures { created_in, log_bytes, listed_in, rows_bytes }, festivals, teams);
    Ok(())
}

/// One festival with very many teams is deleted.
pub(super) async fn large(teams: u64) -> Result<(), Box<dyn Error>> {
    let place = tempfile::Builder::new().prefix("leftfold-").tempdir()?;
    let path = place.path().join("store");
    let store =
        leftfold::open(path.to_str().ok_or("the directory for temporary files is not UTF-8")?)
            .await?;
    let running = Runtime::new(&store).process::<Deletion>().start().await?;
    let began = Instant::now();
    create_teams_of_one(&store, teams).await.map_err(|error| error.to_string())?;
    println!("one festival with {teams} teams: created in {}", seconds(began.elapsed()));
    let (began, worked) = (Instant::now(), processor_time());
    until_deleted(&store, "0").await?;
    let worked = processor_time()
        .zip(worked)
        .map(|(now, then)| seconds(now.saturating_sub(then)))
        .unwrap_or_default();
    println!(
        "deleted, the last of its teams included, in {}, {worked} of processors; {}",
        seconds(began.elapsed()),
        memory()
    );
    running.stop().await?;
    Ok(store.close().await?)
}

/// Begins a deletion and waits for its end.
async fn until_deleted(store: &Store, festival: &str) -> Result<(), Box<dyn Error>> {
    let mut told = store.subscribe(Query::tag(festival_tag(festival)), store.head().position);
    store.decide(&BeginDeletion { festival: festival.to_owned() }).await?;
    let mut deleted = false;
    while !deleted {
        let told = store.aggregate::<Festival>().decode(&told.event().await?)?;
        deleted = matches!(told.as_slice(), [FestivalEvent::Deleted { .. }]);
    }
    Ok(())
}

fn list(lists: &Reader, festivals: u64, teams: u64) -> Result<(), SqliteError> {
    let mut draw = fastrand::Rng::with_seed(1);
    let mut times = Vec::new();
    for _ in 0..TIMED {
        let festival = draw.u64(0..festivals).to_string();
        let began = Instant::now();
        let there = teams::of(lists, &festival)?;
        times.push(began.elapsed());
        assert_eq!(there.len() as u64, teams, "a list is not complete");
    }
    println!("list one festival: {}", spread(&mut times));
    Ok(())
}

async fn move_teams(store: &Store, festivals: u64) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for from in 0..TIMED {
        let to = ((from + 1) % festivals).to_string();
        let began = Instant::now();
        store.decide(&MoveTeam { team: format!("{from}-0"), to }).await?;
        times.push(began.elapsed());
    }
    println!("move one team: {}", spread(&mut times));
    Ok(())
}

async fn delete(store: &Store) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for festival in 0..TIMED {
        let began = Instant::now();
        until_deleted(store, &festival.to_string()).await?;
        times.push(began.elapsed());
    }
    println!("delete one festival, the last of its teams included: {}", spread(&mut times));
    Ok(())
}

fn plan(figures: &Figures, festivals: u64, teams: u64) {
    let times_as_many = PLANNED as f64 / festivals as f64;
    let planned = |duration: Duration| {
        format!("{:.1} hours", duration.as_secs_f64() * times_as_many / 3600.0)
    };
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 * times_as_many / 1e9);
    println!("\nfor {PLANNED} festivals with {teams} teams each that means:");
    println!(
        "    {} of log and index: an event is as large as before",
        gigabytes(figures.log_bytes)
    );
    println!(
        "    {} to create them all at this rate: a command reads two short lists of",
        planned(figures.created_in)
    );
    println!("        positions, found in O(log n), however many other festivals there are");
    println!(
        "    {} of rows, and {} to rebuild them,",
        gigabytes(figures.rows_bytes),
        planned(figures.listed_in)
    );
    println!("        while the old ones serve");
    println!(
        "    a list, a move and a deletion take what they take here while the pages that they read are in memory,"
    );
    println!(
        "        and some reads of the disk more where they are not: none of them looks at another festival"
    );
    println!(
        "    memory: at most 64 MiB for the index of the log and what is read of it, 64 MiB for folds, and 32 MiB for the"
    );
    println!(
        "        lists, which is where it ends here too; an instance of the process that is not at work is in the log only"
    );
}

/// Each worker creates the festivals of its own, one after the other, as a person would.
async fn create(store: &Store, festivals: u64, teams: u64) -> Result<(), Failed> {
    let mut workers = JoinSet::new();
    for worker in 0..UNDER_WAY.min(festivals) {
        let store = store.clone();
        workers.spawn(async move {
            let aggregates = store.aggregate::<Festival>();
            for n in (worker..festivals).step_by(UNDER_WAY as usize) {
                let festival = n.to_string();
                aggregates
                    .execute(&festival, FestivalCommand::Announce { festival: festival.clone() })
                    .await?;
                for team in 0..teams {
                    let create =
                        CreateTeam { team: format!("{n}-{team}"), festival: festival.clone() };
                    store.decide(&create).await?;
                }
            }
            Ok::<_, Failed>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

/// Many workers create the teams of one festival: they do not conflict with each other.
async fn create_teams_of_one(store: &Store, teams: u64) -> Result<(), Failed> {
    let announce = FestivalCommand::Announce { festival: "0".to_owned() };
    store.aggregate::<Festival>().execute("0", announce).await?;
    let mut workers = JoinSet::new();
    for worker in 0..UNDER_WAY {
        let store = store.clone();
        workers.spawn(async move {
            for team in (worker..teams).step_by(UNDER_WAY as usize) {
                store
                    .decide(&CreateTeam { team: format!("0-{team}"), festival: "0".to_owned() })
                    .await?;
            }
            Ok::<_, Failed>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("{} in the middle, {} of 99 in 100", millis(at(50)), millis(at(99)))
}

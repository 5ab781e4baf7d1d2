//! A booking shows the names of its client and its service, and when one of them is renamed all
//! their bookings follow, on pages that are open too; and every news item shows how many comments
//! it has, the one just written included. The pattern is a read model whose rows embed what they
//! show, with a feed of what changed; and a count that is part of an aggregate's fold, which the
//! append that adds a comment moves. Leave the embedding where renames are many and reads are few:
//! then rows hold ids, and names are joined when they are read.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::projection::{Changes, ChangesError};
use leftfold::sqlite::rusqlite::Connection;
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
use serde::{Deserialize, Serialize};

// Names of clients and services: an aggregate each, `name-client:ada`.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum NameEvent {
    Given { name: String },
}

impl Event for NameEvent {
    const NAMESPACE: &'static str = "name";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Name(String);

struct Give(&'static str);

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a name has letters")]
struct NoName;

impl Aggregate for Name {
    const CATEGORY: &'static str = "name";
    type Event = NameEvent;
    type Command = Give;
    type Refusal = NoName;

    fn apply(&mut self, NameEvent::Given { name }: &NameEvent) {
        self.0.clone_from(name);
    }

    fn decide(&self, Give(name): &Give) -> Result<Vec<NameEvent>, NoName> {
        match name.trim() {
            "" => Err(NoName),
            name if name == self.0 => Ok(Vec::new()),
            name => Ok(vec![NameEvent::Given { name: name.to_owned() }]),
        }
    }
}

// Bookings: they hold ids.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BookingEvent {
    Booked { client: String, service: String, day: String },
    Cancelled,
}

impl Event for BookingEvent {
    const NAMESPACE: &'static str = "booking";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Booking {
    stands: bool,
    was_made: bool,
}

#[derive(Clone, Debug)]
enum Book {
    Make { client: String, service: String, day: String },
    Cancel,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("there is such a booking already")]
struct BookedAlready;

impl Aggregate for Booking {
    const CATEGORY: &'static str = "booking";
    type Event = BookingEvent;
    type Command = Book;
    type Refusal = BookedAlready;

    fn apply(&mut self, event: &BookingEvent) {
        self.stands = matches!(event, BookingEvent::Booked { .. });
        self.was_made = true;
    }

    fn decide(&self, command: &Book) -> Result<Vec<BookingEvent>, BookedAlready> {
        match command.clone() {
            Book::Make { .. } if self.was_made => Err(BookedAlready),
            Book::Make { client, service, day } => {
                Ok(vec![BookingEvent::Booked { client, service, day }])
            }
            Book::Cancel if self.stands => Ok(vec![BookingEvent::Cancelled]),
            Book::Cancel => Ok(Vec::new()),
        }
    }
}

// The read model: rows embed names.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shown {
    #[serde(rename = "name.Given")]
    Named { name: String },
    #[serde(rename = "booking.Booked")]
    Booked { client: String, service: String, day: String },
    #[serde(rename = "booking.Cancelled")]
    Cancelled,
}

impl Event for Shown {
    const NAMESPACE: &'static str = "bookings";
}

struct Bookings;

impl Bookings {
    const NAME: &'static str = "bookings";
}

// ANCHOR: projection
impl Projection<Sqlite> for Bookings {
    const NAME: &'static str = Self::NAME;
    type Event = Shown;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(
            "CREATE TABLE name (id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
             CREATE TABLE booking (
                 id TEXT PRIMARY KEY, day TEXT NOT NULL,
                 client TEXT NOT NULL, client_name TEXT NOT NULL,
                 service TEXT NOT NULL, service_name TEXT NOT NULL
             ) WITHOUT ROWID;
             CREATE INDEX booking_of_client ON booking (client);
             CREATE INDEX booking_of_service ON booking (service);",
        )?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<Shown>,
    ) -> Result<(), ProjectionError> {
        let id = event.stream_id();
        match &event.event {
            Shown::Named { name } => {
                rows.prepare_cached("INSERT OR REPLACE INTO name VALUES (?1, ?2)")?
                    .execute([id, name])?;
                rows.prepare_cached("UPDATE booking SET client_name = ?2 WHERE client = ?1")?
                    .execute([id, name])?;
                rows.prepare_cached("UPDATE booking SET service_name = ?2 WHERE service = ?1")?
                    .execute([id, name])?;
            }
            Shown::Booked { client, service, day } => {
                rows.prepare_cached(
                    "INSERT INTO booking VALUES (?1, ?2,
                         ?3, coalesce((SELECT name FROM name WHERE id = ?3), ?3),
                         ?4, coalesce((SELECT name FROM name WHERE id = ?4), ?4))",
                )?
                .execute([id, day, client, service])?;
            }
            Shown::Cancelled => {
                _ = rows.prepare_cached("DELETE FROM booking WHERE id = ?1")?.execute([id])?
            }
        }
        Ok(())
    }
}
// ANCHOR_END: projection

// ANCHOR: page
/// A page that is open: all bookings of a client.
struct Page {
    client: String,
    rows: Reader,
    changes: Changes,
    shows: Vec<String>,
    /// The keys whose changes concern it: the streams behind what it shows.
    keys: BTreeSet<String>,
}

impl Page {
    /// Asks for changes before it reads: what changes in between is read twice, and never missed.
    fn open(client: &str, rows: &Reader, changes: Changes) -> Result<Self, SqliteError> {
        let (shows, keys) = (Vec::new(), BTreeSet::new());
        let mut page = Self { client: client.to_owned(), rows: rows.clone(), changes, shows, keys };
        page.read()?;
        Ok(page)
    }

    /// Waits until what it shows has changed.
    async fn next(&mut self) -> Result<&[String], Box<dyn Error + Send + Sync>> {
        loop {
            let concerns_it = match self.changes.next().await {
                // A booking may be a new one of this client.
                Ok(change) => self.keys.contains(&change.key) || change.key.starts_with("booking-"),
                // Too many changes for a page that was slow: whatever they were, reading finds
                // them.
                Err(ChangesError::Missed(_)) => true,
                Err(ended) => return Err(ended.into()),
            };
            if concerns_it && self.read()? {
                return Ok(&self.shows);
            }
        }
    }

    /// Reads the page again, and tells whether it shows something else now.
    fn read(&mut self) -> Result<bool, SqliteError> {
        let of_client = "SELECT day, client_name, service_name, client, service FROM booking WHERE client = ?1 ORDER BY day, id";
        let mut keys = BTreeSet::from([format!("name-{}", self.client)]);
        let shows = self.rows.read(|rows| {
            let mut of_client = rows.prepare_cached(of_client)?;
            let lines = of_client.query_map([&self.client], |row| {
                let text = |column| row.get::<_, String>(column);
                keys.insert(format!("name-{}", text(4)?));
                Ok(format!("{}: {} for {}", text(0)?, text(2)?, text(1)?))
            })?;
            lines.collect::<Result<Vec<String>, _>>()
        })?;
        self.keys = keys;
        let changed = shows != self.shows;
        self.shows = shows;
        Ok(changed)
    }
}
// ANCHOR_END: page

// News items with their comments: the count is the fold's.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum NewsEvent {
    Commented { text: String },
}

impl Event for NewsEvent {
    const NAMESPACE: &'static str = "news";
}

// ANCHOR: count
/// A comment and the count are one append: nobody ever sees one without the other, and of a
/// thousand comments at once each is counted. That holds within one item, which is one stream. A
/// list of all items by their comments is a question to many streams: its rows are in another
/// database, so they follow a moment later, as bookings do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct NewsItem {
    comments: u64,
}
// ANCHOR_END: count

struct Comment(String);

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a comment has words")]
struct NoWords;

impl Aggregate for NewsItem {
    const CATEGORY: &'static str = "news";
    type Event = NewsEvent;
    type Command = Comment;
    type Refusal = NoWords;

    fn apply(&mut self, NewsEvent::Commented { .. }: &NewsEvent) {
        self.comments += 1;
    }

    fn decide(&self, Comment(text): &Comment) -> Result<Vec<NewsEvent>, NoWords> {
        if text.trim().is_empty() {
            Err(NoWords)
        } else {
            Ok(vec![NewsEvent::Commented { text: text.clone() }])
        }
    }

    /// However many comments there are, the count is known from the last snapshot on.
    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1_000)
    }
}

fn make(client: &str, service: &str, day: &str) -> Book {
    Book::Make { client: client.into(), service: service.into(), day: day.into() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let rows = Sqlite::at(format!("{}-rows", place.path()));
    let reader = rows.reader::<Bookings>();
    let running = Runtime::new(&store).project(Bookings, rows).start().await?;
    let (names, bookings) = (store.aggregate::<Name>(), store.aggregate::<Booking>());

    names.execute("client:ada", Give("Ada")).await?;
    names.execute("service:1", Give("Massage")).await?;
    names.execute("service:2", Give("Sauna")).await?;
    bookings.execute("1", make("client:ada", "service:1", "Monday")).await?;
    let last = bookings.execute("2", make("client:ada", "service:2", "Tuesday")).await?.position;
    running.projections().wait_until(Bookings::NAME, last, Duration::from_secs(10)).await?;

    let mut page =
        Page::open("client:ada", &reader, running.projections().changes(Bookings::NAME)?)?;
    let mut show = async |what: &str| {
        let shows = page.next().await.map_err(|error| error.to_string())?;
        println!("{what}; the open page shows:");
        shows.iter().for_each(|line| println!("    {line}"));
        Ok::<_, Box<dyn Error>>(())
    };
    names.execute("service:1", Give("Thai massage")).await?;
    show("massage is renamed").await?;
    names.execute("client:ada", Give("Countess Ada")).await?;
    show("Ada is renamed").await?;
    bookings.execute("3", make("client:ada", "service:1", "Friday")).await?;
    show("she books again").await?;
    bookings.execute("2", Book::Cancel).await?;
    show("she cancels a booking").await?;

    let news = store.aggregate::<NewsItem>();
    for text in ["first!", "I do not agree", "me neither"] {
        news.execute("42", Comment(text.into())).await?;
        println!("{text:?}: comment number {}", news.load("42").await?.state.comments);
    }
    running.stop().await?;
    store.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::runtime::RunningRuntime;
    use leftfold::testing::given;
    use tempfile::TempDir;

    struct House {
        store: Store,
        running: RunningRuntime,
        reader: Reader,
        _place: TempDir,
    }

    impl House {
        async fn open(store: Store) -> Self {
            let place = TempDir::new().unwrap();
            let rows = Sqlite::at(place.path());
            let reader = rows.reader::<Bookings>();
            let running = Runtime::new(&store).project(Bookings, rows).start().await.unwrap();
            let house = Self { store, running, reader, _place: place };
            house.name("client:ada", "Ada").await;
            house.name("service:1", "Massage").await;
            house
        }

        async fn name(&self, id: &str, name: &'static str) {
            self.store.aggregate::<Name>().execute(id, Give(name)).await.unwrap();
        }

        async fn book(&self, booking: u32, service: &str, day: &str) {
            let book = make("client:ada", service, day);
            self.store.aggregate::<Booking>().execute(&booking.to_string(), book).await.unwrap();
        }

        async fn page(&self) -> Page {
            let head = self.store.head().position;
            let projections = self.running.projections();
            projections.wait_until(Bookings::NAME, head, Duration::from_secs(60)).await.unwrap();
            Page::open("client:ada", &self.reader, projections.changes(Bookings::NAME).unwrap())
                .unwrap()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn when_a_service_is_renamed_all_its_bookings_follow_and_no_others() {
        for store in examples::stores().await {
            let house = House::open(store).await;
            house.name("service:2", "Sauna").await;
            for booking in 0..200 {
                house
                    .book(
                        booking,
                        &format!("service:{}", booking % 2 + 1),
                        &format!("day {booking:03}"),
                    )
                    .await;
            }
            house.name("service:1", "Thai massage").await;
            let page = house.page().await;
            assert_eq!(page.shows.len(), 200);
            for (booking, line) in page.shows.iter().enumerate() {
                let service = if booking % 2 == 0 { "Thai massage" } else { "Sauna" };
                assert_eq!(*line, format!("day {booking:03}: {service} for Ada"));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_open_page_sees_live_what_is_renamed_booked_and_cancelled() {
        for store in examples::stores().await {
            let house = House::open(store).await;
            house.book(1, "service:1", "Monday").await;
            let mut page = house.page().await;
            assert_eq!(page.shows, ["Monday: Massage for Ada"]);
            house.name("service:1", "Thai massage").await;
            assert_eq!(page.next().await.unwrap(), ["Monday: Thai massage for Ada"]);
            // What a page does not show does not wake it.
            house.name("service:2", "Sauna").await;
            house.name("client:ada", "Countess Ada").await;
            assert_eq!(page.next().await.unwrap(), ["Monday: Thai massage for Countess Ada"]);
            house.book(2, "service:2", "Tuesday").await;
            assert_eq!(
                page.next().await.unwrap().last().unwrap(),
                "Tuesday: Sauna for Countess Ada"
            );
            house.store.aggregate::<Booking>().execute("1", Book::Cancel).await.unwrap();
            assert_eq!(page.next().await.unwrap(), ["Tuesday: Sauna for Countess Ada"]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_that_was_too_slow_for_the_feed_reads_anew() {
        for store in examples::stores().await {
            let house = House::open(store).await;
            house.book(0, "service:1", "Monday").await;
            let mut page = house.page().await;
            let renames = leftfold::runtime::projection::CHANGES_MAX + 10;
            let given = |name: usize| NameEvent::Given { name: format!("Massage {name}") };
            let events: Vec<NameEvent> = (1..=renames).map(given).collect();
            for events in events.chunks(1_000) {
                house.store.aggregate::<Name>().record("service:1", events).await.unwrap();
            }
            let head = house.store.head().position;
            house
                .running
                .projections()
                .wait_until(Bookings::NAME, head, Duration::from_secs(60))
                .await
                .unwrap();
            assert_eq!(page.next().await.unwrap(), [format!("Monday: Massage {renames} for Ada")]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_comments_at_once_each_is_counted_and_seen_by_who_wrote_it() {
        for store in examples::stores().await {
            let news = store.aggregate::<NewsItem>();
            let comment = |n: u64| {
                let news = news.clone();
                tokio::spawn(async move {
                    let done = news.execute("42", Comment(n.to_string())).await.unwrap();
                    assert!(news.load("42").await.unwrap().state.comments >= done.version.0);
                })
            };
            for running in (0..500).map(comment).collect::<Vec<_>>() {
                running.await.unwrap();
            }
            assert_eq!(news.load("42").await.unwrap().state, NewsItem { comments: 500 });
        }
    }

    #[test]
    fn what_says_nothing_is_refused_or_nothing_to_do() {
        let ada = NameEvent::Given { name: "Ada".into() };
        given::<Name>([ada]).when(Give(" Ada ")).then_nothing();
        given::<Name>([]).when(Give(" ")).then_refused(NoName);
        given::<NewsItem>([]).when(Comment(" ".into())).then_refused(NoWords);
        let booked =
            BookingEvent::Booked { client: "a".into(), service: "b".into(), day: "c".into() };
        given::<Booking>([booked.clone()]).when(make("a", "b", "d")).then_refused(BookedAlready);
        given::<Booking>([booked, BookingEvent::Cancelled]).when(Book::Cancel).then_nothing();
    }
}

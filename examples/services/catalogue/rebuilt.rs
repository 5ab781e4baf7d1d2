//! The list is rebuilt while it is asked all the time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold::fold::Schema;
use leftfold::sqlite::rusqlite::Connection;
use leftfold::sqlite::{Reader, SqliteError};
use leftfold::store::{Append, Read};
use tokio::sync::watch;

use super::*;
use crate::products::{ListFact, ProductEvent, SellerEvent};

const PRODUCTS: usize = 2_000;
const SELLERS: usize = 400;
/// Answers that are waited for in the middle of the rebuild, and after it.
const ANSWERS: usize = 50;

/// Products whose sellers are learned of later, each of them twice, all in one append.
async fn history(store: &Store) {
    let (products, sellers) =
        (Schema::of::<ProductEvent>().unwrap(), Schema::of::<SellerEvent>().unwrap());
    let mut events = Vec::new();
    for number in 0..PRODUCTS {
        let listed = ProductEvent::Listed {
            name: format!("thing {number}"),
            seller: format!("s{}", number % SELLERS),
        };
        let stream = StreamName::of("product", &format!("p{number:05}")).unwrap();
        events.push(products.encode(&listed).unwrap().in_stream(stream));
    }
    for (version, city) in [(1, "London"), (2, "Paris")] {
        for number in 0..SELLERS {
            let learned = SellerEvent::Learned {
                version,
                details: details(&format!("Seller {number}"), city),
            };
            let stream = StreamName::of("seller", &format!("s{number}")).unwrap();
            events.push(sellers.encode(&learned).unwrap().in_stream(stream));
        }
    }
    store.append(Append::of(events)).await.unwrap();
}

/// The list as a fold of the whole log.
async fn folded(store: &Store) -> Vec<String> {
    let (products, sellers) =
        (Schema::of::<ProductEvent>().unwrap(), Schema::of::<SellerEvent>().unwrap());
    let (mut listed, mut known) =
        (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for event in store.read(Read::matching(Query::all(), Position::START)).all().await.unwrap() {
        let Some(id) = event.stream.as_ref().map(|at| at.name.id().to_owned()) else { continue };
        match &*event.event_type {
            "product.Listed" => {
                _ = listed.insert(
                    id,
                    products.decode::<ProductEvent>(&event, Unknown::Refuse).unwrap().remove(0),
                )
            }
            "seller.Learned" => {
                _ = known.insert(
                    id,
                    sellers.decode::<SellerEvent>(&event, Unknown::Refuse).unwrap().remove(0),
                )
            }
            _ => {}
        }
    }
    let line = |ProductEvent::Listed { name, seller }| match known.get(&seller) {
        Some(SellerEvent::Learned { details, .. }) => {
            format!("{name}, by {} of {}", details.name, details.city)
        }
        _ => format!("{name}, by somebody"),
    };
    listed.into_values().map(line).collect()
}

// ANCHOR: gate
/// The list, which in the middle of the log waits until it is told to go on: so its rows are half
/// of the list for as long as the test likes.
struct Half {
    middle: Position,
    reached: watch::Sender<bool>,
    go_on: watch::Receiver<bool>,
}

impl Projection<Sqlite> for Half {
    const NAME: &'static str = ProductList::NAME;
    type Event = ListFact;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        ProductList.set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<ListFact>,
    ) -> Result<(), ProjectionError> {
        if event.envelope.position == self.middle {
            self.reached.send_replace(true);
            self.go_on.clone().wait_for(|go_on| *go_on).await.map(drop)?;
        }
        ProductList.apply(rows, event).await
    }
}
// ANCHOR_END: gate

/// Answers, with the file that each came from, since the last different one.
type Answers = Vec<(PathBuf, Vec<String>)>;

/// Asks all the time, in a thread of its own; counts the answers.
fn ask(
    list: Reader,
    stop: Arc<AtomicBool>,
    count: watch::Sender<usize>,
) -> Result<Answers, SqliteError> {
    let mut answers = Answers::new();
    while !stop.load(Ordering::Relaxed) {
        let file = list.read(|rows| Ok(PathBuf::from(rows.path().unwrap_or_default())))?;
        let lines = listed(&list)?;
        // Between the two questions the new list may have taken the old one's place.
        let is_of_one_file =
            list.read(|rows| Ok(rows.path().map(PathBuf::from).as_ref() == Some(&file)))?;
        if is_of_one_file
            && answers.last().is_none_or(|(known, same)| (known, same) != (&file, &lines))
        {
            answers.push((file, lines));
        }
        count.send_modify(|count| *count += 1);
    }
    Ok(answers)
}

async fn more(count: &mut watch::Receiver<usize>) {
    let before = *count.borrow();
    count.wait_for(|count| *count >= before + ANSWERS).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_rebuilt_from_the_log_while_the_old_one_answers_in_full() {
    for store in examples::stores().await {
        let place = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::at(place.path());
        history(&store).await;
        Runtime::new(&store).project(ProductList, sqlite.clone()).run_until_idle().await.unwrap();
        let before = folded(&store).await;
        assert_eq!((before.len(), before[0].as_str()), (PRODUCTS, "thing 0, by Seller 0 of Paris"));

        let (stop, (counted, mut count)) = (Arc::new(AtomicBool::new(false)), watch::channel(0));
        let (list, stopped) = (sqlite.reader::<ProductList>(), stop.clone());
        let asking = std::thread::spawn(move || ask(list, stopped, counted));
        more(&mut count).await;

        let ((reached, mut is_reached), (let_go, go_on)) =
            (watch::channel(false), watch::channel(false));
        let half = Half { middle: Position((PRODUCTS + SELLERS / 2) as u64), reached, go_on };
        let runtime = Runtime::new(&store).project(half, sqlite.clone()).rebuild(ProductList::NAME);
        let running = runtime.start().await.unwrap();
        is_reached.wait_for(|reached| *reached).await.unwrap();
        more(&mut count).await;
        let news = List { name: "a rug".into(), seller: "s7".into() };
        let head = store.aggregate::<Product>().execute("z", news).await.unwrap().position;
        let_go.send_replace(true);
        running
            .projections()
            .wait_until(ProductList::NAME, head, Duration::from_secs(60))
            .await
            .unwrap();
        more(&mut count).await;
        stop.store(true, Ordering::Relaxed);
        let answers = asking.join().unwrap().unwrap();
        running.stop().await.unwrap();

        let after = folded(&store).await;
        assert_eq!(after.last().unwrap(), "a rug, by Seller 7 of Paris");
        let [(old_file, old), new @ ..] = answers.as_slice() else {
            panic!("nothing was answered")
        };
        assert!(*old == before, "{} lines", old.len());
        // The new one may take the old one's place with all that was there when the rebuild began,
        // and follow from there.
        let lines: Vec<usize> = new.iter().map(|(_, lines)| lines.len()).collect();
        assert!(
            new.iter()
                .all(|(file, lines)| file != old_file && (*lines == before || *lines == after)),
            "{lines:?}"
        );
        assert!(lines.is_sorted() && lines.last() == Some(&after.len()), "{lines:?}");
    }
}

//! A library lends each member at most three books, none of them twice, takes back only what was
//! lent, and notices when a book is overdue, once. The pattern is time as a value: the command says
//! what day it is, the event keeps the day when the book is due, and a durable timer of a process
//! tells the member's aggregate when that day has passed. Leave it where a rule spans members, such
//! as one copy of a book and many who want it: that is a decision over both.

use std::collections::BTreeMap;
use std::{error::Error, time::Duration};

use leftfold::prelude::*;
use leftfold::store::EventType;
use serde::{Deserialize, Serialize};

const BOOKS_MAX: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LENT_DAYS: u32 = 14;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum LendingEvent {
    Borrowed { book: String, due: Timestamp },
    Returned { book: String },
    FellOverdue { book: String, due: Timestamp },
}

impl Event for LendingEvent {
    const NAMESPACE: &'static str = "lending";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Lending {
    Borrow {
        book: String,
        today: Timestamp,
    },
    Return {
        book: String,
    },
    /// The day has passed: the timer says so.
    FallOverdue {
        book: String,
        due: Timestamp,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum LendingRefusal {
    #[error("{BOOKS_MAX} books are the most that one member may have")]
    TooMany,
    #[error("the member has this book already")]
    HasIt,
    #[error("the member does not have this book")]
    HasItNot,
    #[error("the book was given another day since, or was told overdue")]
    NotDue,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Member {
    books: BTreeMap<String, Loan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Loan {
    due: Timestamp,
    /// It was noticed: nobody is told twice.
    overdue: bool,
}

impl Aggregate for Member {
    const CATEGORY: &'static str = "member";
    type Event = LendingEvent;
    type Command = Lending;
    type Refusal = LendingRefusal;

    fn apply(&mut self, event: &LendingEvent) {
        match event.clone() {
            LendingEvent::Borrowed { book, due } => {
                _ = self.books.insert(book, Loan { due, overdue: false })
            }
            LendingEvent::Returned { book } => _ = self.books.remove(&book),
            LendingEvent::FellOverdue { book, due } => {
                _ = self.books.insert(book, Loan { due, overdue: true })
            }
        }
    }

    // ANCHOR: member
    fn decide(&self, command: &Lending) -> Result<Vec<LendingEvent>, LendingRefusal> {
        match command.clone() {
            Lending::Borrow { book, .. } if self.books.contains_key(&book) => {
                Err(LendingRefusal::HasIt)
            }
            Lending::Borrow { .. } if self.books.len() >= BOOKS_MAX => Err(LendingRefusal::TooMany),
            Lending::Borrow { book, today } => {
                Ok(vec![LendingEvent::Borrowed { book, due: today.plus(DAY * LENT_DAYS) }])
            }
            Lending::Return { book } if !self.books.contains_key(&book) => {
                Err(LendingRefusal::HasItNot)
            }
            Lending::Return { book } => Ok(vec![LendingEvent::Returned { book }]),
            Lending::FallOverdue { book, due } => match self.books.get(&book) {
                None => Err(LendingRefusal::HasItNot),
                Some(loan) if loan.overdue || loan.due != due => Err(LendingRefusal::NotDue),
                Some(_) => Ok(vec![LendingEvent::FellOverdue { book, due }]),
            },
        }
    }
    // ANCHOR_END: member
}

/// One instance for each member, with a timer for each book that is out. It begins with the first
/// book, and each timer fires once, also over restarts.
#[derive(Default)]
struct DueDays {
    due: BTreeMap<String, Timestamp>,
}

// ANCHOR: process
impl Process for DueDays {
    const NAME: &'static str = "due_days";
    type Event = LendingEvent;

    fn targets() -> Targets {
        Targets::of::<Member>()
    }

    fn correlate(event: &Recorded<LendingEvent>) -> Correlation {
        match &event.event {
            LendingEvent::Borrowed { .. } => Correlation::starts(event.stream_id()),
            _ => Correlation::continues(event.stream_id()),
        }
    }

    fn apply(&mut self, trigger: &Trigger<LendingEvent>, _: &Context) {
        if let Trigger::Event(LendingEvent::Borrowed { book, due }) = trigger {
            self.due.insert(book.clone(), *due);
        }
    }

    fn react(&self, trigger: &Trigger<LendingEvent>, member: &Context) -> Reaction {
        match trigger {
            Trigger::Event(LendingEvent::Borrowed { book, due }) => {
                Reaction::none().timer(book, *due)
            }
            Trigger::Event(LendingEvent::Returned { book }) => Reaction::none().cancel(book),
            Trigger::TimerFired { name: book } => match self.due.get(book) {
                Some(due) => {
                    let book = book.clone();
                    Reaction::none()
                        .command::<Member>(&member.key, Lending::FallOverdue { book, due: *due })
                }
                None => Reaction::none(),
            },
            // It came back at the last moment.
            Trigger::Event(LendingEvent::FellOverdue { .. }) | Trigger::Refused(_) => {
                Reaction::none()
            }
        }
    }
}
// ANCHOR_END: process

fn borrow(book: &str, today: Timestamp) -> Lending {
    Lending::Borrow { book: book.into(), today }
}

fn bring_back(book: &str) -> Lending {
    Lending::Return { book: book.into() }
}

/// A request, in words.
fn asked(command: &Lending) -> String {
    match command {
        Lending::Borrow { book, today } => format!("ann asks for {book} on {}", day_of(*today)),
        Lending::Return { book } => format!("ann brings {book} back"),
        Lending::FallOverdue { book, .. } => format!("the day of {book} has passed"),
    }
}

/// An event, in words.
fn told(event: &LendingEvent) -> String {
    match event {
        LendingEvent::Borrowed { book, due } => format!("{book} is hers until {}", day_of(*due)),
        LendingEvent::Returned { book } => format!("{book} is here again"),
        LendingEvent::FellOverdue { book, due } => format!("{book} was due on {}", day_of(*due)),
    }
}

fn day_of(moment: Timestamp) -> String {
    moment.to_string().split('T').next().unwrap_or_default().to_owned()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let members = store.aggregate::<Member>();

    let long_ago: Timestamp = "2026-03-01T09:00:00Z".parse()?;
    let today = Timestamp::now();
    let story = [
        borrow("Momo", long_ago),
        borrow("Momo", today),
        borrow("Emil", today),
        borrow("Heidi", today),
        borrow("Ronja", today),
        bring_back("Emil"),
        bring_back("Emil"),
    ];
    for command in story {
        println!("{}", asked(&command));
        match members.execute("ann", command).await {
            Ok(done) => done.events.iter().for_each(|event| println!("    {}", told(event))),
            Err(ExecuteError::Refused(no)) => println!("    no: {no}"),
            Err(other) => return Err(other.into()),
        }
    }

    let runtime = Runtime::new(&store).process::<DueDays>().start().await?;
    let overdue =
        Query::category(Member::CATEGORY).of_types(&[EventType::new("lending.FellOverdue")?]);
    let noticed = store.subscribe(overdue, Position::START).event().await?;
    println!("the timer is started, and sees what is overdue");
    members.decode(&noticed)?.iter().for_each(|event| println!("    {}", told(event)));
    runtime.stop().await?;

    for book in ["Momo", "Heidi"] {
        members.execute("ann", bring_back(book)).await?;
    }
    println!("all books are back");
    store.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::given;

    fn day(number: u32) -> Timestamp {
        Timestamp::from_micros(0).plus(DAY * number)
    }

    fn borrowed(book: &str, due: Timestamp) -> LendingEvent {
        LendingEvent::Borrowed { book: book.into(), due }
    }

    fn returned(book: &str) -> LendingEvent {
        LendingEvent::Returned { book: book.into() }
    }

    fn overdue(book: &str, due: Timestamp) -> LendingEvent {
        LendingEvent::FellOverdue { book: book.into(), due }
    }

    #[test]
    fn a_fourth_book_is_refused_until_one_comes_back() {
        let three = [borrowed("a", day(14)), borrowed("b", day(14)), borrowed("c", day(14))];
        given::<Member>(three.clone())
            .when(borrow("d", day(1)))
            .then_refused(LendingRefusal::TooMany);
        let two = three.into_iter().chain([returned("b")]);
        given::<Member>(two).when(borrow("d", day(1))).then([borrowed("d", day(15))]);
    }

    #[test]
    fn no_book_is_lent_twice_to_one_member_at_a_time() {
        given::<Member>([borrowed("a", day(14))])
            .when(borrow("a", day(1)))
            .then_refused(LendingRefusal::HasIt);
        let again = [borrowed("a", day(14)), returned("a")];
        given::<Member>(again).when(borrow("a", day(1))).then([borrowed("a", day(15))]);
    }

    #[test]
    fn only_what_was_borrowed_is_taken_back_and_once() {
        given::<Member>([]).when(bring_back("a")).then_refused(LendingRefusal::HasItNot);
        given::<Member>([borrowed("a", day(14))]).when(bring_back("a")).then([returned("a")]);
        given::<Member>([borrowed("a", day(14)), returned("a")])
            .when(bring_back("a"))
            .then_refused(LendingRefusal::HasItNot);
    }

    fn fall_overdue(book: &str, due: Timestamp) -> Lending {
        Lending::FallOverdue { book: book.into(), due }
    }

    #[test]
    fn a_book_falls_overdue_once_and_only_while_it_is_out() {
        let lent = [borrowed("a", day(14))];
        given::<Member>(lent.clone())
            .when(fall_overdue("a", day(14)))
            .then([overdue("a", day(14))]);
        let told = lent.clone().into_iter().chain([overdue("a", day(14))]);
        given::<Member>(told).when(fall_overdue("a", day(14))).then_refused(LendingRefusal::NotDue);
        let back = lent.into_iter().chain([returned("a")]);
        given::<Member>(back)
            .when(fall_overdue("a", day(14)))
            .then_refused(LendingRefusal::HasItNot);
    }

    #[test]
    fn a_book_that_comes_back_late_may_be_borrowed_anew_and_fall_overdue_anew() {
        let late =
            [borrowed("a", day(14)), overdue("a", day(14)), returned("a"), borrowed("a", day(34))];
        given::<Member>(late.clone())
            .when(fall_overdue("a", day(14)))
            .then_refused(LendingRefusal::NotDue);
        given::<Member>(late).when(fall_overdue("a", day(34))).then([overdue("a", day(34))]);
    }

    #[tokio::test]
    async fn the_timer_tells_of_every_book_that_is_late_once_also_after_a_restart() {
        for store in examples::stores().await {
            let members = store.aggregate::<Member>();
            for (member, book, back) in
                [("ann", "a", false), ("ann", "b", true), ("bob", "a", false)]
            {
                members.execute(member, borrow(book, day(1))).await.unwrap();
                if back {
                    members.execute(member, bring_back(book)).await.unwrap();
                }
            }
            members.execute("bob", borrow("c", Timestamp::now())).await.unwrap();
            let types = [EventType::new("lending.FellOverdue").unwrap()];
            let mut told = store.subscribe(Query::types(types), Position::START);
            for late in [vec![("ann", "a"), ("bob", "a")], vec![("cid", "z")]] {
                let runtime = Runtime::new(&store).process::<DueDays>().start().await.unwrap();
                if late[0].0 == "cid" {
                    members.execute("cid", borrow("z", day(2))).await.unwrap();
                }
                for (member, book) in late {
                    let event = told.event().await.unwrap();
                    assert_eq!(event.stream.as_ref().unwrap().name.id(), member);
                    assert!(matches!(
                        &members.decode(&event).unwrap()[..],
                        [LendingEvent::FellOverdue { book: b, .. }] if b == book
                    ));
                }
                runtime.stop().await.unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_ten_books_asked_for_at_once_three_are_lent() {
        for store in examples::stores().await {
            let members = store.aggregate::<Member>();
            let ask = |n: u32| {
                let members = members.clone();
                tokio::spawn(
                    async move { members.execute("ann", borrow(&n.to_string(), day(0))).await },
                )
            };
            let mut lent = 0;
            for asked in (0..10).map(ask).collect::<Vec<_>>() {
                match asked.await.unwrap() {
                    Ok(_) => lent += 1,
                    Err(refused) => {
                        assert_eq!(refused, ExecuteError::Refused(LendingRefusal::TooMany))
                    }
                }
            }
            assert_eq!(lent, BOOKS_MAX);
        }
    }
}

//! A library lends each member at most three books, none of them twice, takes back only what was lent, and notices when
//! a book is overdue, once.
//! The pattern is an aggregate with time as a value: the command says what day it is, the event keeps the day when the
//! book is due, so that a decision can be repeated and a later change of the rules alters no earlier promise.
//! Leave it where a rule spans members, such as one copy of a book and many who want it: that is a decision over both.

use std::collections::BTreeMap;
use std::{error::Error, time::Duration};

use leftfold::prelude::*;
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

#[derive(Clone, Debug)]
enum Lending {
    Borrow {
        book: String,
        today: Timestamp,
    },
    Return {
        book: String,
    },
    /// Given every day; a timer does it where the store's runtime is at hand.
    CheckOverdue {
        today: Timestamp,
    },
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum LendingRefusal {
    #[error("{BOOKS_MAX} books are the most that one member may have")]
    TooMany,
    #[error("the member has this book already")]
    HasIt,
    #[error("the member does not have this book")]
    HasItNot,
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
            LendingEvent::Borrowed { book, due } => _ = self.books.insert(book, Loan { due, overdue: false }),
            LendingEvent::Returned { book } => _ = self.books.remove(&book),
            LendingEvent::FellOverdue { book, due } => _ = self.books.insert(book, Loan { due, overdue: true }),
        }
    }

    fn decide(&self, command: &Lending) -> Result<Vec<LendingEvent>, LendingRefusal> {
        match command.clone() {
            Lending::Borrow { book, .. } if self.books.contains_key(&book) => Err(LendingRefusal::HasIt),
            Lending::Borrow { .. } if self.books.len() >= BOOKS_MAX => Err(LendingRefusal::TooMany),
            Lending::Borrow { book, today } => Ok(vec![LendingEvent::Borrowed { book, due: today.plus(DAY * LENT_DAYS) }]),
            Lending::Return { book } if !self.books.contains_key(&book) => Err(LendingRefusal::HasItNot),
            Lending::Return { book } => Ok(vec![LendingEvent::Returned { book }]),
            Lending::CheckOverdue { today } => {
                let late = self.books.iter().filter(|(_, loan)| loan.due < today && !loan.overdue);
                Ok(late.map(|(book, loan)| LendingEvent::FellOverdue { book: book.clone(), due: loan.due }).collect())
            }
        }
    }
}

fn borrow(book: &str, today: Timestamp) -> Lending {
    Lending::Borrow { book: book.into(), today }
}

fn bring_back(book: &str) -> Lending {
    Lending::Return { book: book.into() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let members = store.aggregate::<Member>();

    let first: Timestamp = "2026-03-01T09:00:00Z".parse()?;
    let later = first.plus(DAY * 15);
    let story = [
        borrow("Momo", first),
        borrow("Momo", first),
        borrow("Emil", first),
        borrow("Heidi", later),
        borrow("Ronja", later),
        bring_back("Ronja"),
        bring_back("Emil"),
        Lending::CheckOverdue { today: later },
        Lending::CheckOverdue { today: later },
        bring_back("Momo"),
        bring_back("Heidi"),
    ];
    for command in story {
        let what = format!("{command:?}");
        match members.execute("ann", command).await {
            Ok(done) => println!("{what}\n    -> {:?}", done.events),
            Err(ExecuteError::Refused(no)) => println!("{what}\n    -> refused: {no}"),
            Err(other) => return Err(other.into()),
        }
    }
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
        given::<Member>(three.clone()).when(borrow("d", day(1))).then_refused(LendingRefusal::TooMany);
        let two = three.into_iter().chain([returned("b")]);
        given::<Member>(two).when(borrow("d", day(1))).then([borrowed("d", day(15))]);
    }

    #[test]
    fn no_book_is_lent_twice_to_one_member_at_a_time() {
        given::<Member>([borrowed("a", day(14))]).when(borrow("a", day(1))).then_refused(LendingRefusal::HasIt);
        let again = [borrowed("a", day(14)), returned("a")];
        given::<Member>(again).when(borrow("a", day(1))).then([borrowed("a", day(15))]);
    }

    #[test]
    fn only_what_was_borrowed_is_taken_back_and_once() {
        given::<Member>([]).when(bring_back("a")).then_refused(LendingRefusal::HasItNot);
        given::<Member>([borrowed("a", day(14))]).when(bring_back("a")).then([returned("a")]);
        given::<Member>([borrowed("a", day(14)), returned("a")]).when(bring_back("a")).then_refused(LendingRefusal::HasItNot);
    }

    #[test]
    fn a_book_falls_overdue_after_its_day_and_once() {
        let lent = [borrowed("a", day(14)), borrowed("b", day(20))];
        given::<Member>(lent.clone()).when(Lending::CheckOverdue { today: day(14) }).then_nothing();
        given::<Member>(lent.clone()).when(Lending::CheckOverdue { today: day(15) }).then([overdue("a", day(14))]);
        let told = lent.clone().into_iter().chain([overdue("a", day(14))]);
        given::<Member>(told).when(Lending::CheckOverdue { today: day(21) }).then([overdue("b", day(20))]);
        let back = lent.into_iter().chain([returned("a"), returned("b")]);
        given::<Member>(back).when(Lending::CheckOverdue { today: day(21) }).then_nothing();
    }

    #[test]
    fn a_book_that_comes_back_late_may_be_borrowed_anew_and_fall_overdue_anew() {
        let late = [borrowed("a", day(14)), overdue("a", day(14)), returned("a"), borrowed("a", day(34))];
        given::<Member>(late).when(Lending::CheckOverdue { today: day(35) }).then([overdue("a", day(34))]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_ten_books_asked_for_at_once_three_are_lent() {
        let members = Store::memory().aggregate::<Member>();
        let ask = |n: u32| {
            let members = members.clone();
            tokio::spawn(async move { members.execute("ann", borrow(&n.to_string(), day(0))).await })
        };
        let mut lent = 0;
        for asked in (0..10).map(ask).collect::<Vec<_>>() {
            match asked.await.unwrap() {
                Ok(_) => lent += 1,
                Err(refused) => assert_eq!(refused, ExecuteError::Refused(LendingRefusal::TooMany)),
            }
        }
        assert_eq!(lent, BOOKS_MAX);
    }
}

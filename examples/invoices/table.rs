//! The table of an earlier program, and how it is brought in as events.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use leftfold::prelude::*;

use crate::{Invoice, Money, Work};

/// A line of the old table: `number,customer,total,currency,issued,sent`, the dates empty where it
/// did not happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) number: String,
    pub(crate) customer: String,
    pub(crate) amount: Money,
    pub(crate) issued: Option<String>,
    pub(crate) sent: Option<String>,
}

impl Row {
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [number, customer, total, currency, issued, sent] = fields.as_slice() else {
            return Err(format!("{} fields instead of 6", fields.len()));
        };
        let cents =
            cents(total).ok_or_else(|| format!("{total:?} is no total, write it as 12.50"))?;
        let date = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            number: (*number).to_owned(),
            customer: (*customer).to_owned(),
            amount: Money { cents, currency: (*currency).to_owned() },
            issued: date(issued),
            sent: date(sent),
        })
    }
}

fn cents(total: &str) -> Option<u64> {
    let (whole, part) = total.split_once('.')?;
    let digits = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    if part.len() != 2 {
        return None;
    }
    digits(whole)?.checked_mul(100)?.checked_add(digits(part)?)
}

/// Result of taking over a table.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TakenOver {
    /// Rows that were new, or had changed.
    pub(crate) rows: usize,
    /// Events that they became.
    pub(crate) events: usize,
    /// Rows that had been brought in just so before.
    pub(crate) known: usize,
    /// Rows that a person has to look at, by the number of their line, and why.
    pub(crate) left: BTreeMap<usize, String>,
}

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows became {} events, {} were known", self.rows, self.events, self.known)?;
        self.left.iter().try_for_each(|(line, why)| write!(f, "; line {line}: {why}"))
    }
}

// ANCHOR: take-over
/// Brings a table in, as often as one likes: while the old program still writes it, too. The row
/// itself is the id of the command, so a row that did not change is answered from what is
/// remembered, and one that did is another request.
pub(crate) async fn take_over(store: &Store, table: &str) -> Result<TakenOver, Box<dyn Error>> {
    let invoices = store.aggregate::<Invoice>();
    let mut taken = TakenOver::default();
    for (line, text) in (2..).zip(table.lines().skip(1)) {
        let row = match Row::parse(text) {
            Ok(row) => row,
            Err(why) => {
                taken.left.insert(line, why);
                continue;
            }
        };
        let number = row.number.clone();
        match invoices
            .command(&number, Work::TakeOver(row))
            .id("table of invoices", text)
            .without_request_check()
            .execute()
            .await
        {
            Ok(Executed { answer: Answer::Again, .. }) => taken.known += 1,
            Ok(done) => {
                taken.rows += 1;
                taken.events += done.events.len();
            }
            Err(error) => _ = taken.left.insert(line, error.into_refusal()?.to_string()),
        }
    }
    Ok(taken)
}
// ANCHOR_END: take-over

//! Users search activities by words of their titles, and by company, in a read model in memory that
//! follows both answers.

use std::collections::BTreeMap;

use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Found {
    #[serde(rename = "listing.Published")]
    Published { title: String },
    #[serde(rename = "listing.Joined")]
    Joined { company: String },
    #[serde(rename = "listing.Left")]
    Left,
    #[serde(rename = "listing.Cancelled")]
    Cancelled,
    #[serde(rename = "membership.Assigned")]
    Assigned { activity: String, company: String },
    #[serde(rename = "membership.Unassigned")]
    Unassigned { activity: String },
}

impl Event for Found {
    const NAMESPACE: &'static str = "search";
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) company: Option<String>,
}

/// Activities by id.
#[derive(Debug, Default)]
pub(crate) struct Activities(BTreeMap<String, Row>);

impl Activities {
    /// Those whose titles have all of these words, of one company where one is named.
    pub(crate) fn search(&self, words: &str, company: Option<&str>) -> Vec<(&String, &Row)> {
        let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        let is_meant = |row: &Row| {
            let title = row.title.to_lowercase();
            words.iter().all(|word| title.contains(word))
                && (company.is_none() || row.company.as_deref() == company)
        };
        self.0.iter().filter(|(_, row)| is_meant(row)).collect()
    }

    fn row(&mut self, id: &str) -> &mut Row {
        self.0.entry(id.to_owned()).or_insert_with(|| Row { title: id.to_owned(), company: None })
    }
}

pub(crate) struct Search;

// ANCHOR: search
impl Projection<Memory<Activities>> for Search {
    const NAME: &'static str = "activities";
    type Event = Found;

    async fn apply(
        &self,
        activities: &mut Activities,
        found: &Recorded<Found>,
    ) -> Result<(), ProjectionError> {
        let listing = found.stream_id();
        match &found.event {
            Found::Published { title } => activities.row(listing).title.clone_from(title),
            Found::Joined { company } => activities.row(listing).company = Some(company.clone()),
            Found::Left => activities.row(listing).company = None,
            Found::Cancelled => _ = activities.0.remove(listing),
            Found::Assigned { activity, company } => {
                activities.row(activity).company = Some(company.clone())
            }
            Found::Unassigned { activity } => activities.row(activity).company = None,
        }
        Ok(())
    }
}
// ANCHOR_END: search

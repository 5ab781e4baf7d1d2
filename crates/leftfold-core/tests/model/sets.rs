//! The order of what is written: it counts in lists and texts, and not in sets and maps.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::faithful::{Value, carried, refused};

#[tokio::test]
async fn sets_and_maps_are_carried_in_whatever_order_they_come() {
    let words = || (0..50).map(|n| format!("word {n}"));
    carried(words().collect::<HashSet<_>>()).await;
    carried(words().map(|word| (word, 1.5)).collect::<HashMap<_, _>>()).await;
    carried((0..20).map(|n| (n, words().collect::<HashSet<_>>())).collect::<HashMap<_, _>>()).await;
}

/// A type that is written and read as texts or lists that its functions make of it.
macro_rules! written_by {
    ($name:ident, $inner:ty, $as:ty, $write:expr, $read:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(from = "Shape", into = "Shape")]
        struct $name($inner);
        #[derive(Serialize, Deserialize)]
        struct Shape {
            it: $as,
        }
        impl From<$name> for Shape {
            fn from(value: $name) -> Self {
                let write: fn($inner) -> $as = $write;
                Self { it: write(value.0) }
            }
        }
        impl From<Shape> for $name {
            fn from(shape: Shape) -> Self {
                let read: fn($as) -> $inner = $read;
                Self(read(shape.it))
            }
        }
    };
}

/// A third of April was acknowledged and read as a fourth of March: the letters were the same.
#[tokio::test]
async fn a_text_whose_letters_come_back_in_another_order_is_refused_also_beside_sets() {
    mod date {
        use super::*;
        written_by!(
            Date,
            (u8, u8),
            String,
            |(day, month)| format!("{day:02}/{month:02}"),
            |text| (text[3..].parse().unwrap(), text[..2].parse().unwrap())
        );
        pub(super) fn of(day: u8, month: u8) -> impl Value {
            Date((day, month))
        }
        pub(super) fn beside_a_set(day: u8, month: u8) -> impl Value {
            (vec![Date((day, month)), Date((month, day))], (0..50).collect::<HashSet<u32>>())
        }
    }
    carried(date::of(4, 4)).await;
    refused(date::of(3, 4), &["Value.value.it", "03/04", "would be read as", "04/03"]).await;
    carried(date::beside_a_set(4, 4)).await;
    refused(vec![date::of(1, 2), date::of(3, 3)], &["Value.value[0].it"]).await;
}

/// A stack that is written from its top and read by pushing.
#[tokio::test]
async fn a_list_that_comes_back_in_another_order_is_refused() {
    mod stack {
        use super::*;
        written_by!(Stack, Vec<u8>, Vec<u8>, |stack| stack.into_iter().rev().collect(), |list| {
            list
        });
        pub(super) fn of(all: &[u8]) -> impl Value + use<> {
            Stack(all.to_vec())
        }
    }
    carried(stack::of(&[1, 1])).await;
    refused(
        stack::of(&[1, 2]),
        &["Value.value.it", "a list of 2 would be read as the same in another order"],
    )
    .await;
    refused((stack::of(&[1, 2]), (0..50).collect::<HashSet<u32>>()), &["Value.value[0].it"]).await;
    refused(vec![stack::of(&[1, 1]), stack::of(&[1, 2, 3])], &["Value.value[1].it"]).await;
}

/// Sets of which serde says no more than of lists.
#[tokio::test]
async fn sets_are_carried_however_they_are_hashed_ordered_and_nested() {
    type Fixed = HashSet<u32, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;
    for many in 2..60 {
        carried((0..many).collect::<Fixed>()).await;
        carried((0..many).collect::<HashSet<u32>>()).await;
        carried((0..many).rev().collect::<BTreeSet<u32>>()).await;
        carried((0..many).map(|n| (0..n % 4).collect::<HashSet<u32>>()).collect::<Vec<_>>()).await;
    }
    carried((0..9).map(|n| (n, (0..2).collect::<Fixed>())).collect::<HashMap<_, _>>()).await;
    mod unsorted {
        use super::*;
        written_by!(
            Sorted,
            BTreeSet<u32>,
            Vec<u32>,
            |set| set.into_iter().rev().collect(),
            |list| list.into_iter().collect()
        );
        pub(super) fn of(many: u32) -> impl Value {
            Sorted((0..many).collect())
        }
    }
    carried(unsorted::of(9)).await;
}

/// A set that is written as one text.
#[tokio::test]
async fn a_set_that_its_type_writes_as_one_text_is_carried() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Labelled {
        #[serde(with = "joined")]
        labels: HashSet<String>,
    }
    mod joined {
        use super::*;
        use serde::{Deserializer, Serializer};

        pub(super) fn serialize<S: Serializer>(
            labels: &HashSet<String>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&labels.iter().cloned().collect::<Vec<_>>().join(","))
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<HashSet<String>, D::Error> {
            Ok(String::deserialize(deserializer)?.split(',').map(str::to_owned).collect())
        }
    }
    carried(Labelled { labels: (0..20).map(|n| format!("label {n}")).collect() }).await;
}

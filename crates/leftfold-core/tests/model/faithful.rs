//! What is written is what is read: values that JSON carries come back as they were, and those that
//! it would blur are refused before anything is written.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use leftfold_core::fold::{Aggregate, Event, EventError, ExecuteError, Schema, Unknown, Upcasters};
use leftfold_core::store::{Position, Query, Read, Store, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fragile::Step;

/// An event that carries a value of any kind, in a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
enum Noted<V: Value> {
    Value { value: V },
}

pub(crate) trait Value:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<V: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> Value
    for V
{
}

impl<V: Value> Event for Noted<V> {
    const NAMESPACE: &'static str = "noted";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
struct Notes<V: Value> {
    last: Option<Vec<V>>,
}

impl<V: Value> Default for Notes<V> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<V: Value> Aggregate for Notes<V> {
    const CATEGORY: &'static str = "notes";
    type Event = Noted<V>;
    type Command = V;
    type Refusal = std::convert::Infallible;

    fn apply(&mut self, event: &Noted<V>) {
        let Noted::Value { value } = event;
        self.last = Some(vec![value.clone()]);
    }

    fn decide(&self, value: &V) -> Result<Vec<Noted<V>>, std::convert::Infallible> {
        Ok(vec![Noted::Value { value: value.clone() }])
    }
}

/// Records the value and reads it from the log, not from the fold that is kept.
async fn recorded<V: Value>(value: V) -> Result<V, EventError> {
    let store = Store::memory();
    let notes = store.aggregate::<Notes<V>>();
    match notes.execute("1", value).await {
        Ok(_) => Ok(notes.load_at("1", Version(1)).await.unwrap().state.last.unwrap().remove(0)),
        Err(ExecuteError::Event(error)) => {
            assert_eq!(store.head().position, Position::START, "nothing was written");
            assert_eq!(notes.load("1").await.unwrap().version, Version::ABSENT);
            Err(error)
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn carried<V: Value>(value: V) {
    assert_eq!(recorded(value.clone()).await.as_ref(), Ok(&value));
}

/// The error names the type, the field, and what is wrong with it.
pub(crate) async fn refused<V: Value>(value: V, parts: &[&str]) {
    let error = match recorded(value.clone()).await {
        Err(error @ EventError::Encode { .. }) => error.to_string(),
        other => panic!("{value:?} became {other:?}"),
    };
    for part in ["faithful::Noted<", "Value.value"].iter().chain(parts) {
        assert!(error.contains(part), "{error}");
    }
}

/// serde_json reads about one in ten computed floating-point numbers as its neighbour, unless it is
/// told not to: what was decided on the fold that is kept was decided otherwise after a restart.
#[tokio::test]
async fn floats_come_back_bit_for_bit() {
    let mut random = fastrand::Rng::with_seed(7);
    let computed = (0..20_000).map(|_| random.f64() * 100.0);
    let values: Vec<f64> = computed
        .chain([0.1 * 0.29, 117.63331139400017, -0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324])
        .collect();
    let back = recorded(values.clone()).await.unwrap();
    assert!(values.iter().zip(&back).all(|(one, other)| one.to_bits() == other.to_bits()));
    let values: Vec<f32> = (0..20_000)
        .map(|_| f32::from_bits(random.u32(..)))
        .filter(|value| value.is_finite())
        .collect();
    let back = recorded(values.clone()).await.unwrap();
    assert!(values.iter().zip(&back).all(|(one, other)| one.to_bits() == other.to_bits()));
}

/// JSON has no NaN and no infinity: they were written as null, acknowledged, and no fold could be
/// read any more.
#[tokio::test]
async fn numbers_that_are_none_are_refused_with_their_place() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Reading {
        kwh: f64,
    }
    refused(f64::NAN, &["NaN is not a number"]).await;
    refused(f32::INFINITY, &["inf is not a number"]).await;
    refused(Some(f64::NEG_INFINITY), &["Some(-inf) is not a number"]).await;
    refused(
        vec![Reading { kwh: 1.0 }, Reading { kwh: f64::NAN }],
        &["Value.value[1].kwh: NaN is not a number"],
    )
    .await;
    refused(
        BTreeMap::from([("a", 1.0), ("b", f64::NAN)].map(|(key, value)| (key.to_owned(), value))),
        &["value.b"],
    )
    .await;
}

/// A NaN has many forms, of which `f64::NAN` is one; the null of a type that reads it as a NaN was
/// refused for another.
#[tokio::test]
async fn any_nan_is_carried_by_a_type_that_reads_null_as_one() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Gauge {
        #[serde(deserialize_with = "number_or_nan")]
        last: f64,
    }
    impl PartialEq for Gauge {
        fn eq(&self, other: &Self) -> bool {
            self.last == other.last || self.last.is_nan() && other.last.is_nan()
        }
    }
    fn number_or_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
    for last in [f64::NAN, -f64::NAN, f64::from_bits(f64::NAN.to_bits() ^ 1), 1.5] {
        carried(Gauge { last }).await;
    }
    refused(Gauge { last: f64::INFINITY }, &["Value.value.last", "inf is not a number"]).await;
}

/// A Some that is written as null was read as None.
#[tokio::test]
async fn a_some_that_looks_like_none_is_refused() {
    refused(Some(()), &["Some(()) would be read as None"]).await;
    refused(Some(None::<u8>), &["Some(None) would be read as None"]).await;
    refused(vec![Some(serde_json::Value::Null)], &["Value.value[0]"]).await;
    carried(None::<()>).await;
    carried(None::<Option<u8>>).await;
    carried(Some(Some(1))).await;
    carried(serde_json::Value::Null).await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

fn tree(levels: usize) -> Tree {
    (1..levels).fold(Tree { children: Vec::new() }, |inner, _| Tree { children: vec![inner] })
}

/// serde_json writes what is nested without end, and reads 127 levels: such an event was never
/// readable again.
#[tokio::test]
async fn what_is_nested_too_deeply_to_be_read_is_refused() {
    carried(tree(59)).await;
    refused(tree(70), &["children[0]", "more than 120 arrays and objects"]).await;
    refused(tree(1_000), &["more than 120"]).await;
}

#[tokio::test]
async fn big_numbers_are_carried_where_serde_can_read_them_and_refused_elsewhere() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Amount { wei: u128, to: String },
    }
    carried(u128::MAX).await;
    carried(vec![i128::MIN, -1, 0]).await;
    carried(HashMap::from([(u128::MAX, 1)])).await;
    refused(
        Tagged::Amount { wei: 20_000_000_000_000_000_000, to: String::new() },
        &["wei", "128 bits"],
    )
    .await;
}

#[tokio::test]
async fn keys_are_carried_unless_they_are_no_text_or_stand_twice() {
    #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    enum Colour {
        Red,
        Green,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Counts { by: BTreeMap<u32, u32> },
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, u32>,
    }
    carried(HashMap::from([(1_u8, 'a'), (2, 'b'), (3, 'c')])).await;
    carried(HashMap::from([(Colour::Red, true), (Colour::Green, false)])).await;
    carried(HashMap::from([(true, 1), (false, 2)])).await;
    carried(HashMap::from([('\n', 1), ('"', 2), ('\\', 3)])).await;
    carried(Flat { id: 1, rest: BTreeMap::from([("a".to_owned(), 2)]) }).await;
    refused(
        Flat { id: 1, rest: BTreeMap::from([("id".to_owned(), 2)]) },
        &["the key \"id\" twice"],
    )
    .await;
    refused(HashMap::from([((1, 2), 3)]), &["neither text nor a number"]).await;
    refused(Tagged::Counts { by: BTreeMap::from([(1, 1)]) }, &["keys that are numbers"]).await;
}

/// Of untagged variants the first that fits is read.
#[tokio::test]
async fn an_untagged_variant_that_another_one_fits_is_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Small(u32),
        Large(i64),
        Text(String),
        Pair { x: u8 },
        Point { x: u8, y: u8 },
    }
    carried(vec![
        Number::Small(1),
        Number::Large(-1),
        Number::Text("1".into()),
        Number::Pair { x: 1 },
    ])
    .await;
    refused(
        vec![Number::Small(1), Number::Large(1)],
        &["Value.value[1]: 1 (i64) would be read as 1 (u32)"],
    )
    .await;
    refused(Number::Point { x: 1, y: 2 }, &["Value.value.y", "would be read as nothing"]).await;
}

#[tokio::test]
async fn a_field_that_is_left_out_without_a_default_is_refused_and_carried_with_one() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Strict {
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Lenient {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        name: String,
        #[serde(default = "one", skip_serializing_if = "is_zero")]
        count: u32,
    }
    fn one() -> u32 {
        1
    }
    fn is_zero(count: &u32) -> bool {
        *count == 0
    }
    carried(Strict { name: "a".into() }).await;
    refused(Strict { name: String::new() }, &["missing field `name`", "#[serde(default)]"]).await;
    carried(Lenient { name: String::new(), count: 2 }).await;
    refused(Lenient { name: String::new(), count: 0 }, &["Value.value.count", "1 (u32)"]).await;
}

/// The same event before its type had the field `unit`, and after.
mod ages {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Old {
        #[serde(rename = "coin.Sent")]
        Sent { wei: u128, debt: i128, kwh: f64 },
    }

    impl Event for Old {
        const NAMESPACE: &'static str = "coin";
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum New {
        Sent { amount: u128, debt: i128, kwh: f64, unit: String },
    }

    impl Event for New {
        const NAMESPACE: &'static str = "coin";

        fn upcasters() -> Upcasters {
            Upcasters::none().change("coin.Sent", 1, |mut data| {
                data["amount"] = data["wei"].take();
                data["unit"] = "wei".into();
                Ok(data)
            })
        }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Looking {
        Sent { ether: f64, debt: i128, kwh: f64 },
    }

    impl Event for Looking {
        const NAMESPACE: &'static str = "coin";

        fn upcasters() -> Upcasters {
            Upcasters::none().change("coin.Sent", 1, |mut data| {
                data["ether"] = (data["wei"].as_f64().ok_or("no number")? / 1e18).into();
                Ok(data)
            })
        }
    }
}

/// A number beyond 64 bits became a float on its way through an upcaster that did not look at it,
/// and the event was unreadable from the day on which its type had an upcaster.
#[tokio::test]
async fn big_numbers_pass_through_upcasters_and_one_that_looks_at_them_is_an_error() {
    let store = Store::memory();
    let (wei, debt, kwh) = (20_000_000_000_000_000_001, i128::MIN, 0.1 * 0.29);
    store.facts("coin", "1", &[ages::Old::Sent { wei, debt, kwh }]).record().await.unwrap();
    let recorded = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    let read =
        Schema::of::<ages::New>().unwrap().decode::<ages::New>(&recorded[0], Unknown::Refuse);
    assert_eq!(read, Ok(vec![ages::New::Sent { amount: wei, debt, kwh, unit: "wei".into() }]));
    let looked = Schema::of::<ages::Looking>()
        .unwrap()
        .decode::<ages::Looking>(&recorded[0], Unknown::Refuse);
    let holds_any = serde_json::from_str::<serde_json::Value>("1e400").is_ok();
    match looked {
        Err(EventError::Upcast { position: 1, detail, .. }) => {
            assert!(detail.contains("arbitrary_precision"), "{detail}")
        }
        other => assert!(holds_any && other.is_ok(), "{other:?}"),
    }
}

/// A refusal of two variants that are written in the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(untagged)]
enum Ambiguous {
    #[error("too few: {many}")]
    TooFew { many: u32 },
    #[error("too many: {many}")]
    TooMany { many: u32 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Refusing;

impl Aggregate for Refusing {
    const CATEGORY: &'static str = "refusing";
    type Event = Step;
    type Command = u32;
    type Refusal = Ambiguous;

    fn apply(&mut self, _: &Step) {}

    fn decide(&self, many: &u32) -> Result<Vec<Step>, Ambiguous> {
        let many = *many;
        Err(if many < 5 { Ambiguous::TooFew { many } } else { Ambiguous::TooMany { many } })
    }
}

/// A refusal that was to be remembered came back as another one.
#[tokio::test]
async fn a_refusal_that_would_be_remembered_as_another_one_is_an_error() {
    let store = Store::memory();
    let refusing = store.aggregate::<Refusing>();
    let command = |many: u32| {
        let command = refusing.command("1", many).id("test", &many.to_string());
        command.request(&many.to_le_bytes()).remembering_refusal().execute()
    };
    for _ in 0..2 {
        assert_eq!(command(1).await, Err(ExecuteError::Refused(Ambiguous::TooFew { many: 1 })));
    }
    let answer = command(9).await;
    let Err(ExecuteError::Event(EventError::Encode { name, detail })) = answer else {
        panic!("{answer:?}")
    };
    assert!(
        name.ends_with("Ambiguous") && detail.contains("another of its untagged variants"),
        "{name}: {detail}"
    );
}

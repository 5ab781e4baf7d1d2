//! What a person asks of an application from a terminal: on a directory while nothing runs, and at
//! an address while the application works on it.

use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::operator::{OperatorRequests, RequestState};
use leftfold::runtime::{EffectId, EffectState, RunningRuntime};
use leftfold::store::Store;

use crate::open_work::{DEADLINE, Order, OrderEvent, Packing, TakeMoney};
use crate::support::{Program, port, ran, store_of};

const A_MINUTE: Duration = Duration::from_secs(60);

/// An application whose effect gets no answer, and whose process may be mended.
async fn start<const MENDED: bool>(store: &Store) -> RunningRuntime {
    let runtime = Runtime::new(store).named("desk").effect(TakeMoney);
    runtime.process::<Packing<MENDED>>().start().await.unwrap()
}

/// Places an order that leaves an effect in doubt and a parked trigger, and waits for both.
async fn place_large(store: &Store, runtime: &RunningRuntime) -> EffectId {
    let placed = [OrderEvent::Placed { cents: 500 }];
    let orders = store.aggregate::<Order>();
    let id = EffectId(orders.record("large", &placed).await.unwrap().last());
    let status = runtime.effects().wait(id, A_MINUTE).await.unwrap().unwrap();
    assert!(matches!(status.state, EffectState::InDoubt { .. }), "{status:?}");
    let parked = async {
        while runtime.processes().parked("packing").await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(A_MINUTE, parked).await.unwrap();
    let is_over = async {
        // The attempt was opened before it came into doubt.
        let begun = store.now().await.unwrap();
        while store.now().await.unwrap() < begun.plus(DEADLINE) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(A_MINUTE, is_over).await.unwrap();
    id
}

/// An application has crashed with a payment in doubt and a poison event. While it is down a person
/// says what became of the payment, and asks for another try of what the next release has mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_a_directory_is_taken_by_the_application_when_it_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let place = store_of(directory.path(), 1);
    let store = leftfold::open(&place).await.unwrap();
    let runtime = start::<false>(&store).await;
    let effect = place_large(&store, &runtime).await;
    let person = ["--as", "ada", "--reason", "mended in 1.2"];
    let number = effect.to_string();
    let resolve = ["resolve", &place, &number, "--happened"];
    // As long as the application has the directory, it is asked in its own way.
    let busy = ran(&[&resolve[..], &person].concat());
    assert!(busy.code == 1 && busy.said.contains("another program writes"), "{busy:?}");
    runtime.stop().await.unwrap();
    store.close().await.unwrap();

    let unnamed = ran(&["retry", &place, "packing", "--reason", "mended"]);
    assert!(unnamed.code == 2 && unnamed.said.contains("--as"), "{unnamed:?}");
    let asked = ran(&[&["retry", &place, "packing", "--json"], &person[..]].concat()).object();
    assert_eq!(asked["answer"]["state"], "open");
    let told = ran(&[&resolve[..], &person].concat()).well();
    assert!(told.contains("when it is started"), "{told}");
    let wrong = ran(&[&["skip", &place, "packing", "--position", "1"], &person[..]].concat());
    assert!(wrong.well().contains("not taken so far"));
    let open = ran(&["requests", &place, "--json"]).objects();
    assert_eq!(open.len(), 3, "{open:?}");
    let id = open[2]["request"].as_str().unwrap();
    let withdrawn = ran(&[&["withdraw", &place, id], &person[..]].concat()).well();
    assert!(withdrawn.contains("withdrawn by ada"), "{withdrawn}");

    let store = leftfold::open(&place).await.unwrap();
    let runtime = start::<true>(&store).await;
    let requests = OperatorRequests::of(&store);
    for request in &open[..2] {
        let id = request["request"].as_str().unwrap().parse().unwrap();
        let status = requests.wait(id, A_MINUTE).await.unwrap().unwrap();
        assert!(matches!(status.state, RequestState::Done { .. }), "{status:?}");
    }
    runtime.stop().await.unwrap();
    store.close().await.unwrap();
    let all = ran(&["requests", &place, "--all", "--json"]).objects();
    let answers: Vec<_> = all.iter().map(|request| &request["answer"]["state"]).collect();
    assert_eq!(answers.iter().filter(|state| **state == "done").count(), 2, "{all:?}");
    assert_eq!(all[0]["by"], "ada");
    assert!(ran(&["parked", &place, "--json"]).objects().is_empty());
    let concluded = ran(&["effects", &place, "--all", "--json"]).object();
    assert_eq!((&concluded["state"], &concluded["reason"]), (&"done".into(), &"by ada".into()));
    assert!(ran(&["requests", &place]).well().contains("0 requests"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_at_an_address_is_answered_by_the_application_that_works_on_it() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let (place, users) = (store_of(directory.path(), 1), directory.path().join("users"));
    let mut tokens = Vec::new();
    for (name, role) in [("app", "runtime"), ("ada", "admin"), ("eve", "append")] {
        let users = users.to_str().unwrap();
        let added = ran(&["users", "add", users, name, role, "--token"]);
        assert_eq!(added.code, 0, "{added:?}");
        tokens.push(added.said.trim().to_owned());
    }
    let more = ["--users", users.to_str().unwrap(), "--insecure"];
    let program = Program::serve_with(place.as_ref(), port, &more);
    let address = |user: usize| {
        let name = ["app", "ada", "eve"][user];
        format!("leftfold://{name}:{}@127.0.0.1:{port}", tokens[user])
    };
    let (app, ada, eve) = (address(0), address(1), address(2));
    let store = leftfold::open(&app).await.unwrap();
    let runtime = start::<false>(&store).await;
    let effect = place_large(&store, &runtime).await.to_string();

    let again = ran(&["retry", &ada, "packing", "--reason", "perhaps it was the network"]);
    assert!(again.code == 1 && again.said.contains("too large"), "{again:?}");
    let why = ["--reason", "it was a test"];
    let skipped = ran(&[&["skip", &ada, "packing", "--all", "--json"], &why[..]].concat());
    let skipped = skipped.object();
    assert_eq!((&skipped["by"], &skipped["caller"]), (&"ada".into(), &"ada".into()), "{skipped}");
    assert_eq!(skipped["answer"]["number"], 1);
    let wrong = ran(&[&["resolve", &ada, &effect, "--happened", "7"], &why[..]].concat());
    assert!(wrong.code == 1 && wrong.said.contains("no outcome"), "{wrong:?}");
    let bob = ["resolve", &ada, &effect, "--did-not-happen", "--as", "bob", "--json"];
    let resolved = ran(&[&bob[..], &why].concat()).object();
    assert_eq!(resolved["answer"]["by"], "desk", "{resolved}");
    let listed = ran(&["requests", &ada, "--all"]).well();
    assert!(listed.contains("bob (ada)"), "{listed}");
    let open = ran(&["effects", &ada, "--all", "--json"]).object();
    assert_eq!(open["reason"], "by bob (ada): it was a test", "{open}");
    // A name that no runtime has is nobody's, and who may not write as the runtime may not ask.
    let nobody = ran(&[&["retry", &ada, "paking", "--wait", "1"], &why[..]].concat());
    assert!(nobody.code == 5 && nobody.said.contains("no runtime has taken it"), "{nobody:?}");
    let refused = ran(&[&["retry", &eve, "packing"], &why[..]].concat());
    assert!(refused.code == 1 && refused.said.contains("role runtime"), "{refused:?}");
    runtime.stop().await.unwrap();
    store.close().await.unwrap();
    program.stop();
}

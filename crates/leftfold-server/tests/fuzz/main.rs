//! Inputs of strangers: requests of every protocol, and bytes on the port, made at random by the
//! descriptions and changed at random.

mod changes;
mod frames;
mod requests;
mod target;

use std::time::{Duration, Instant};

use fastrand::Rng;
use leftfold::testing::{extent, seed};

use requests::Descriptions;
use target::{Harness, Protocol};

/// Runs a target on inputs of a seed, for a few seconds or, at length, for ten minutes.
fn run(make: impl Fn(&mut Rng) -> Vec<u8>, target: impl Fn(&Harness, &[u8])) {
    let mut random = Rng::with_seed(seed());
    let harness = Harness::new();
    let until = Instant::now() + Duration::from_secs(extent(3, 600));
    let mut inputs = 0_u64;
    // At least so many, however slow the machine is.
    while inputs < 50 || Instant::now() < until {
        let mut input = make(&mut random);
        changes::some(&mut random, &mut input);
        target(&harness, &input);
        harness.check(&input);
        inputs += 1;
    }
    harness.close();
    eprintln!("{inputs} inputs");
}

fn requests_of(protocol: Protocol) {
    let descriptions = Descriptions::read();
    run(
        |random| requests::input(&descriptions, protocol, random),
        |harness, input| harness.call(protocol, input),
    );
}

#[test]
fn requests_of_the_native_protocol_change_nothing_but_what_they_say() {
    requests_of(Protocol::Native);
}

#[test]
fn requests_of_umadb_change_nothing_but_what_they_say() {
    requests_of(Protocol::UmaDb);
}

#[test]
fn requests_of_kurrentdb_change_nothing_but_what_they_say() {
    requests_of(Protocol::KurrentDb);
}

#[test]
fn bytes_on_the_port_end_their_connection_and_nothing_else() {
    run(frames::input, |harness, input| harness.connect(input));
}

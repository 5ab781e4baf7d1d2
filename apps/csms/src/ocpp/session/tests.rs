use super::*;

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;
const STOP: &str = r#"[2,"1","StopTransaction",{"transactionId":7}]"#;

/// A session with a clock that the test moves.
struct Bench {
    session: Session,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { session: Session::new(Limits::default()), now: Instant::now() }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn call(&mut self, id: &str, timeout_s: u64) -> Result<(), CallRejected> {
        let action = "UnlockConnector".to_owned();
        let call = Call { id: id_of(id), action, payload: Payload::empty() };
        self.session.call(call, self.now + Duration::from_secs(timeout_s))
    }

    fn received(&mut self, text: &str) -> Received {
        self.session.received(text, self.now)
    }

    fn receive_call(&mut self, text: &str) -> CallKey {
        match self.received(text) {
            Received::Call(call) => call.key,
            other => panic!("not a call: {other:?}"),
        }
    }

    fn reply(&mut self, key: CallKey) -> Result<(), UnknownCall> {
        self.session.reply(key, Reply::Result(Payload::empty()), self.now)
    }

    fn poll(&mut self) -> Vec<SessionOutput> {
        std::iter::from_fn(|| self.session.poll(self.now)).collect()
    }
}

fn id_of(text: &str) -> MessageId {
    MessageId::new(text).unwrap()
}

fn send(text: &str) -> SessionOutput {
    SessionOutput::Send(text.to_owned())
}

fn unlock(id: &str) -> SessionOutput {
    SessionOutput::Send(format!(r#"[2,"{id}","UnlockConnector",{{}}]"#))
}

fn settled(id: &str, outcome: CallOutcome) -> SettledCall {
    SettledCall { id: id_of(id), outcome }
}

fn answered() -> CallOutcome {
    CallOutcome::Answered(WithViolations { message: Payload::empty(), violations: vec![] })
}

#[test]
fn one_call_of_ours_is_outstanding_and_the_rest_wait_their_turn() {
    let mut bench = Bench::new();
    bench.call("a", 30).unwrap();
    bench.call("b", 30).unwrap();
    assert_eq!(bench.poll(), [unlock("a")]);
    assert_eq!(bench.received(r#"[3,"a",{}]"#), Received::Settled(settled("a", answered())));
    assert_eq!(bench.poll(), [unlock("b")]);
    assert!(matches!(
        bench.received(r#"[4,"b","NotSupported","",{}]"#),
        Received::Settled(SettledCall {
            outcome: CallOutcome::Refused(WithViolations { message, .. }),
            ..
        }) if message.code == ErrorCode::NotSupported
    ));
    assert_eq!(bench.poll(), []);
    assert_eq!(bench.session.next_deadline(), None);
}

#[test]
fn calls_cross_and_the_ids_of_the_directions_do_not_mix() {
    let mut bench = Bench::new();
    bench.call("1", 30).unwrap();
    assert_eq!(bench.poll(), [unlock("1")]);
    let key = bench.receive_call(HEARTBEAT);
    bench.reply(key).unwrap();
    assert_eq!(bench.poll(), [send(r#"[3,"1",{}]"#)]);
    assert_eq!(bench.received(r#"[3,"1",{}]"#), Received::Settled(settled("1", answered())));
}

#[test]
fn a_full_queue_refuses_further_calls() {
    let mut bench = Bench::new();
    let queued_calls_max = bench.session.limits.queued_calls_max;
    for i in 0..=queued_calls_max {
        bench.call(&format!("c{i}"), 30).unwrap();
    }
    assert_eq!(bench.call("x", 30), Err(CallRejected::Full { queued_calls_max }));
    assert_eq!(bench.poll(), [unlock("c0")]);
    assert_eq!(bench.call("x", 30), Err(CallRejected::Full { queued_calls_max }));
    let _ = bench.received(r#"[3,"c0",{}]"#);
    bench.call("x", 30).unwrap();
}

#[test]
fn a_message_id_under_way_is_not_used_twice() {
    let mut bench = Bench::new();
    bench.call("a", 30).unwrap();
    assert_eq!(bench.call("a", 30), Err(CallRejected::IdInUse));
    bench.poll();
    assert_eq!(bench.call("a", 30), Err(CallRejected::IdInUse));
    bench.after(30).poll();
    assert_eq!(bench.call("a", 30), Err(CallRejected::IdInUse));
}

#[test]
fn a_timed_out_call_makes_room_and_its_late_answer_is_reported_but_settles_nothing() {
    let mut bench = Bench::new();
    bench.call("a", 30).unwrap();
    bench.call("b", 60).unwrap();
    bench.poll();
    assert_eq!(bench.session.next_deadline(), Some(bench.now + Duration::from_secs(30)));
    let timed_out =
        SessionOutput::Settled(settled("a", CallOutcome::TimedOut(Transmission::MayBeWritten)));
    assert_eq!(bench.after(30).poll(), [timed_out, unlock("b")]);
    assert_eq!(
        bench.received(r#"[3,"a",{}]"#),
        Received::Late { id: id_of("a"), outcome: answered() }
    );
    assert_eq!(bench.received(r#"[3,"a",{}]"#), Received::Unsolicited { id: id_of("a") });
    assert_eq!(bench.received(r#"[3,"b",{}]"#), Received::Settled(settled("b", answered())));
}

#[test]
fn a_call_whose_deadline_passes_in_the_queue_is_never_sent() {
    let mut bench = Bench::new();
    bench.call("a", 60).unwrap();
    bench.poll();
    bench.call("b", 10).unwrap();
    let timed_out =
        SessionOutput::Settled(settled("b", CallOutcome::TimedOut(Transmission::NeverWritten)));
    assert_eq!(bench.after(10).poll(), [timed_out]);
    let _ = bench.received(r#"[3,"a",{}]"#);
    assert_eq!(bench.poll(), []);
}

#[test]
fn an_answer_that_overtakes_the_report_of_its_timeout_counts() {
    let mut bench = Bench::new();
    bench.call("a", 30).unwrap();
    bench.poll();
    assert_eq!(
        bench.after(31).received(r#"[3,"a",{}]"#),
        Received::Settled(settled("a", answered()))
    );
    assert_eq!(bench.poll(), []);
}

#[test]
fn an_answer_to_a_call_that_was_not_sent_is_ignored() {
    let mut bench = Bench::new();
    assert_eq!(bench.received(r#"[3,"a",{}]"#), Received::Unsolicited { id: id_of("a") });
    bench.call("a", 30).unwrap();
    assert_eq!(bench.received(r#"[3,"a",{}]"#), Received::Unsolicited { id: id_of("a") });
    assert_eq!(bench.poll(), [unlock("a")]);
}

#[test]
fn a_lost_connection_tells_what_may_have_been_written_from_what_was_not() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.call(id, 30).unwrap();
    }
    assert_eq!(bench.poll(), [unlock("a")]);
    let lost = |id, delivery| settled(id, CallOutcome::ConnectionLost(delivery));
    let expected = [
        lost("a", Transmission::MayBeWritten),
        lost("b", Transmission::NeverWritten),
        lost("c", Transmission::NeverWritten),
    ];
    assert_eq!(bench.session.close(), expected);
}

#[test]
fn an_unreadable_answer_settles_its_call_with_an_unknown_result() {
    let mut bench = Bench::new();
    bench.call("a", 30).unwrap();
    bench.poll();
    assert!(matches!(
        bench.received(r#"[3,"a",{"status":"#),
        Received::Settled(SettledCall { outcome: CallOutcome::Unreadable(_), .. })
    ));
}

#[test]
fn a_broken_call_is_answered_and_other_nonsense_is_not() {
    let mut bench = Bench::new();
    assert!(matches!(bench.received(r#"[2,"1","StopTransaction",{"#), Received::Malformed(_)));
    assert!(
        matches!(&bench.poll()[..], [SessionOutput::Send(text)] if text.starts_with(r#"[4,"1","FormationViolation","#))
    );
    for text in ["nonsense", r#"[5,"1",{}]"#, r#"[2,{},"Heartbeat",{}]"#] {
        assert!(matches!(bench.received(text), Received::Malformed(_)), "{text}");
        assert_eq!(bench.poll(), [], "{text}");
    }
}

#[test]
fn the_latest_report_again_gets_the_same_answer_again() {
    let mut bench = Bench::new();
    let key = bench.receive_call(STOP);
    assert_eq!(bench.received(STOP), Received::InProgress { id: id_of("1") });
    bench.reply(key).unwrap();
    assert_eq!(bench.reply(key), Err(UnknownCall));
    assert_eq!(bench.poll(), [send(r#"[3,"1",{}]"#)]);
    assert_eq!(bench.after(60).received(STOP), Received::Repeated { id: id_of("1") });
    assert_eq!(bench.poll(), [send(r#"[3,"1",{}]"#)]);
    bench.after(61);
    bench.receive_call(STOP);
}

#[test]
fn a_message_id_alone_never_makes_a_repetition() {
    let mut bench = Bench::new();
    let key = bench.receive_call(STOP);
    bench.reply(key).unwrap();
    // The station that uses one id for everything: other bytes are another call.
    let other = STOP.replace('7', "8");
    let key = bench.receive_call(&other);
    bench.reply(key).unwrap();
    // No longer the latest call, so it is told anew.
    bench.receive_call(STOP);
}

#[test]
fn a_heartbeat_is_never_answered_with_an_old_time() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let key = bench.receive_call(HEARTBEAT);
        bench.reply(key).unwrap();
        bench.poll();
    }
}

#[test]
fn an_error_answer_is_not_repeated_but_tried_again() {
    let mut bench = Bench::new();
    let key = bench.receive_call(STOP);
    let error = Reply::Error { code: ErrorCode::InternalError, description: "try again".into() };
    bench.session.reply(key, error, bench.now).unwrap();
    bench.poll();
    bench.receive_call(STOP);
}

#[test]
fn a_flood_of_calls_is_bounded_and_hides_no_answer() {
    let mut bench = Bench::new();
    bench.call("our", 30).unwrap();
    bench.poll();
    let keys: Vec<_> = (0..bench.session.limits.unanswered_max)
        .map(|i| bench.receive_call(&format!(r#"[2,"{i}","Heartbeat",{{}}]"#)))
        .collect();
    assert!(bench.session.is_saturated());
    assert_eq!(bench.received(r#"[2,"x","Heartbeat",{}]"#), Received::Overrun);
    assert_eq!(bench.received(r#"[2,"1","Heartbeat","#), Received::Overrun);
    assert_eq!(bench.received(r#"[3,"our",{}]"#), Received::Settled(settled("our", answered())));
    bench.reply(keys[0]).unwrap();
    assert!(bench.session.is_saturated());
    bench.poll();
    assert!(!bench.session.is_saturated());
    bench.receive_call(r#"[2,"x","Heartbeat",{}]"#);
}

#[test]
fn two_calls_under_one_id_are_answered_each() {
    let mut bench = Bench::new();
    let heartbeat = bench.receive_call(HEARTBEAT);
    let stop = bench.receive_call(STOP);
    let error = Reply::Error { code: ErrorCode::InternalError, description: String::new() };
    bench.session.reply(heartbeat, error, bench.now).unwrap();
    bench.reply(stop).unwrap();
    assert_eq!(bench.poll(), [send(r#"[4,"1","InternalError","",{}]"#), send(r#"[3,"1",{}]"#)]);
}

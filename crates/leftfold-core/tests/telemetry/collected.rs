//! With the feature `opentelemetry`: the spans as a collector gets them.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use leftfold_core::runtime::{Clock, Runtime};
use leftfold_core::store::Store;
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, Tracer,
};
use opentelemetry::{Context, KeyValue};
use tracing_subscriber::layer::SubscriberExt;

use super::{ALONE, Command, Door, PARENT, TRACE, parent, walled_up, work};

/// A tracer that keeps what it is asked to begin.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Collected>>>);

#[derive(Clone, Debug)]
struct Collected {
    name: String,
    context: SpanContext,
    parent: SpanId,
}

struct Open(SpanContext);

impl Tracer for Collector {
    type Span = Open;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Open {
        let mut all = self.0.lock().unwrap();
        let parent = parent.span().span_context().clone();
        let number = all.len() as u64 + 1;
        let begun = TraceId::from(u128::from(number));
        let trace = if parent.is_valid() { parent.trace_id() } else { begun };
        let context = SpanContext::new(
            trace,
            SpanId::from(number),
            TraceFlags::SAMPLED,
            false,
            parent.trace_state().clone(),
        );
        all.push(Collected {
            name: builder.name.into_owned(),
            context: context.clone(),
            parent: parent.span_id(),
        });
        Open(context)
    }
}

impl Span for Open {
    fn add_event_with_timestamp<T: Into<Cow<'static, str>>>(
        &mut self,
        _: T,
        _: SystemTime,
        _: Vec<KeyValue>,
    ) {
    }

    fn span_context(&self) -> &SpanContext {
        &self.0
    }

    fn is_recording(&self) -> bool {
        true
    }

    fn set_attribute(&mut self, _: KeyValue) {}

    fn set_status(&mut self, _: Status) {}

    fn update_name<T: Into<Cow<'static, str>>>(&mut self, _: T) {}

    fn add_link(&mut self, _: SpanContext, _: Vec<KeyValue>) {}

    fn end_with_timestamp(&mut self, _: SystemTime) {}
}

impl Collector {
    /// The spans of a name whose parent is this.
    fn below(&self, parent: SpanId, name: &str) -> Vec<Collected> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|span| span.name == name && span.parent == parent)
            .cloned()
            .collect()
    }

    fn one_below(&self, parent: SpanId, name: &str) -> Collected {
        let found = self.below(parent, name);
        assert_eq!(found.len(), 1, "{name} below {parent} in {:?}", self.0.lock().unwrap());
        found[0].clone()
    }
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_through_everything_behind_the_log() {
    let _alone = ALONE.lock().await;
    let collector = Collector::default();
    let layer = tracing_opentelemetry::OpenTelemetryLayer::new(collector.clone());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let store = Store::memory();
    let events = work(&store).await;
    let command = collector.one_below(SpanId::from_hex(PARENT).unwrap(), "leftfold.command");
    let asked = command.context.span_id();
    collector.one_below(asked, "leftfold.append");
    let reaction = collector.one_below(asked, "leftfold.reaction");
    collector.one_below(reaction.context.span_id(), "leftfold.command");
    let attempt = collector.one_below(asked, "leftfold.effect");
    collector.one_below(attempt.context.span_id(), "call");
    let report = collector.one_below(attempt.context.span_id(), "leftfold.command");
    // The events of the three commands were consumed each in its own trace context.
    collector.one_below(asked, "leftfold.projection");
    collector.one_below(report.context.span_id(), "leftfold.projection");
    for event in events {
        let trace = event.metadata.trace.unwrap();
        let text = trace.to_string();
        assert!(text.starts_with(&format!("00-{TRACE}-")) && text.ends_with("-01"), "{text}");
        assert_ne!(trace, parent(), "it is the span of the command that recorded the event");
        assert_eq!(trace.state(), "vendor=1");
    }
}

#[tokio::test]
async fn a_command_without_a_parent_takes_it_from_the_span_around_it() {
    let _alone = ALONE.lock().await;
    let collector = Collector::default();
    let layer = tracing_opentelemetry::OpenTelemetryLayer::new(collector.clone());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let store = Store::memory();
    let request = tracing::info_span!("request");
    let executing =
        async { store.aggregate::<Door>().execute("a", Command::Ask(1)).await.unwrap() };
    tracing::Instrument::instrument(executing, request).await;
    let request = collector.one_below(SpanId::INVALID, "request");
    let command = collector.one_below(request.context.span_id(), "leftfold.command");
    let page = store
        .page(leftfold_core::store::Read::matching(
            leftfold_core::store::Query::all(),
            leftfold_core::store::Position(1),
        ))
        .await
        .unwrap();
    let trace = page.events[0].metadata.trace.clone().unwrap();
    assert_eq!(SpanId::from_bytes(trace.parent_id()), command.context.span_id());
    assert_eq!(TraceId::from_bytes(trace.trace_id()), request.context.trace_id());
}

#[tokio::test]
async fn a_scheduled_command_goes_on_in_the_trace_of_the_span_in_which_it_was_sent() {
    let _alone = ALONE.lock().await;
    let collector = Collector::default();
    let layer = tracing_opentelemetry::OpenTelemetryLayer::new(collector.clone());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (store, clock) = (Store::memory(), Arc::new(leftfold_testing::HandClock::going()));
    let at = clock.now().plus(Duration::from_secs(3_600));
    let command = store.scheduled::<Door>("walling up of front");
    let sending = async { command.send("front", &Command::WallUp, at).await.unwrap() };
    tracing::Instrument::instrument(sending, tracing::info_span!("request")).await;
    let run = async || {
        let runtime = Runtime::new(&store).clock(clock.clone()).scheduled::<Door>();
        runtime.run_until_idle().await.unwrap()
    };
    run().await;
    clock.advance(Duration::from_secs(4_000));
    run().await;
    let request = collector.one_below(SpanId::INVALID, "request").context;
    let trace = walled_up(&store).await["front"].clone().unwrap();
    assert_eq!(TraceId::from_bytes(trace.trace_id()), request.trace_id());
    // It is the span of the command that recorded the event, below the request.
    let below = collector.below(request.span_id(), "leftfold.command");
    let parents: Vec<SpanId> = below.iter().map(|span| span.context.span_id()).collect();
    assert!(parents.contains(&SpanId::from_bytes(trace.parent_id())), "{parents:?}");
}

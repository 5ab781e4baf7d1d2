//! The same requests to an UmaDB server and to this one: the same outcomes, positions, events and
//! classes of errors.

use fastrand::Rng;
use leftfold::testing::{extent, seed};
use leftfold_proving::UmaDbServer;
use tonic::{Code, Status};

use super::wire::dcb_client::DcbClient;
use super::wire::error_response::ErrorType;
use super::wire::{
    AppendCondition, AppendRequest, Event, HeadRequest, MetadataEntry, Query, QueryItem,
    ReadRequest, ReadResponse, SequencedEvent, SubscribeRequest, TrackingInfo, TrackingRequest,
};
use super::{class, client};
use crate::support::{RawChannel, RunningServer};

/// Requests to each of a pair of servers.
const REQUESTS: u64 = 500;

/// A request of a client.
#[derive(Clone, Debug)]
enum Call {
    Append(AppendRequest),
    Read(ReadRequest),
    /// A subscription, and the event that is appended while it is live.
    Subscribe(SubscribeRequest, Event),
    Head,
    Tracking(String),
}

/// Outcome of a call, as its client sees it.
#[derive(Debug, PartialEq)]
enum Seen {
    Appended(u64),
    Read(Vec<ReadResponse>),
    Subscribed(Vec<SequencedEvent>),
    Position(Option<u64>),
    Refused(Code, ErrorType),
}

type Client = DcbClient<RawChannel>;

async fn perform(client: &mut Client, call: Call) -> Seen {
    let seen = match call {
        Call::Append(request) => {
            client.append(request).await.map(|reply| Seen::Appended(reply.into_inner().position))
        }
        Call::Read(request) => read(client, request).await.map(Seen::Read),
        Call::Subscribe(request, event) => {
            subscribe(client, request, event).await.map(Seen::Subscribed)
        }
        Call::Head => {
            let reply = client.head(HeadRequest {}).await;
            reply.map(|reply| Seen::Position(reply.into_inner().position))
        }
        Call::Tracking(source) => {
            let reply = client.get_tracking_info(TrackingRequest { source }).await;
            reply.map(|reply| Seen::Position(reply.into_inner().position))
        }
    };
    seen.unwrap_or_else(|status| {
        let (code, error_type) = class(&status);
        Seen::Refused(code, error_type)
    })
}

async fn read(client: &mut Client, request: ReadRequest) -> Result<Vec<ReadResponse>, Status> {
    let mut stream = client.read(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// Takes what is there, and then the event that is appended.
async fn subscribe(
    client: &mut Client,
    request: SubscribeRequest,
    event: Event,
) -> Result<Vec<SequencedEvent>, Status> {
    let start = request.after.map(|after| after.saturating_add(1));
    let is_endless = request.after != Some(u64::MAX);
    let reads = ReadRequest { query: request.query.clone(), start, ..ReadRequest::default() };
    let known = read(client, reads).await?.iter().map(|message| message.events.len()).sum();
    let mut stream = client.subscribe(request).await?.into_inner();
    let mut events = Vec::new();
    while events.len() < known && is_endless {
        let message = stream.message().await?.expect("it does not end");
        events.extend(message.events);
    }
    let append = AppendRequest { events: vec![event], ..AppendRequest::default() };
    client.append(append).await?;
    match stream.message().await? {
        Some(message) => events.extend(message.events),
        None => assert!(!is_endless),
    }
    Ok(events)
}

/// Maker of requests that are likely to meet one another.
struct Maker {
    random: Rng,
    /// Appends with ids that were made, to be sent again.
    sent: Vec<AppendRequest>,
    /// Highest position that there may be.
    head: u64,
    tracked: u64,
}

/// Counts of what was seen, by kind: a run that never met a refusal shows nothing.
#[derive(Debug, Default)]
struct Tally {
    appended: u32,
    events_read: usize,
    conflicts: u32,
    other_refusals: u32,
}

impl Tally {
    fn add(&mut self, seen: &Seen) {
        match seen {
            Seen::Appended(_) => self.appended += 1,
            Seen::Read(messages) => {
                self.events_read += messages.iter().map(|one| one.events.len()).sum::<usize>();
            }
            Seen::Refused(_, ErrorType::Integrity) => self.conflicts += 1,
            Seen::Refused(..) => self.other_refusals += 1,
            Seen::Subscribed(_) | Seen::Position(_) => {}
        }
    }
}

impl Maker {
    fn chance(&mut self, one_in: usize) -> bool {
        self.random.usize(..one_in) == 0
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.random.usize(..texts.len())]
    }

    fn event_type(&mut self) -> String {
        if self.chance(12) {
            return "t".repeat(self.random.usize(250..300));
        }
        self.one_of(&["A", "A", "B", "C", "", "$timer.Set", "\\", "\\#x", "Ä€", "a b"]).to_owned()
    }

    fn tag(&mut self) -> String {
        if self.chance(20) {
            return "g".repeat(self.random.usize(505..520));
        }
        let known = ["k:1", "k:1", "k:2", "x", "", "$x", "\\", "\\$", "é", "e\u{301}", "x ", "X"];
        self.one_of(&known).to_owned()
    }

    fn uuid(&mut self) -> String {
        match self.random.usize(..30) {
            0 => "no uuid".to_owned(),
            1..8 => String::new(),
            number => {
                let uuid = uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes());
                let uuid = uuid.into_uuid();
                match number {
                    8 => uuid.simple().to_string(),
                    9 => uuid.braced().to_string().to_uppercase(),
                    _ => uuid.to_string(),
                }
            }
        }
    }

    fn metadata(&mut self) -> Vec<MetadataEntry> {
        let pairs = if self.chance(3) { self.random.usize(..4) } else { 0 };
        let mut metadata: Vec<_> = (0..pairs)
            .map(|number| MetadataEntry {
                key: format!("{}{number}", self.one_of(&["", "by", "$umadb", "\""])),
                value: self.one_of(&["", "ada", "{}", "\u{0}\n\"", "ü"]).to_owned(),
            })
            .collect();
        if self.chance(80) {
            metadata.extend(metadata.clone());
        }
        if self.chance(80) {
            let value = "v".repeat(70_000);
            metadata.push(MetadataEntry { key: "long".to_owned(), value });
        }
        metadata
    }

    fn event(&mut self) -> Event {
        let bytes = if self.chance(20) { self.random.usize(..20_000) } else { 3 };
        let tags = self.random.usize(..4);
        Event {
            event_type: self.event_type(),
            tags: (0..tags).map(|_| self.tag()).collect(),
            data: (0..bytes).map(|_| self.random.u8(..)).collect(),
            uuid: self.uuid(),
            metadata: self.metadata(),
        }
    }

    fn query(&mut self) -> Option<Query> {
        let items = self.random.usize(..5).checked_sub(1)?;
        let item = |maker: &mut Self| {
            let (types, tags) = (maker.random.usize(..3), maker.random.usize(..3));
            QueryItem {
                types: (0..types).map(|_| maker.event_type()).collect(),
                tags: (0..tags).map(|_| maker.tag()).collect(),
            }
        };
        Some(Query { items: (0..items).map(|_| item(self)).collect() })
    }

    fn position(&mut self) -> Option<u64> {
        match self.random.usize(..8) {
            0..3 => None,
            3 => Some(0),
            4 => Some(self.head),
            5 => Some(self.head + self.random.u64(..3)),
            _ => Some(self.random.u64(..=self.head)),
        }
    }

    fn append(&mut self) -> AppendRequest {
        if self.chance(4) && !self.sent.is_empty() {
            return self.again();
        }
        let events = match self.random.usize(..12) {
            0 => 0,
            1 => self.random.usize(..60),
            number => 1 + number / 5,
        };
        let condition = self.chance(2).then(|| AppendCondition {
            fail_if_events_match: self.query(),
            // The other server does not survive a condition that refuses no events.
            after: if events == 0 { Some(u64::MAX - 1) } else { self.position() },
        });
        let mut request = AppendRequest {
            events: (0..events).map(|_| self.event()).collect(),
            condition,
            tracking_info: self.chance(4).then(|| self.tracking()),
        };
        if let [first, .., last] = &mut *request.events
            && self.random.usize(..10) == 0
        {
            last.uuid.clone_from(&first.uuid);
        }
        if request.events.iter().all(|event| !event.uuid.is_empty()) && events > 0 {
            self.sent.push(request.clone());
        }
        request
    }

    /// An append that was made before: as it was, under another condition, or in part.
    fn again(&mut self) -> AppendRequest {
        let index = self.random.usize(..self.sent.len());
        let mut request = self.sent[index].clone();
        match self.random.usize(..6) {
            0 => {
                let fail_if_events_match = self.query();
                let after = self.position();
                request.condition = Some(AppendCondition { fail_if_events_match, after });
            }
            1 => request.events.truncate(1),
            2 => request.events[0].uuid = self.uuid(),
            3 => request.events.reverse(),
            _ => {}
        }
        request
    }

    fn source(&mut self) -> String {
        if self.chance(10) {
            return "s".repeat(self.random.usize(253..258));
        }
        self.one_of(&["up", "down", "", "$s", "\\"]).to_owned()
    }

    fn tracking(&mut self) -> TrackingInfo {
        self.tracked += self.random.u64(..2);
        let position = match self.random.usize(..6) {
            0 => 0,
            1 => u64::MAX - 5 + self.random.u64(..5),
            _ => self.tracked,
        };
        TrackingInfo { source: self.source(), position }
    }

    fn call(&mut self) -> Call {
        match self.random.usize(..20) {
            0 => Call::Head,
            1 => Call::Tracking(self.source()),
            2 => {
                let query = self.query();
                let after = if self.chance(10) { Some(u64::MAX) } else { self.position() };
                let batch_size = self.chance(2).then(|| self.random.u32(..10));
                // The event matches whatever the query has.
                let query = query.map(|mut query| {
                    query.items.push(QueryItem { types: vec!["live".to_owned()], tags: vec![] });
                    query
                });
                let after = after.map(|after| if after > self.head { u64::MAX } else { after });
                let event = Event { event_type: "live".to_owned(), ..Event::default() };
                Call::Subscribe(SubscribeRequest { query, after, batch_size }, event)
            }
            3..9 => Call::Read(ReadRequest {
                query: self.query(),
                start: if self.chance(20) { Some(u64::MAX) } else { self.position() },
                backwards: self.chance(3).then_some(true),
                limit: match self.random.usize(..8) {
                    0 => Some(0),
                    1 => Some(u32::MAX),
                    2 | 3 => Some(self.random.u32(..30)),
                    _ => None,
                },
                batch_size: match self.random.usize(..4) {
                    0 => Some(self.random.u32(..5)),
                    1 => Some(u32::MAX),
                    _ => None,
                },
                ..ReadRequest::default()
            }),
            _ => Call::Append(self.append()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_answer_every_request_alike() {
    let mut random = Rng::with_seed(seed());
    for round in 0..extent(1, 40) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().display());
        let ours = RunningServer::of(leftfold::open(&url).await.unwrap()).await;
        let theirs = UmaDbServer::start();
        let (mut ours, mut theirs) = (client(ours.port).await, client(theirs.port()).await);
        let mut maker = Maker { random: random.fork(), sent: Vec::new(), head: 0, tracked: 0 };
        let mut tally = Tally::default();
        for number in 0..REQUESTS {
            let call = maker.call();
            let (here, there) =
                tokio::join!(perform(&mut ours, call.clone()), perform(&mut theirs, call.clone()));
            if here != there {
                panic!("{round}/{number}: {call:#?}\nours: {here:#?}\ntheirs: {there:#?}");
            }
            tally.add(&here);
            if let Seen::Appended(position) = here {
                maker.head = maker.head.max(position);
            } else if matches!(here, Seen::Subscribed(_)) {
                maker.head += 1;
            }
        }
        let everything = Call::Read(ReadRequest::default());
        let (here, there) =
            tokio::join!(perform(&mut ours, everything.clone()), perform(&mut theirs, everything));
        assert_eq!(here, there);
        eprintln!("{tally:?}");
        let Tally { appended, events_read, conflicts, other_refusals } = tally;
        assert!(appended > 50 && events_read > 500 && conflicts > 20 && other_refusals > 5);
    }
}

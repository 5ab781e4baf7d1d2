//! Appends whose conditions are looked up while others go by: some side by side, some hundreds of
//! groups before they are judged.

use leftfold_core::store::{
    Append, Backend, CommandId, CommandRecord, Condition, Digest, Expected, NewEvent, Position,
    Query, QueryItem, Read, Tag, Tags,
};
use leftfold_log::Log;
use leftfold_testing::by_runtime;

use crate::Run;
use crate::judge::{Answer, refusal, version};
use crate::support::gate::Held;
use crate::support::{event_type, random_append, stream, wait};

/// Append that is made while a look-up is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// Events, which move the head.
    Events,
    /// Only records, which do not: memory then begins at the very head that was looked up.
    Records,
}

impl Run {
    /// Appends that are handed over one after the other, and waited for only then. Each is looked
    /// up at the head of that moment.
    pub(crate) fn append_side_by_side(&mut self, log: &Log) {
        let appends: Vec<Append> =
            (0..2 + self.random.usize(..4)).map(|_| self.random_append()).collect();
        let pending: Vec<_> = appends.iter().map(|append| log.append(append.clone())).collect();
        // What each would have been refused with, at every head that it may have been looked up at.
        let mut earlier: Vec<Vec<Option<Answer>>> = vec![Vec::new(); appends.len()];
        for (index, (append, pending)) in appends.iter().zip(pending).enumerate() {
            for (later, earlier) in appends.iter().zip(&mut earlier).skip(index) {
                earlier.push(refusal(&*self.model_backend, later));
            }
            let answer = wait(pending);
            self.judge(append.clone(), answer, &earlier[index]);
        }
    }

    /// An append whose look-up is held while others go by: by the time that it is judged, what was
    /// looked up may be older than what memory holds.
    pub(crate) fn append_held(&mut self, log: &Log) {
        let append = self.append_with_history();
        let before = refusal(&*self.model_backend, &append);
        let shut = self.gate.shut(self.random.u32(..2));
        let (answer, held) = self.gate.hand_over(log.append(append.clone()));
        if held == Held::Yes {
            self.count("look-up held");
            let passing = if self.random.bool() { Passing::Events } else { Passing::Records };
            for _ in 0..self.random.usize(..3) {
                let rival = self.rival(&append, passing);
                self.append_one(log, rival);
            }
            let others_max = if self.random.bool() { 10 } else { 150 };
            for _ in 0..self.random.usize(..others_max) {
                let other = self.filler(passing);
                self.append_one(log, other);
            }
        }
        drop(shut);
        let answer = answer.join().unwrap();
        self.judge(append, answer, &[before]);
    }

    fn append_one(&mut self, log: &Log, append: Append) {
        let answer = wait(log.append(append.clone()));
        self.judge(append, answer, &[]);
    }

    /// An append under a condition that goes far back, and whose look-up reads events: more tags
    /// than are looked up in lists, the last of which decides.
    fn append_with_history(&mut self) -> Append {
        let mut append = self.random_append();
        let rare = self.random.u8(..3);
        let tags = std::iter::repeat_n("z".to_owned(), 8).chain([rare_tag(rare)]);
        let query = Query::from(QueryItem {
            tags: tags.map(|tag| Tag::new(tag).unwrap()).collect(),
            ..QueryItem::default()
        });
        // Nothing matches yet, most often: else it is a conflict at once.
        let last = wait(
            self.model.page(Read::matching(query.clone(), Position::END).backwards().page_of(1)),
        )
        .unwrap();
        let after = last.events.first().map_or(Position::START, |event| event.position);
        if self.random.bool() {
            append.condition.none_matching.clear();
        }
        append.condition = append.condition.and_none_matching(query, after);
        if self.random.bool() {
            append.command = Some(self.unused_command());
        }
        append
    }

    /// Returns an append that may make one that is held impossible: an event of a stream that it
    /// expects something of, one that matches its condition, the same command, a move of its
    /// consumer.
    fn rival(&mut self, held: &Append, passing: Passing) -> Append {
        // It may write where the runtime does, as the append that is held may.
        let mut rival = by_runtime(Append::default());
        match self.random.u8(..3) {
            0 if held.command.is_some() => rival.command.clone_from(&held.command),
            1 if held.checkpoint.is_some() => rival.checkpoint.clone_from(&held.checkpoint),
            _ => {}
        }
        if passing == Passing::Events {
            let expected = held.condition.streams.first().map(|(name, _)| name.clone());
            let written = held.events.iter().find_map(|event| event.stream.clone());
            let mut event = NewEvent::new(event_type("a.Made"), "rival");
            event.stream = if self.random.bool() { expected.or(written) } else { None };
            if self.random.bool() {
                event = event.tagged(Tags::none().with("z").with(rare_tag(self.random.u8(..3))));
            }
            if let Some(name) = &event.stream {
                let expected = Expected::Exact(version(&*self.model_backend, name));
                rival.condition = Condition::stream(name.clone(), expected);
            }
            rival.events.push(event);
        }
        rival
    }

    /// Something that takes memory, and that nothing depends on.
    fn filler(&mut self, passing: Passing) -> Append {
        let command = self.unused_command();
        let events = match passing {
            Passing::Records => vec![],
            Passing::Events => {
                let name = stream(&format!("filler-{}", self.fillers));
                vec![NewEvent::new(event_type("b.Made"), "").in_stream(name)]
            }
        };
        Append { command: Some(command), ..Append::of(events) }
    }

    fn unused_command(&mut self) -> CommandRecord {
        self.fillers += 1;
        let mut id = [0xff; 16];
        id[..8].copy_from_slice(&self.fillers.to_le_bytes());
        CommandRecord {
            id: CommandId(id),
            digest: Digest([self.random.u8(..2); 16]),
            answer: vec![1].into(),
        }
    }

    pub(crate) fn random_append(&mut self) -> Append {
        let model = &*self.model_backend;
        let known = crate::support::Known {
            head: self.model.head().position,
            version: &|name| version(model, name),
            checkpoint: crate::stands(model)[0].unwrap_or(Position::START),
            store: crate::SOURCE,
        };
        random_append(&mut self.random, &known)
    }
}

fn rare_tag(number: u8) -> String {
    format!("rare:{number}")
}

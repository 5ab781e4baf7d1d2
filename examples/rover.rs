//! A rover drives over a map: it is placed, moves forward, turns left and right, and people ask
//! where it has been. The pattern is the aggregate: a plain struct becomes the fold of its events,
//! so that every past state, and every property that somebody thinks of later, can be had from what
//! was recorded. Leave it where only the latest value counts and nobody will ask how it came about,
//! as with a raw GPS signal.

use std::{error::Error, time::Duration};

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

// First the rover without events: a struct, and what it can do.

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Facing {
    North,
    East,
    South,
    West,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Rover {
    x: i32,
    y: i32,
    facing: Facing,
}

impl Rover {
    fn forward(&mut self) {
        match self.facing {
            Facing::North => self.y = self.y.saturating_add(1),
            Facing::East => self.x = self.x.saturating_add(1),
            Facing::South => self.y = self.y.saturating_sub(1),
            Facing::West => self.x = self.x.saturating_sub(1),
        }
    }

    fn left(&mut self) {
        self.facing = match self.facing {
            Facing::North => Facing::West,
            Facing::West => Facing::South,
            Facing::South => Facing::East,
            Facing::East => Facing::North,
        }
    }

    fn right(&mut self) {
        (0..3).for_each(|_| self.left());
    }
}

// Then the same rover, event-sourced: what happened, what is asked for, and the fold.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum RoverEvent {
    Placed {
        at: Rover,
    },
    MovedForward,
    TurnedLeft,
    TurnedRight,
    /// It was not where its moves should have led: the moves stay in the history, this follows
    /// them.
    Corrected {
        to: Rover,
        because: String,
    },
}

impl Event for RoverEvent {
    const NAMESPACE: &'static str = "rover";
}

#[derive(Clone, Debug)]
enum Drive {
    Place { at: Rover },
    Forward,
    Left,
    Right,
    Correct { to: Rover, because: String },
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum DriveRefusal {
    #[error("the rover is not placed yet")]
    NotPlaced,
    #[error("the rover is placed already")]
    Placed,
}

// ANCHOR: fold
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Journey {
    rover: Option<Rover>,
    driven: u64,
}
// ANCHOR_END: fold

// ANCHOR: aggregate
impl Aggregate for Journey {
    const CATEGORY: &'static str = "rover";
    /// 1 knew no distance. It is folded again from all old events; snapshots of version 1 are not
    /// used.
    const FOLD_VERSION: u32 = 2;
    type Event = RoverEvent;
    type Command = Drive;
    type Refusal = DriveRefusal;

    fn apply(&mut self, event: &RoverEvent) {
        match (event, &mut self.rover) {
            (RoverEvent::Placed { at: to } | RoverEvent::Corrected { to, .. }, rover) => {
                *rover = Some(*to)
            }
            (RoverEvent::MovedForward, Some(rover)) => {
                rover.forward();
                self.driven += 1;
            }
            (RoverEvent::TurnedLeft, Some(rover)) => rover.left(),
            (RoverEvent::TurnedRight, Some(rover)) => rover.right(),
            (_, None) => {}
        }
    }

    fn decide(&self, command: &Drive) -> Result<Vec<RoverEvent>, DriveRefusal> {
        let event = match (command, self.rover) {
            (Drive::Place { .. }, Some(_)) => return Err(DriveRefusal::Placed),
            (Drive::Place { at }, None) => RoverEvent::Placed { at: *at },
            (_, None) => return Err(DriveRefusal::NotPlaced),
            (Drive::Forward, _) => RoverEvent::MovedForward,
            (Drive::Left, _) => RoverEvent::TurnedLeft,
            (Drive::Right, _) => RoverEvent::TurnedRight,
            (Drive::Correct { to, because }, _) => {
                RoverEvent::Corrected { to: *to, because: because.clone() }
            }
        };
        Ok(vec![event])
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(100).or_every(Duration::from_secs(24 * 60 * 60))
    }
}
// ANCHOR_END: aggregate

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let rovers = store.aggregate::<Journey>();

    let start = Rover { x: 1, y: 2, facing: Facing::West };
    match rovers.execute("curiosity", Drive::Place { at: start }).await {
        Ok(_) => println!("placed:             {start:?}"),
        Err(ExecuteError::Refused(no)) => println!("from an earlier run: {no}"),
        Err(other) => return Err(other.into()),
    }
    let moves = vec![Drive::Forward, Drive::Left, Drive::Forward, Drive::Right];
    let done = rovers.commands("curiosity", moves).execute().await?;
    println!("saved as one:       {:?}, now at version {}", done.events, done.version);

    let to = Rover { x: 0, y: 2, facing: Facing::West };
    rovers.execute("curiosity", Drive::Correct { to, because: "a wheel slipped".into() }).await?;
    let now = rovers.load("curiosity").await?;
    println!("after a correction: {:?}, {} driven", now.state.rover, now.state.driven);
    println!(
        "before it:          {:?}",
        rovers.load_at("curiosity", done.version).await?.state.rover
    );

    println!("all that happened:");
    for recorded in rovers.history("curiosity", Version(1))?.all().await? {
        println!("  {} at {}: {:?}", recorded.version(), recorded.recorded_at(), recorded.event);
    }
    store.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Drive::*, Facing::*, *};
    use leftfold::testing::given;

    const fn at(x: i32, y: i32, facing: Facing) -> Rover {
        Rover { x, y, facing }
    }

    /// From where, which moves, to where: for the plain rover and the event-sourced one.
    const JOURNEYS: [(Rover, &[Drive], Rover); 5] = [
        (at(1, 2, West), &[Forward, Left, Forward, Right], at(0, 1, West)),
        (at(0, 0, North), &[], at(0, 0, North)),
        (at(0, 0, North), &[Left, Left, Left, Left], at(0, 0, North)),
        (
            at(0, 0, East),
            &[Forward, Right, Forward, Right, Forward, Right, Forward, Right],
            at(0, 0, East),
        ),
        (at(i32::MAX, 0, East), &[Forward], at(i32::MAX, 0, East)),
    ];

    #[test]
    fn the_plain_rover_makes_the_journeys() {
        for (start, moves, end) in JOURNEYS {
            let mut rover = start;
            for drive in moves {
                match drive {
                    Forward => rover.forward(),
                    Left => rover.left(),
                    Right => rover.right(),
                    other => panic!("{other:?} is no move"),
                }
            }
            assert_eq!(rover, end);
        }
    }

    #[tokio::test]
    async fn the_event_sourced_rover_makes_the_same_journeys_each_saved_as_one() {
        for store in examples::stores().await {
            let rovers = store.aggregate::<Journey>();
            for (number, (start, moves, end)) in JOURNEYS.into_iter().enumerate() {
                let id = number.to_string();
                rovers.execute(&id, Place { at: start }).await.unwrap();
                let done = rovers.commands(&id, moves.to_vec()).execute().await.unwrap();
                assert_eq!(done.version, Version(1 + moves.len() as u64));
                assert_eq!(rovers.load(&id).await.unwrap().state.rover, Some(end));
            }
        }
    }

    #[tokio::test]
    async fn of_several_moves_one_refusal_saves_none() {
        for store in examples::stores().await {
            let rovers = store.aggregate::<Journey>();
            rovers.execute("1", Place { at: at(0, 0, North) }).await.unwrap();
            let moves = vec![Forward, Left, Place { at: at(9, 9, North) }];
            let refused = rovers.commands("1", moves).execute().await.unwrap_err();
            assert_eq!(refused, ExecuteError::Refused(DriveRefusal::Placed));
            assert_eq!(rovers.load("1").await.unwrap().version, Version(1));
        }
    }

    #[test]
    fn it_drives_only_once_it_was_placed() {
        given::<Journey>([]).when(Forward).then_refused(DriveRefusal::NotPlaced);
        given::<Journey>([RoverEvent::Placed { at: at(0, 0, North) }])
            .when(Forward)
            .then([RoverEvent::MovedForward]);
    }

    // ANCHOR: past
    #[tokio::test]
    async fn any_past_state_is_there_by_version_and_by_moment_and_old_events_tell_the_distance() {
        for store in examples::stores().await {
            let rovers = store.aggregate::<Journey>();
            rovers.execute("1", Place { at: at(0, 0, North) }).await.unwrap();
            for _ in 0..250 {
                rovers.execute("1", Forward).await.unwrap();
            }
            for recorded in rovers.history("1", Version(1)).unwrap().all().await.unwrap() {
                let driven = recorded.version().0 - 1;
                let then = rovers.load_at("1", recorded.version()).await.unwrap();
                assert_eq!(then, rovers.load_at("1", recorded.recorded_at()).await.unwrap());
                assert_eq!(
                    (then.state.driven, then.state.rover),
                    (driven, Some(at(0, driven as i32, North)))
                );
            }
        }
    }
    // ANCHOR_END: past

    thread_local! {
        static APPLIED: Cell<u64> = const { Cell::new(0) };
    }

    /// The same journey, that counts the events it folds.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Counted(Journey);

    impl Aggregate for Counted {
        const CATEGORY: &'static str = Journey::CATEGORY;
        const FOLD_VERSION: u32 = Journey::FOLD_VERSION;
        type Event = RoverEvent;
        type Command = Drive;
        type Refusal = DriveRefusal;

        fn apply(&mut self, event: &RoverEvent) {
            APPLIED.set(APPLIED.get() + 1);
            self.0.apply(event);
        }

        fn decide(&self, command: &Drive) -> Result<Vec<RoverEvent>, DriveRefusal> {
            self.0.decide(command)
        }

        fn snapshots() -> SnapshotPolicy {
            Journey::snapshots()
        }
    }

    /// After a start the first snapshots of a type are compared with a fold of all events; then
    /// they are believed, all but a few.
    #[tokio::test]
    async fn a_snapshot_is_made_every_hundred_events_and_only_what_came_since_is_folded() {
        const ROVERS: u64 = 24;
        assert_eq!(
            Journey::snapshots(),
            SnapshotPolicy::every_events(100).or_every(Duration::from_secs(24 * 60 * 60))
        );
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store").to_str().unwrap().to_owned();
        let store = leftfold::open(&path).await.unwrap();
        let rovers = store.aggregate::<Counted>();
        for id in (0..ROVERS).map(|id| id.to_string()) {
            rovers.execute(&id, Place { at: at(0, 0, North) }).await.unwrap();
            rovers.commands(&id, vec![Forward; 119]).execute().await.unwrap();
            rovers.commands(&id, vec![Forward; 5]).execute().await.unwrap();
        }
        store.close().await.unwrap();
        drop((rovers, store));

        let store = leftfold::open(&path).await.unwrap();
        let mut from_snapshots = 0;
        for id in (0..ROVERS).map(|id| id.to_string()) {
            let before = APPLIED.get();
            let loaded = store.aggregate::<Counted>().load(&id).await.unwrap();
            assert_eq!((loaded.version, loaded.state.0.driven), (Version(125), 124));
            from_snapshots += u64::from(APPLIED.get() - before == 5);
        }
        assert!(
            from_snapshots >= ROVERS / 3,
            "{from_snapshots} of {ROVERS} were loaded from their snapshots"
        );
        store.close().await.unwrap();
    }

    // ANCHOR: correction
    #[test]
    fn a_correction_follows_the_wrong_move_and_edits_nothing() {
        let wrong = [RoverEvent::Placed { at: at(0, 0, North) }, RoverEvent::MovedForward];
        let corrected = RoverEvent::Corrected { to: at(0, 0, North), because: "stuck".into() };
        given::<Journey>(wrong.clone())
            .when(Correct { to: at(0, 0, North), because: "stuck".into() })
            .then([corrected.clone()]);
        let after = given::<Journey>(wrong.into_iter().chain([corrected])).state().clone();
        assert_eq!(after, Journey { rover: Some(at(0, 0, North)), driven: 1 });
    }
    // ANCHOR_END: correction
}

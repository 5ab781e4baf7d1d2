use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CourseEvent {
    Booked { by: String },
    Confirmed { by: String },
    Cancelled { by: String },
    TicketRequested(Ticket),
    TicketSent { to: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ticket {
    to: String,
}

impl Event for CourseEvent {
    const NAMESPACE: &'static str = "course";

    /// The person, so that a decision can find all that is about one.
    fn tags(&self) -> Tags {
        match self {
            Self::Booked { by } | Self::Confirmed { by } | Self::Cancelled { by } => {
                Tags::none().with(format!("person:{by}"))
            }
            Self::TicketRequested(_) | Self::TicketSent { .. } => Tags::none(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Course {
    booked: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum CourseCommand {
    Book { by: String },
    Confirm { by: String },
    Cancel { by: String },
    SayTicketSent { to: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the course is full")]
struct Full;

impl Aggregate for Course {
    const CATEGORY: &'static str = "course";
    type Event = CourseEvent;
    type Command = CourseCommand;
    type Refusal = Full;

    fn apply(&mut self, event: &CourseEvent) {
        match event {
            CourseEvent::Booked { by } => self.booked.push(by.clone()),
            CourseEvent::Cancelled { by } => self.booked.retain(|other| other != by),
            _ => {}
        }
    }

    fn decide(&self, command: &CourseCommand) -> Result<Vec<CourseEvent>, Full> {
        match command {
            CourseCommand::Book { by } if self.booked.contains(by) => Ok(vec![]),
            CourseCommand::Book { .. } if self.booked.len() == 2 => Err(Full),
            CourseCommand::Book { by } => Ok(vec![CourseEvent::Booked { by: by.clone() }]),
            CourseCommand::Confirm { by } | CourseCommand::Cancel { by }
                if !self.booked.contains(by) =>
            {
                Ok(vec![])
            }
            CourseCommand::Confirm { by } => {
                let ticket = CourseEvent::TicketRequested(Ticket { to: by.clone() });
                Ok(vec![CourseEvent::Confirmed { by: by.clone() }, ticket])
            }
            CourseCommand::Cancel { by } => Ok(vec![CourseEvent::Cancelled { by: by.clone() }]),
            CourseCommand::SayTicketSent { to } => {
                Ok(vec![CourseEvent::TicketSent { to: to.clone() }])
            }
        }
    }
}

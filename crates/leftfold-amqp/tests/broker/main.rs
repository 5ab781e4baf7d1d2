//! Outboxes and inboxes over a real RabbitMQ.

mod failing;
mod incoming;
mod killed;
mod outgoing;
mod stage;

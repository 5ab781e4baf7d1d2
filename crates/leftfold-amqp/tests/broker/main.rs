//! Outboxes and inboxes over a real RabbitMQ.

mod encrypted;
mod incoming;
mod killed;
mod outgoing;
mod stage;

//! The model's behaviour, through its public interface, on the memory store.

mod aggregates;
mod changed_later;
mod command_ids;
mod conflicts;
mod decisions;
mod demands;
mod events;
mod facts;
mod faithful;
mod fragile;
#[path = "../fuse/mod.rs"]
mod fuse;
mod kept;
mod kinds;
mod late_owners;
mod metadata;
mod owners;
mod panicking;
mod past;
mod probe;
mod purse;
mod random;
mod reserved;
mod sets;
mod snapshots;
mod subscriptions;

//! Stories of alerts: what people read, and that it reaches them.

mod delivery;
mod delivery_health;
mod message_forms;
mod messages;
pub(crate) mod news;
mod self_incidents;
mod smtp;
mod wire;
mod world;

//! Keeps what users see of each other's presence true across datacenters.
//!
//! The table records which presence of remote sessions each local viewer has been
//! sent (in), and remote viewers of local sessions (out). When a datacenter, its
//! server or its gateway is lost, nobody else can notify the viewers: the gateway
//! sends them `unavailable`, and probes in their names when it is back.
//! `docs/presence.md` describes the rules.

mod action;
mod event;
mod hooks;
mod key;
mod peers;
mod probes;
mod quota;
mod sweep;
mod table;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use self::action::{ActionKind, Direction, SweepAction, UnavailableCause};
pub(crate) use self::hooks::{PresenceSnapshot, PresenceSync, is_own_probe};
pub(crate) use self::task::{PresenceInputs, PresenceTask};

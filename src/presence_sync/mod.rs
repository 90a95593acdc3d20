//! Keeps the presence that users see of each other correct across datacenters.
//!
//! The table records the presence of remote sessions that each local viewer has
//! been sent (in), and the presence of local sessions that remote viewers have been
//! sent (out). When a datacenter, its server or its gateway is lost, no other
//! entity can notify the viewers: the gateway sends them `unavailable`, and probes
//! in the viewers' names when the datacenter is back. `docs/presence.md` describes
//! the rules.

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
pub(crate) use self::hooks::{PresenceSync, is_own_probe};
pub(crate) use self::task::{PresenceInputs, PresenceTask};

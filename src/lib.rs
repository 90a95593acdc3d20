//! strait: one XMPP domain over several datacenters.
//!
//! # The map
//!
//! A gateway is attached to its server as the component of the shared domain
//! and of the services that other datacenters offer under it, and linked with
//! the gateways of the other datacenters. What passes through
//! it is a [`stanza`]: bytes cut out of the component stream, of which only the
//! start tag is parsed. With our own header around it, it is an
//! [`envelope`](envelope::Envelope).
//!
//! **Out**: [`component`] reads the stanza from the server → [`routing`]'s workers
//! keep the order of its sender, translate its addresses ([`addresses`]), look
//! its recipient up ([`sessions`]), decide (`routing/decide.rs`) and act
//! (`routing/relay.rs`) → a pool of [`link`]s sends it. **In**: a link's listener
//! → routing → component. A stanza without a recipient or a route waits in
//! `routing/hold.rs`; one that goes to several hosts is remembered in
//! `routing/fan_out.rs`.
//!
//! Nothing is lost on the way because each room hands over and says so: an
//! envelope carries a [`Receipt`](envelope::Receipt), which is settled when the
//! local server has accepted the stanza (the component's barrier), when the
//! next hop has settled it, or when its sender was told that it can't be
//! delivered. Only then does the link acknowledge it to the gateway before.
//!
//! Who is online here is learnt by the tracker in [`sessions`], from presence
//! and traffic, and from what [`control`] asks the server by a component of its
//! own; who is online elsewhere stands in the session table, kept by a
//! [`store`], which also has the [`registry`] of hosts, nodes and endpoints, and
//! of the service domains that each host offers. The store that needs no
//! database has its copies of the other gateways' tables by [`link`]s of their
//! own; what the two say to each other goes through [`replication`]. [`presence_sync`]
//! records which presence users have been sent across datacenters, sends `unavailable` when
//! a datacenter, its server or its gateway is lost, and probes when it is back.
//!
//! [`services`] answers what is addressed to the shared domain itself, and what a
//! server can't answer for its accounts. All that is special to one server
//! software stands in [`servers`].
//!
//! [`admin`] shows [`metrics`] and health, [`config`] is what the operator
//! wrote, and [`gateway`] builds, starts and stops it all; it is the only place
//! that starts long-lived tasks, besides the pools of links and the component
//! streams, which start a task a connection.
//!
//! # The floors
//!
//! A module imports only from floors below its own; `tests/floors.rs` checks it.
//!
//! | floor | rooms |
//! |---|---|
//! | 9 | `main`, `cli` |
//! | 8 | [`gateway`] |
//! | 7 | [`admin`] |
//! | 6 | [`control`], [`routing`] |
//! | 5 | [`presence_sync`], [`registry`], [`sessions`] |
//! | 4 | [`addresses`], [`component`], [`link`], [`services`], [`store`] |
//! | 3 | [`servers`] |
//! | 2 | [`config`], [`envelope`], [`metrics`], [`replication`], `delivery` |
//! | 1 | [`stanza`] |
//! | 0 | [`host`] |

// Support files of tests/ are compiled into the unit tests too.
#[cfg(test)]
extern crate self as strait;

pub mod addresses;
pub mod admin;
pub mod component;
pub mod config;
pub mod control;
mod delivery;
pub mod envelope;
pub mod gateway;
pub mod host;
pub mod link;
pub mod metrics;
pub mod presence_sync;
pub mod registry;
pub mod replication;
pub mod routing;
pub mod servers;
pub mod services;
pub mod sessions;
pub mod stanza;
pub mod store;

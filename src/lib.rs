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
//! **Out** is five rooms: [`component`] reads it from the server → [`workers`]
//! put it behind what its sender sent before → [`relay`] translates its
//! addresses ([`translate`]), asks who has the recipient ([`sessions`]),
//! decides ([`route`]) and carries the decision out → a pool of [`link`]s takes
//! it → the link sends it. **In** is four: a link's listener → workers → relay
//! → component. A stanza that nobody is known to have waits in [`bounce`] and
//! comes back to the workers; one that goes to several hosts is remembered in
//! [`copies`]. The page to read first is the `match` in
//! [`relay`].
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
//! own; what the two say to each other goes through [`replication`]. What users
//! were shown of each other's presence stands in [`presence_sync`], so that they are told
//! when a datacenter, its server or its gateway is gone, and asked for when it is back.
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
//! | 10 | `main`, `cli` |
//! | 9 | [`gateway`] |
//! | 8 | [`admin`] |
//! | 7 | [`workers`] |
//! | 6 | [`control`], [`relay`] |
//! | 5 | [`bounce`], [`copies`], [`registry`], [`sessions`], [`presence_sync`] |
//! | 4 | [`component`], [`link`], [`route`], [`services`], [`store`], [`translate`] |
//! | 3 | [`servers`] |
//! | 2 | [`config`], [`envelope`], [`metrics`], [`replication`] |
//! | 1 | [`stanza`] |
//! | 0 | [`host`] |

pub mod admin;
pub mod bounce;
pub mod component;
pub mod config;
pub mod control;
pub mod copies;
pub mod envelope;
pub mod gateway;
pub mod host;
pub mod link;
pub mod metrics;
pub mod presence_sync;
pub mod registry;
pub mod relay;
pub mod replication;
pub mod route;
pub mod servers;
pub mod services;
pub mod sessions;
pub mod stanza;
pub mod store;
pub mod translate;
pub mod workers;

//! strait: one XMPP domain over several datacenters.
//!
//! # The map
//!
//! A gateway attaches to its server as the component of the shared domain and of
//! the services that other datacenters offer under it, and links with the gateways
//! of the other datacenters. A [`stanza`] is bytes cut out of the component stream,
//! of which only the start tag is parsed. With the gateways' own header around it,
//! it is an [`envelope`](envelope::Envelope). `docs/architecture.md` walks one
//! message out and one message in, call by call.
//!
//! **Out**: [`component`] reads the stanza from the server → [`routing`]'s workers
//! keep the order of its sender, translate its addresses ([`addresses`]), look
//! its recipient up ([`sessions`]), decide (`routing/decide.rs`) and act
//! (`routing/relay.rs`) → a pool of [`link`]s sends it. **In**: a link's listener
//! → routing → component. A stanza without a recipient, an answer of the session
//! table or a route waits in `routing/hold.rs`; one that goes to several hosts is
//! remembered in `routing/fan_out.rs`.
//!
//! **Delivery**: an envelope carries a [`Receipt`](envelope::Receipt). The receipt is
//! settled when the local server has accepted the stanza (the component's barrier),
//! when the next hop has settled it, or when its sender has received an error. Only
//! then does the link acknowledge the stanza to the previous gateway. Links and
//! component streams keep unsettled stanzas in a window (`delivery`).
//!
//! **Sessions**: the tracker in [`sessions`] learns the sessions of the local server
//! from presence and traffic, and from the lists that [`control`] requests through a
//! component of its own. The session table has the sessions of all datacenters. A
//! [`store`] keeps it, with the [`registry`] of hosts, nodes, endpoints and service
//! domains: Redis, or the gateways themselves, which replicate it over [`link`]s of
//! their own ([`replication`]). [`presence_sync`] records which presence users have
//! been sent across datacenters, sends `unavailable` when a datacenter, its server or
//! its gateway is lost, and probes when it is back.
//!
//! [`services`] answers stanzas for the shared domain itself. [`servers`] has all that
//! is special to one server software. [`admin`] serves [`metrics`] and health,
//! [`config`] reads the operator's settings, [`gateway`] builds, starts and stops
//! everything.
//!
//! # Tasks
//!
//! | task | started by | owns | stopped by |
//! |---|---|---|---|
//! | signals | `cli/run.rs` | — | the end of the process |
//! | worker (4 a core) | `routing/workers.rs` | the queue of its senders | the end of the last `Workers` |
//! | retries and look-ups of held stanzas | `gateway.rs` | — | `ends.rest` |
//! | returned stanzas (links, component) | `gateway.rs` | the channel of returned stanzas | `ends.rest` |
//! | component streams | `gateway.rs`, `component/components.rs` (one a domain) | the socket | `ends.component`; a service without offers |
//! | control stream, control poll | `gateway/controlling.rs` | the socket; what the sources report | `ends.component` |
//! | listener (one an endpoint), incoming connection | `gateway.rs`, `link/incoming.rs` | the socket | `ends.intake` |
//! | connection slot | `link/links.rs` | the socket | its endpoint's removal; `Links::close` |
//! | pool maintenance | `link/links.rs` | — | `Links::close` |
//! | name look-up | `link/resolver.rs` | — | its answer |
//! | replication dialer, one task a node | `gateway/session_store.rs`, `link/replication_dialer.rs` | the socket | `ends.rest` |
//! | mesh maintenance | `gateway/session_store.rs` | — | `ends.rest` |
//! | claims: write, refresh, withdraw | `gateway.rs` (`sessions`) | — | `ends.rest` |
//! | registry: announce, discover | `gateway.rs` | — | `ends.intake`, after it has withdrawn its node |
//! | attachment, peers, services | `gateway/follow.rs` | — | `ends.rest`; services: `ends.component` |
//! | presence | `gateway.rs` (`presence_sync/task.rs`) | the running sweep | `ends.rest` |
//! | reloads | `gateway.rs` | — | `ends.rest` |
//! | admin server | `gateway.rs` | the listening socket | `ends.rest` |
//!
//! An ordered stop cancels `ends.intake`, then `ends.component`, then `ends.rest`
//! (`gateway.rs`), and waits for each step within a limit.
//!
//! # Lock order
//!
//! No lock is held across an `await`, and no receipt is settled or dropped under one.
//! Where two locks are held at once, they are taken from left to right:
//!
//! - `link`: peers → pool of a peer; incoming slots → state of one slot
//! - `store/mesh`: progress of a sender or receiver → membership → replica or local
//!   change log → shard of a table
//! - `component`: services → outbox → pending iqs or quarantine
//! - `presence_sync`: table → [`sessions`]
//!
//! Every other lock (`routing/hold.rs`, the look-up cache, the resolver) is taken alone.
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
//! | 0 | [`host`], `log_limiter` |

// Support files of tests/ and fuzz/ are compiled into the unit tests too.
#[cfg(test)]
extern crate self as strait;
#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod fuzz_targets;

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
mod log_limiter;
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

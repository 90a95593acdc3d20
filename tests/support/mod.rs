//! Support for the scenarios: real servers, real clients, real gateways.
//!
//! [`cluster`] combines everything, with the session table on a [`backend`]; a smaller test uses
//! the parts: a [`server`] ([`prosody`], [`ejabberd`]), [`redis_server`], [`gateway`],
//! [`client`], [`fake_server`], [`certs`], [`redis_sentinels`], [`redis_cluster`],
//! [`dynomite_stand_in`], [`mesh_node`], [`cable`], [`control`], [`mongooseim`],
//! [`mongooseim_admin`], [`component`], [`room`], [`pubsub`], [`interests`], [`real_clients`],
//! [`machine`], [`message_pair`]. These are built on [`plan`], [`pair`], [`site`], [`process`], [`port`],
//! [`workdir`], [`patience`], [`xml`], [`inbox`], [`http`], [`lookup`], [`metrics`].

// Each test binary uses only a part of this module.
#![allow(dead_code)]

pub mod backend;
pub mod cable;
pub mod certs;
pub mod client;
pub mod cluster;
pub mod component;
pub mod control;
pub mod dynomite_stand_in;
pub mod ejabberd;
pub mod fake_server;
pub mod flood;
pub mod gateway;
pub mod http;
pub mod inbox;
pub mod interests;
pub mod lookup;
pub mod machine;
pub mod mesh_node;
pub mod message_pair;
pub mod metrics;
pub mod mongooseim;
pub mod mongooseim_admin;
pub mod pair;
pub mod patience;
pub mod plan;
pub mod port;
pub mod process;
pub mod prosody;
pub mod pubsub;
pub mod real_clients;
pub mod redis_cluster;
pub mod redis_sentinels;
pub mod redis_server;
pub mod room;
pub mod server;
pub mod site;
pub mod workdir;
pub mod xml;

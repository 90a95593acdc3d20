//! Whole datacenters: real servers, real clients, real gateways. One scenario a file.

#[path = "../support/mod.rs"]
mod support;

mod attach_to_prosody;
mod bad_stanza_from_server;
mod bounces;
mod broken_links;
mod chat;
mod clean_stop;
mod components;
mod connections;
mod disco;
mod foreign_sender;
mod gateway_restarts;
mod hops;
mod link_identity;
mod made_certificates;
mod mesh;
mod metrics;
mod moving_user;
mod nobody_there;
mod offline_message;
mod ourselves;
mod pep;
mod presence;
mod private_messages;
mod queries;
mod redis_expiry;
mod redis_forms;
mod redis_restarts;
mod redis_split;
mod rooms;
mod server_restarts;
mod service_streams;
mod session_keys;
mod settlement;
mod start_fails;
mod two_places;

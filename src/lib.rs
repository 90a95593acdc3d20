//! strait: one XMPP domain over several datacenters.

pub mod component;
pub mod config;
pub mod envelope;
pub mod host;
pub mod link;
pub mod metrics;
pub mod registry;
pub mod route;
pub mod services;
pub mod sessions;
pub mod stanza;
pub mod store;
pub mod translate;

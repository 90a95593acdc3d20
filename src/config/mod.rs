//! The configuration: one file, flags, environment variables; all of it is checked before
//! anything starts.
//!
//! An option is defined once, in the file of its section. The parser, its flag, its variable, the
//! help, component.toml and docs/configuration.md are generated from that definition.

mod admin;
mod bounce;
mod cache;
mod component;
mod connections;
mod control;
mod disco;
mod endpoint;
mod file;
mod files;
pub mod flags;
mod kind;
mod load;
mod log;
mod mesh;
mod option;
mod peers;
mod presence;
mod problem;
mod reading;
mod redis;
mod redis_url;
mod root;
mod secret;
mod section;
mod services;
mod sessions;
#[cfg(test)]
mod tests;
mod times;
mod tls;

pub use admin::AdminConfig;
pub use bounce::Bounce;
pub use cache::Cache;
pub use component::ComponentConfig;
pub use connections::Connections;
pub use control::{ControlComponent, ControlConfig, MongooseImConfig};
pub use disco::Disco;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use kind::CIPHERS;
pub use load::{Inputs, Loaded};
pub use log::{Log, LogFormat};
pub use mesh::Mesh;
pub use peers::{AllowedPeer, AllowedPeers};
pub use presence::PresenceConfig;
pub use problem::{Problem, Problems};
pub use redis::{Compat, Redis, RedisTls};
pub use redis_url::{RedisUrl, Site};
pub use root::{Accounts, Config};
pub use secret::Secret;
pub use services::ServiceConfig;
pub use sessions::{Backend, SessionsConfig, Source, Sources};
pub use times::Times;
pub use tls::Tls;

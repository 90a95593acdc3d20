//! A value that has been read, and taking it as the type that is meant.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::services::Entry;
use super::{Endpoint, Secret};
use crate::host::Host;

/// A value that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A count, or bytes.
    Number(u64),
    /// A time.
    Duration(Duration),
    /// A text or a word.
    Text(String),
    /// Several words.
    Words(Vec<String>),
    /// A domain.
    Domain(Host),
    /// A file.
    Path(PathBuf),
    /// A text that must not show.
    Secret(Secret),
    /// `host:port`.
    Endpoint(Endpoint),
    /// Several of them.
    Endpoints(Vec<Endpoint>),
    /// `IP:port`.
    Address(SocketAddr),
    /// Services, each with its place in the file.
    Services(Vec<Entry>),
}

/// A type that a [`Value`] can be taken as.
pub(super) trait Typed: Sized {
    /// `None` when `value` is of another kind or does not fit.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! typed {
    ($( $variant:ident => $type:ty ),* $(,)?) => {
        $( impl Typed for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$variant(inner) => Self::try_from(inner.clone()).ok(),
                    _ => None,
                }
            }
        } )*
    };
}

typed! {
    Bool => bool,
    Number => u64,
    Number => u32,
    Number => usize,
    Duration => Duration,
    Text => String,
    Words => Vec<String>,
    Domain => Host,
    Path => PathBuf,
    Secret => Secret,
    Endpoint => Endpoint,
    Endpoints => Vec<Endpoint>,
    Address => SocketAddr,
    Services => Vec<Entry>,
}

//! Routes each stanza from its arrival to its destination: `decide` is the only
//! decision, `relay` acts on it. `hold` keeps stanzas that have no recipient or no
//! route yet; `fan_out` remembers stanzas that go to several hosts.

mod decide;
mod fan_out;
mod hold;
mod relay;
mod shared_domain;
mod workers;

pub use decide::RoutingRules;
pub use fan_out::FanOut;
pub use hold::HoldQueue;
pub use relay::{NextHops, Relay};
pub use shared_domain::SharedDomain;
pub use workers::Workers;

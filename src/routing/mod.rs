//! Takes each stanza from where it came in to where it goes: `decide` is the
//! only decision, `relay` acts on it. What has no recipient or no route yet
//! waits in `hold`; what goes to several hosts is remembered in `fan_out`.

mod decide;
mod fan_out;
mod hold;
mod relay;
mod shared_domain;
mod workers;

pub use decide::RoutingRules;
pub use fan_out::FanOut;
pub use hold::HoldQueue;
pub use relay::Relay;
pub use shared_domain::SharedDomain;
pub use workers::Workers;

//! Acknowledged delivery over one ordered connection: the sender keeps a
//! [`SendWindow`], the receiver a [`ReceiveWindow`]. Pure: no sockets, no
//! locks, no clocks.

mod receive_window;
mod send_window;
#[cfg(test)]
mod tests;

pub(crate) use receive_window::{FormerFate, ReceiveWindow};
pub(crate) use send_window::{BeyondWritten, SendWindow, Unacknowledged};

//! Acknowledged delivery over one ordered connection: the sender keeps a
//! [`SendWindow`], the receiver a [`ReceiveWindow`]. Pure: no sockets, no locks.

mod receive_window;
mod send_window;

pub(crate) use receive_window::{Arrived, ReceiveWindow};
pub(crate) use send_window::{BeyondWritten, Outgoing, SendWindow, Unacknowledged};

//! Bounds connections that have not shown a certificate yet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The most connections without a certificate, of all listeners of a node.
const CAPACITY: usize = 256;

/// The most connections without a certificate from one source address.
const CAPACITY_PER_SOURCE: usize = 64;

/// Connections whose peer is not known yet. When there are too many, the oldest one
/// makes room, silent ones first: the handshake of a peer takes milliseconds, so the
/// oldest connection is hardly ever a peer's.
#[derive(Debug, Default, Clone)]
pub(super) struct Unauthenticated(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By age, oldest first.
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    source: IpAddr,
    is_silent: bool,
    evicted: CancellationToken,
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(super) struct UnauthenticatedGuard {
    all: Unauthenticated,
    number: u64,
    evicted: CancellationToken,
}

impl Unauthenticated {
    /// Counts a new connection, and evicts another one if there are too many.
    pub(super) fn enter(&self, address: IpAddr) -> UnauthenticatedGuard {
        let source = source(address);
        let evicted = CancellationToken::new();
        let mut waiting = self.0.lock();
        let of_source = waiting.connections.values();
        let of_source = of_source.filter(|other| other.source == source).count();
        if of_source >= CAPACITY_PER_SOURCE {
            waiting.evict(|other| other.source == source);
        } else if waiting.connections.len() >= CAPACITY {
            waiting.evict(|_| true);
        }
        let number = waiting.next;
        waiting.next += 1;
        let connection = Connection {
            source,
            is_silent: true,
            evicted: evicted.clone(),
        };
        waiting.connections.insert(number, connection);
        drop(waiting);
        UnauthenticatedGuard {
            all: self.clone(),
            number,
            evicted,
        }
    }
}

impl Waiting {
    fn evict(&mut self, may_leave: impl Fn(&Connection) -> bool) {
        let candidates = || {
            self.connections
                .iter()
                .filter(|(_, other)| may_leave(other))
        };
        let silent = candidates().find(|(_, other)| other.is_silent);
        let Some((&number, _)) = silent.or_else(|| candidates().next()) else {
            return;
        };
        if let Some(connection) = self.connections.remove(&number) {
            connection.evicted.cancel();
        }
    }
}

impl UnauthenticatedGuard {
    /// Records that the connection has sent its first byte.
    pub(super) fn has_spoken(&self) {
        let mut waiting = self.all.0.lock();
        if let Some(connection) = waiting.connections.get_mut(&self.number) {
            connection.is_silent = false;
        }
    }

    /// Completes when the connection must make room for a newer one.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for UnauthenticatedGuard {
    fn drop(&mut self) {
        self.all.0.lock().connections.remove(&self.number);
    }
}

/// The address that a limit is for: of IPv6 the /64 prefix, which one customer has whole.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(prefix).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_evicted(guard: &UnauthenticatedGuard) -> bool {
        guard.evicted.is_cancelled()
    }

    #[test]
    fn the_oldest_silent_connection_of_a_crowded_source_makes_room() {
        let all = Unauthenticated::default();
        let other = all.enter(address(1));
        let crowd: Vec<_> = (0..CAPACITY_PER_SOURCE)
            .map(|_| all.enter(address(2)))
            .collect();
        crowd[0].has_spoken();
        let newest = all.enter(address(2));
        assert!(is_evicted(&crowd[1]));
        assert!(!is_evicted(&crowd[0]) && !is_evicted(&other) && !is_evicted(&newest));
    }

    #[test]
    fn with_all_places_taken_the_oldest_of_all_makes_room_silent_ones_first() {
        let all = Unauthenticated::default();
        let crowd: Vec<_> = (0..CAPACITY)
            .map(|n| all.enter(address(u8::try_from(n).unwrap())))
            .collect();
        crowd[1..].iter().for_each(UnauthenticatedGuard::has_spoken);
        let _one = all.enter(address(1));
        assert!(is_evicted(&crowd[0]));
        _one.has_spoken();
        let _another = all.enter(address(1));
        assert!(is_evicted(&crowd[1]), "all have sent something");
        drop(crowd);
        assert_eq!(all.0.lock().connections.len(), 2);
    }

    #[test]
    fn an_ipv6_prefix_is_one_source() {
        let parse = |text: &str| source(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::2:3"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}

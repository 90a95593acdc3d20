//! Whose each localpart is, where it belongs to the host that claimed it first
//! (`accounts = "unique"`).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Host;

/// So long it is believed that a user belongs to another host: an operator may
/// give the name back.
const RECHECK: Duration = Duration::from_secs(60);

/// What the store said of the users of this server that were seen.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<String, (Host, Instant)>);

/// Whose a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This host's.
    Ours,
    /// Another host's.
    Theirs,
    /// It could not be found out.
    Unknown,
}

impl Owners {
    /// Notes what the store said; whether it is news that `bare` is another's.
    pub(super) fn note(&mut self, bare: String, owner: Host, local: &Host, now: Instant) -> bool {
        let is_theirs = owner != *local;
        let before = self.0.insert(bare, (owner, now));
        is_theirs && before.is_none_or(|(before, _)| before == *local)
    }

    /// What is known of `bare`, however long ago it was told.
    pub(super) fn of(&self, bare: &str, local: &Host) -> Owner {
        match self.0.get(bare) {
            Some((owner, _)) if owner == local => Owner::Ours,
            Some(_) => Owner::Theirs,
            None => Owner::Unknown,
        }
    }

    /// The same, if it need not be asked again.
    pub(super) fn fresh(&self, bare: &str, local: &Host, now: Instant) -> Owner {
        match self.0.get(bare) {
            Some((owner, at)) if owner != local && now.duration_since(*at) >= RECHECK => {
                Owner::Unknown
            }
            _ => self.of(bare, local),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_anothers_is_news_once_and_asked_again_after_a_while() {
        let (us, them) = (
            Host::new("dc1.test").unwrap(),
            Host::new("dc2.test").unwrap(),
        );
        let now = Instant::now();
        let mut owners = Owners::default();
        assert_eq!(owners.of("a@x", &us), Owner::Unknown);
        assert!(owners.note("a@x".to_owned(), them.clone(), &us, now));
        assert!(!owners.note("a@x".to_owned(), them, &us, now));
        assert_eq!(owners.fresh("a@x", &us, now), Owner::Theirs);
        assert_eq!(owners.fresh("a@x", &us, now + RECHECK), Owner::Unknown);
        assert_eq!(owners.of("a@x", &us), Owner::Theirs);
        assert!(!owners.note("a@x".to_owned(), us.clone(), &us, now));
        assert_eq!(owners.fresh("a@x", &us, now + RECHECK), Owner::Ours);
    }
}

//! Senders whose stanzas have ended a stream: one stanza that the server's parser
//! rejects costs a stream for all users, and its sender may repeat the stanza.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jid::{BareJid, Jid};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Time for which an ended stream counts against the stanza's sender.
const MEMORY: Duration = Duration::from_secs(3600);
/// Senders remembered at most; above it, the one to be forgotten first makes room.
const LIMIT: usize = 1024;

/// The senders in quarantine, by bare JID: a user has any number of resources.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    senders: Mutex<HashMap<BareJid, Offender>>,
    /// Whether `senders` may have entries: nearly never.
    is_used: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Offender {
    is_repeated: bool,
    ends: Instant,
}

/// The treatment of a sender's stanzas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SenderTrust {
    /// The sender has ended no stream lately.
    Trusted,
    /// The sender has ended one stream: each stanza is written alone, so that the
    /// next end of a stream has a certain cause.
    WrittenAlone,
    /// The sender has ended several streams: nothing is written.
    Refused,
}

impl Quarantine {
    /// Records that a stanza of `sender` has ended a stream.
    pub fn add(&self, sender: &Jid, now: Instant) -> SenderTrust {
        let mut senders = self.senders.lock();
        senders.retain(|_, offender| offender.ends > now);
        let sender = sender.to_bare();
        let is_repeated = senders.contains_key(&sender);
        if senders.len() >= LIMIT && !is_repeated {
            let first = senders.iter().min_by_key(|(_, offender)| offender.ends);
            let first = first.map(|(sender, _)| sender.clone());
            first.and_then(|first| senders.remove(&first));
        }
        let ends = now + MEMORY;
        senders.insert(sender, Offender { is_repeated, ends });
        self.is_used.store(true, Ordering::Release);
        trust(is_repeated)
    }

    pub fn trust(&self, sender: Option<&Jid>, now: Instant) -> SenderTrust {
        let Some(sender) = sender.filter(|_| self.is_used.load(Ordering::Acquire)) else {
            return SenderTrust::Trusted;
        };
        let mut senders = self.senders.lock();
        let sender = sender.to_bare();
        match senders.get(&sender) {
            Some(offender) if offender.ends > now => trust(offender.is_repeated),
            Some(_) => {
                senders.remove(&sender);
                self.is_used.store(!senders.is_empty(), Ordering::Release);
                SenderTrust::Trusted
            }
            None => SenderTrust::Trusted,
        }
    }
}

fn trust(is_repeated: bool) -> SenderTrust {
    if is_repeated {
        SenderTrust::Refused
    } else {
        SenderTrust::WrittenAlone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        Jid::new(text).unwrap()
    }

    #[test]
    fn a_sender_is_refused_after_its_second_stream_and_trusted_an_hour_later() {
        let quarantine = Quarantine::default();
        let now = Instant::now();
        let of = |text, now| quarantine.trust(Some(&jid(text)), now);
        assert_eq!(of("bob@x.test/a", now), SenderTrust::Trusted);
        let first = quarantine.add(&jid("bob@x.test/a"), now);
        assert_eq!(first, SenderTrust::WrittenAlone);
        assert_eq!(of("bob@x.test/b", now), SenderTrust::WrittenAlone);
        assert_eq!(of("carol@x.test/b", now), SenderTrust::Trusted);
        let second = quarantine.add(&jid("bob@x.test/c"), now);
        assert_eq!(second, SenderTrust::Refused);
        assert_eq!(of("bob@x.test", now), SenderTrust::Refused);
        assert_eq!(of("bob@x.test", now + MEMORY), SenderTrust::Trusted);
        assert!(!quarantine.is_used.load(Ordering::Acquire));
    }

    #[test]
    fn the_number_of_senders_is_bounded() {
        let quarantine = Quarantine::default();
        let now = Instant::now();
        for n in 0..u64::try_from(LIMIT).unwrap() + 5 {
            let at = now + Duration::from_millis(n);
            quarantine.add(&jid(&format!("user{n}@x.test")), at);
        }
        assert_eq!(quarantine.senders.lock().len(), LIMIT);
        let first = quarantine.trust(Some(&jid("user0@x.test")), now);
        assert_eq!(first, SenderTrust::Trusted);
    }
}

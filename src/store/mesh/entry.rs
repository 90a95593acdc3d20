//! One line of a table: a JID and how it stands, in the form in which it is
//! kept in memory and goes over the wire.
//!
//! 2 bytes the JID's length, 8 bytes its [`Standing`], then the JID.

use std::ops::{AddAssign, SubAssign};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::replication::InvalidMessage;

/// The longest JID: three parts of 1023 bytes (RFC 7622 §3.1) and what is between them.
pub(super) const JID_LIMIT: usize = 3 * 1023 + 2;

/// What goes before the JID.
pub(super) const PREFIX: usize = BITS_AT + 8;

/// Where the standing begins.
pub(super) const BITS_AT: usize = 2;

/// The highest bit of a standing in its eight bytes.
const FORMER: u64 = 1 << 63;

/// How a JID stands at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is known of it.
    Nowhere,
    /// It is online, since this time, in ms since the Unix epoch.
    Online(u64),
    /// It was, and the claim was from this time. Kept of bare JIDs only.
    Former(u64),
}

impl Standing {
    /// Since when; 0 if it is nowhere.
    pub(super) fn since(self) -> u64 {
        match self {
            Self::Nowhere => 0,
            Self::Online(since) | Self::Former(since) => since,
        }
    }

    /// The eight bytes.
    pub(super) fn to_bits(self) -> u64 {
        match self {
            Self::Nowhere => 0,
            // 0 means nowhere; a claim from 1970 has no better meaning than one from 1 ms later.
            Self::Online(since) => since.clamp(1, FORMER - 1),
            Self::Former(since) => since.min(FORMER - 1) | FORMER,
        }
    }

    fn from_bits(bits: u64) -> Self {
        if bits == 0 {
            Self::Nowhere
        } else if bits & FORMER == 0 {
            Self::Online(bits)
        } else {
            Self::Former(bits & !FORMER)
        }
    }
}

/// A line, borrowed from where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) jid: &'a str,
    pub(super) standing: Standing,
}

impl<'a> Entry<'a> {
    /// In bytes, as written.
    pub(super) fn size(self) -> usize {
        PREFIX + self.jid.len()
    }

    /// Appends it. The JID must be at most [`JID_LIMIT`] bytes long.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        debug_assert!(self.jid.len() <= JID_LIMIT);
        out.extend_from_slice(&(self.jid.len() as u16).to_be_bytes());
        out.extend_from_slice(&self.standing.to_bits().to_be_bytes());
        out.extend_from_slice(self.jid.as_bytes());
    }

    /// Which bucket of a table it stands in.
    pub(super) fn bucket(self) -> usize {
        bucket_of(self.jid)
    }

    /// What it adds to a digest.
    pub(super) fn digest(self) -> Digest {
        Digest(xxh3_128_with_seed(
            self.jid.as_bytes(),
            self.standing.to_bits(),
        ))
    }

    /// Reads entries that were checked when they came in; stops at anything else.
    pub(super) fn all_in(bytes: &'a [u8]) -> impl Iterator<Item = Entry<'a>> {
        Raw::all_in(bytes).map_while(|raw| raw.entry().ok())
    }

    /// Reads entries that came from elsewhere.
    pub(super) fn check_all(bytes: &'a [u8]) -> Result<Vec<Entry<'a>>, InvalidMessage> {
        let mut raws = Raw::all_in(bytes);
        let entries = raws.by_ref().map(Raw::entry).collect::<Result<_, _>>()?;
        match raws.rest.len() {
            0 => Ok(entries),
            more => Err(InvalidMessage(format!(
                "has an entry that ends early, {more} bytes before the end"
            ))),
        }
    }
}

/// Which bucket `jid` stands in.
pub(super) fn bucket_of(jid: &str) -> usize {
    // The highest 12 bits: less than BUCKETS.
    (xxh3_64(jid.as_bytes()) >> (64 - BUCKET_BITS)) as usize
}

const BUCKET_BITS: u32 = 12;

/// A table is kept and compared in so many parts.
pub(super) const BUCKETS: usize = 1 << BUCKET_BITS;

/// An entry whose JID is only bytes.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) jid: &'a [u8],
    bits: u64,
}

impl<'a> Raw<'a> {
    pub(super) fn all_in(bytes: &'a [u8]) -> Raws<'a> {
        Raws { rest: bytes }
    }

    pub(super) fn standing(self) -> Standing {
        Standing::from_bits(self.bits)
    }

    fn entry(self) -> Result<Entry<'a>, InvalidMessage> {
        if self.jid.is_empty() || self.jid.len() > JID_LIMIT {
            return Err(InvalidMessage(format!(
                "has a JID of {} bytes",
                self.jid.len()
            )));
        }
        let jid = std::str::from_utf8(self.jid)
            .map_err(|_| InvalidMessage("has a JID that is not UTF-8".to_owned()))?;
        Ok(Entry {
            jid,
            standing: self.standing(),
        })
    }
}

/// Goes over entries without looking into them; stops where one is not whole.
pub(super) struct Raws<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Raws<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (bits, rest) = rest.split_first_chunk::<8>()?;
        let (jid, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.rest = rest;
        Some(Raw {
            jid,
            bits: u64::from_be_bytes(*bits),
        })
    }
}

/// What some entries amount to, in whatever order: the sum of their hashes
/// (XXH3, 128 bits, of the JID, seeded with the standing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest(pub(super) u128);

impl Digest {
    /// A part that a double of Prometheus holds exactly.
    pub(super) fn fingerprint(self) -> u32 {
        self.0 as u32
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl SubAssign for Digest {
    fn sub_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            Just(Standing::Nowhere),
            (1..FORMER).prop_map(Standing::Online),
            (0..FORMER).prop_map(Standing::Former),
        ]
    }

    proptest! {
        #[test]
        fn come_back_as_they_were(entries in vec(("[a-zäß@./]{1,30}", standing()), 0..20)) {
            let mut bytes = Vec::new();
            let written: Vec<Entry> = entries
                .iter()
                .map(|(jid, standing)| Entry { jid, standing: *standing })
                .collect();
            written.iter().for_each(|entry| entry.put(&mut bytes));
            prop_assert_eq!(Entry::check_all(&bytes), Ok(written.clone()));
            prop_assert_eq!(bytes.len(), written.iter().map(|entry| entry.size()).sum::<usize>());
            prop_assert_eq!(Entry::all_in(&bytes).collect::<Vec<_>>(), written);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Entry::check_all(&bytes);
            let whole: usize = Entry::all_in(&bytes).map(Entry::size).sum();
            prop_assert!(whole <= bytes.len());
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let mut bytes = Vec::new();
        let entry = Entry {
            jid: "a@example.com",
            standing: Standing::Online(7),
        };
        entry.put(&mut bytes);
        for end in 1..bytes.len() {
            assert!(Entry::check_all(&bytes[..end]).is_err(), "{end} bytes");
        }
        let empty = [0; PREFIX];
        assert!(Entry::check_all(&empty).is_err());
        let mut long = ((JID_LIMIT + 1) as u16).to_be_bytes().to_vec();
        long.resize(PREFIX + JID_LIMIT + 1, b'a');
        assert!(Entry::check_all(&long).is_err());
        let not_text = [0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
        assert!(Entry::check_all(&not_text).is_err());
    }

    #[test]
    fn a_digest_tells_online_from_former_and_one_time_from_another() {
        let digest = |standing| {
            Entry {
                jid: "a@b",
                standing,
            }
            .digest()
        };
        let all = [
            Standing::Online(1),
            Standing::Online(2),
            Standing::Former(1),
            Standing::Former(2),
        ];
        for (n, one) in all.iter().enumerate() {
            for other in &all[n + 1..] {
                assert_ne!(digest(*one), digest(*other));
            }
        }
    }
}

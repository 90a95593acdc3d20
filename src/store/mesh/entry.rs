//! One entry of a table: a JID and its standing, as on the wire and in memory.
//!
//! 2 bytes length of the JID, 8 bytes [`Standing`], the JID. In memory the
//! standing also carries a generation ([`super::replica`]), on the wire none.

use std::hash::{BuildHasher, RandomState};
use std::ops::{AddAssign, SubAssign};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::replication::InvalidMessage;

/// The longest JID: three parts of 1023 bytes (RFC 7622 §3.1) and what is between them.
pub(super) const JID_LIMIT: usize = 3 * 1023 + 2;

/// Upper bound of the entries of one message, which is applied in one pass.
const ENTRIES_LIMIT: usize = 8192;

/// Bytes of the length and the standing.
pub(super) const PREFIX: usize = 10;

/// The highest bit: the claim is a former one.
const FORMER: u64 = 1 << 63;

/// Bits below the generation, for the time in ms since the Unix epoch.
const SINCE_BITS: u32 = 47;
const SINCE_MAX: u64 = (1 << SINCE_BITS) - 1;

/// Standing of a JID at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Unknown at the node.
    Nowhere,
    /// Online since this time, in ms since the Unix epoch.
    Online(u64),
    /// Time of the last claim, in ms since the Unix epoch. Only bare JIDs have it: it makes the
    /// home.
    Former(u64),
}

impl Standing {
    /// 0 for [`Self::Nowhere`].
    pub(super) fn since(self) -> u64 {
        match self {
            Self::Nowhere => 0,
            Self::Online(since) | Self::Former(since) => since,
        }
    }

    /// Standing of `jid` once online entries no longer count.
    pub(super) fn outlived(self, jid: &[u8]) -> Self {
        match self {
            Self::Online(since) if is_bare(jid) => Self::Former(since),
            Self::Online(_) => Self::Nowhere,
            other => other,
        }
    }

    fn to_bits(self) -> u64 {
        match self {
            Self::Nowhere => 0,
            // 0 means nowhere.
            Self::Online(since) => since.clamp(1, SINCE_MAX),
            Self::Former(since) => since.min(SINCE_MAX) | FORMER,
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits & SINCE_MAX {
            since if bits & FORMER != 0 => Self::Former(since),
            0 => Self::Nowhere,
            since => Self::Online(since),
        }
    }
}

/// Whether `jid` has no resource.
pub(super) fn is_bare(jid: &[u8]) -> bool {
    !jid.contains(&b'/')
}

/// Entry borrowed from a message or a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// At most [`JID_LIMIT`] bytes.
    pub(super) jid: &'a [u8],
    pub(super) standing: Standing,
    /// Generation in which the entry was written into a replica; 0 in messages.
    pub(super) generation: u16,
}

impl<'a> Entry<'a> {
    /// Creates an entry as in a message.
    pub(super) fn new(jid: &'a [u8], standing: Standing) -> Self {
        Self {
            jid,
            standing,
            generation: 0,
        }
    }

    /// Size in bytes.
    pub(super) fn size(self) -> usize {
        PREFIX + self.jid.len()
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        let bits = self.standing.to_bits() | u64::from(self.generation) << SINCE_BITS;
        out.extend_from_slice(&(self.jid.len() as u16).to_be_bytes());
        out.extend_from_slice(&bits.to_be_bytes());
        out.extend_from_slice(self.jid);
    }

    /// The first entry of a bucket or a message, and what follows.
    pub(super) fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (bits, rest) = rest.split_first_chunk::<8>()?;
        let (jid, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let bits = u64::from_be_bytes(*bits);
        let entry = Self {
            jid,
            standing: Standing::from_bits(bits),
            // 16 bits.
            generation: ((bits & !FORMER) >> SINCE_BITS) as u16,
        };
        Some((entry, rest))
    }

    /// Reads the entries of a message.
    pub(super) fn read_all(mut bytes: &'a [u8]) -> Result<Vec<Self>, InvalidMessage> {
        let invalid = |what: &str| Err(InvalidMessage(what.to_owned()));
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let Some((entry, rest)) = Self::split_first(bytes) else {
                return invalid("has an entry that ends too early");
            };
            let length = entry.jid.len();
            if length == 0 || length > JID_LIMIT || std::str::from_utf8(entry.jid).is_err() {
                return invalid("has a JID that is none");
            }
            if entry.generation != 0 {
                return invalid("has a time that is none");
            }
            if entries.len() == ENTRIES_LIMIT {
                return invalid("has too many entries");
            }
            entries.push(entry);
            bytes = rest;
        }
        Ok(entries)
    }

    /// Share of the entry in the digest of the table of process `epoch`.
    pub(super) fn digest(self, epoch: u64) -> Digest {
        match self.standing {
            Standing::Nowhere => Digest::default(),
            standing => Digest(xxh3_128_with_seed(self.jid, standing.to_bits() ^ epoch)),
        }
    }
}

/// The sum of some entries' hashes (XXH3, 128 bits, of the JID, seeded with
/// standing and epoch), whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest(pub(super) u128);

impl Digest {
    /// Bits of the digest that a double of Prometheus holds exactly.
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

/// Hashes JIDs for all tables of a store, with a random key: users cannot choose names that fall
/// into one bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct JidHasher(RandomState);

/// A JID with its hash, which all tables of a store share.
#[derive(Debug, Clone, Copy)]
pub(super) struct HashedJid<'a> {
    pub(super) jid: &'a [u8],
    pub(super) hash: u64,
}

impl JidHasher {
    pub(super) fn hash<'a>(&self, jid: &'a [u8]) -> HashedJid<'a> {
        let hash = self.0.hash_one(jid);
        HashedJid { jid, hash }
    }
}

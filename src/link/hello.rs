//! The greeting: the hosts and nodes on both sides, the version, and the number to
//! resume after.
//!
//! Magic and version range stand first and keep their place in all versions, so
//! that gateways of any two versions can send each other the reason of a failure.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Identity;
use super::connect_error::{ConnectError, RefusalKind};
use super::wire::{self, RawFrame, WireError};

/// The versions of the link protocol that this gateway speaks.
pub(super) const VERSIONS: RangeInclusive<u16> = 3..=3;

/// The longest frame of a greeting: four texts and some numbers.
pub(super) const LIMIT: usize = 4 * (wire::TEXT_LIMIT + 2) + 64;

const MAGIC: &[u8; 8] = b"strait\r\n";
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSED: u8 = 3;

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Stanzas, in slots.
    Stanzas,
    /// Replication of the listener's session table.
    Table,
}

/// The dialler's first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    /// The versions that the dialler speaks.
    pub(super) versions: RangeInclusive<u16>,
    /// The `local_host` that the dialler wants to reach; empty on a table link,
    /// which any host may accept.
    pub(super) to: String,
    /// The dialler's own `local_host`.
    pub(super) from: String,
    /// The dialler's `node`.
    pub(super) node: String,
    /// The dialler's epoch: stanza numbers count within it.
    pub(super) epoch: u64,
    /// The dialler's number for this connection, the same after a reconnect.
    pub(super) slot: u32,
    pub(super) purpose: Purpose,
}

/// The listener's answer when the link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Welcome {
    /// The version that both will speak.
    pub(super) version: u16,
    /// The listener's `local_host`.
    pub(super) host: String,
    /// The listener's `node`.
    pub(super) node: String,
    /// The longest frame that the listener accepts, in bytes.
    pub(super) frame_limit: u32,
    /// Stanzas up to this number need not be sent again on this slot.
    pub(super) resume_after: u64,
}

/// The listener's answer to a dialler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HelloReply {
    Welcome(Welcome),
    Refused {
        versions: RangeInclusive<u16>,
        kind: RefusalKind,
        text: String,
    },
}

impl Hello {
    pub(super) fn put(&self, out: &mut BytesMut) {
        wire::put(out, HELLO, |out| {
            out.put_slice(MAGIC);
            put_versions(out, &self.versions);
            wire::put_text(out, &self.to);
            wire::put_text(out, &self.from);
            wire::put_text(out, &self.node);
            out.put_u64(self.epoch);
            out.put_u32(self.slot);
            out.put_u8(self.purpose.code());
        });
    }

    /// Reads a hello. Trailing bytes are left to later versions.
    pub(super) fn read(raw: RawFrame, us: &Identity) -> Result<Self, ConnectError> {
        let RawFrame { kind, mut body } = raw;
        if kind != HELLO || !body.starts_with(MAGIC) {
            return Err(ConnectError::refused(
                RefusalKind::Protocol,
                "it does not greet like a strait gateway",
            ));
        }
        body.advance(MAGIC.len());
        let versions = take_versions(&mut body).map_err(malformed)?;
        if common_version(&versions).is_none() {
            let text = format!(
                "no common version of the link protocol: {} speaks {}, the dialler speaks {}; \
                 run the same release of strait on both sides",
                us.host,
                spell(&VERSIONS),
                spell(&versions)
            );
            return Err(ConnectError::refused(RefusalKind::Version, text));
        }
        let mut rest = || {
            Ok::<_, WireError>(Self {
                versions: versions.clone(),
                to: wire::take_text(&mut body)?,
                from: wire::take_text(&mut body)?,
                node: wire::take_text(&mut body)?,
                epoch: body.try_get_u64()?,
                slot: body.try_get_u32()?,
                purpose: Purpose::from_code(body.try_get_u8()?)?,
            })
        };
        rest().map_err(malformed)
    }

    /// Checks that the dialler wants to reach `us`. The name that the dialler gives
    /// itself is checked against its certificate instead.
    pub(super) fn is_for(&self, us: &Identity) -> Result<(), ConnectError> {
        let wrong = |text| Err(ConnectError::refused(RefusalKind::WrongHost, text));
        if self.purpose == Purpose::Table {
            return self.is_another_node_than(us);
        }
        if us.host != *self.to.as_str() {
            return wrong(format!(
                "{} dialled {}, but this is {}: one of them has the wrong endpoint or local_host",
                self.from.escape_debug(),
                self.to.escape_debug(),
                us.host
            ));
        }
        if us.host == *self.from.as_str() {
            return wrong(format!(
                "the dialler calls itself {0}, but this is {0}: two datacenters must not have \
                 the same local_host",
                us.host
            ));
        }
        Ok(())
    }

    /// Checks the node too, because nodes of one host replicate each other's tables.
    fn is_another_node_than(&self, us: &Identity) -> Result<(), ConnectError> {
        if us.host != *self.from.as_str() || us.node != self.node {
            return Ok(());
        }
        if us.epoch == self.epoch {
            let text = "it is ourselves: this endpoint leads back to us";
            return Err(ConnectError::refused(RefusalKind::Ourselves, text));
        }
        let text = format!(
            "two gateways of {} call themselves `{}`; give each a `node` of its own",
            us.host, us.node
        );
        Err(ConnectError::refused(RefusalKind::WrongHost, text))
    }
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Self::Stanzas => 0,
            Self::Table => 1,
        }
    }

    fn from_code(code: u8) -> Result<Self, WireError> {
        match code {
            0 => Ok(Self::Stanzas),
            1 => Ok(Self::Table),
            other => Err(WireError::UnknownPurpose(other)),
        }
    }
}

impl HelloReply {
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome(welcome) => wire::put(out, WELCOME, |out| {
                out.put_u16(welcome.version);
                wire::put_text(out, &welcome.host);
                wire::put_text(out, &welcome.node);
                out.put_u32(welcome.frame_limit);
                out.put_u64(welcome.resume_after);
            }),
            Self::Refused {
                versions,
                kind,
                text,
            } => wire::put(out, REFUSED, |out| {
                put_versions(out, versions);
                out.put_u8(kind.code());
                wire::put_text(out, text);
            }),
        }
    }

    /// Reads the answer. Trailing bytes are left to later versions.
    pub(super) fn read(raw: RawFrame) -> Result<Self, WireError> {
        let RawFrame { kind, mut body } = raw;
        match kind {
            WELCOME => Ok(Self::Welcome(Welcome {
                version: body.try_get_u16()?,
                host: wire::take_text(&mut body)?,
                node: wire::take_text(&mut body)?,
                frame_limit: body.try_get_u32()?,
                resume_after: body.try_get_u64()?,
            })),
            REFUSED => Ok(Self::Refused {
                versions: take_versions(&mut body)?,
                kind: RefusalKind::from_code(body.try_get_u8()?),
                text: wire::take_text(&mut body)?,
            }),
            other => Err(WireError::UnexpectedKind(other)),
        }
    }

    /// Returns the welcome, if the reply is one and comes from `host`.
    pub(super) fn welcome_of(self, host: &str) -> Result<Welcome, ConnectError> {
        match self.welcome()? {
            welcome if welcome.host != host => Err(ConnectError::refused(
                RefusalKind::WrongHost,
                format!(
                    "we dialled {host}, but it is {}: the endpoint belongs to another host",
                    welcome.host.escape_debug()
                ),
            )),
            welcome => Ok(welcome),
        }
    }

    /// Returns the welcome, if the reply is one.
    pub(super) fn welcome(self) -> Result<Welcome, ConnectError> {
        match self {
            Self::Refused {
                versions,
                kind: RefusalKind::Version,
                text,
            } => Err(ConnectError::refused(
                RefusalKind::Version,
                format!(
                    "it refuses this link: we speak {} of the link protocol, it speaks {}; run \
                     the same release of strait on both sides (it says: {})",
                    spell(&VERSIONS),
                    spell(&versions),
                    text.escape_debug()
                ),
            )),
            Self::Refused { kind, text, .. } => Err(ConnectError::refused(
                kind,
                format!("it refuses this link: {}", text.escape_debug()),
            )),
            Self::Welcome(welcome) if !VERSIONS.contains(&welcome.version) => {
                Err(ConnectError::refused(
                    RefusalKind::Version,
                    format!(
                        "it chose version {} of the link protocol, we speak {}",
                        welcome.version,
                        spell(&VERSIONS)
                    ),
                ))
            }
            Self::Welcome(welcome) => Ok(welcome),
        }
    }
}

/// Returns the highest version that both sides speak.
pub(super) fn common_version(theirs: &RangeInclusive<u16>) -> Option<u16> {
    let lowest = *theirs.start().max(VERSIONS.start());
    let highest = *theirs.end().min(VERSIONS.end());
    (lowest <= highest).then_some(highest)
}

/// The error for a greeting that can't be read.
pub(super) fn malformed(error: WireError) -> ConnectError {
    ConnectError::refused(RefusalKind::Protocol, error.to_string())
}

fn spell(versions: &RangeInclusive<u16>) -> String {
    if versions.start() == versions.end() {
        format!("version {}", versions.start())
    } else {
        format!("versions {} to {}", versions.start(), versions.end())
    }
}

fn put_versions(out: &mut BytesMut, versions: &RangeInclusive<u16>) {
    out.put_u16(*versions.start());
    out.put_u16(*versions.end());
}

fn take_versions(body: &mut Bytes) -> Result<RangeInclusive<u16>, WireError> {
    Ok(body.try_get_u16()?..=body.try_get_u16()?)
}

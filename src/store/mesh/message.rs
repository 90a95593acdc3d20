//! The messages of a table link. `docs/mesh.md` shows them byte by byte.

use bytes::{Buf, BufMut, Bytes, TryGetError};

use super::entry::Digest;
use crate::config::Endpoint;
use crate::host::Host;
use crate::replication::{InvalidMessage, Node};
use crate::store::{Announcement, Offer};

/// Bytes put into one message, if that many are waiting: few enough that neither locks nor the
/// connection are held for long.
pub(super) const CHUNK: usize = 64 * 1024;

/// The longest name, in bytes, as on all links.
const TEXT_LIMIT: usize = 1023;

/// Upper bound of the members of a list, read or written.
const LIST_LIMIT: usize = 1024;

const PROCESS: u8 = 1;
const NODES: u8 = 2;
const RESUME: u8 = 3;
const SNAPSHOT: u8 = 4;
const ENTRIES: u8 = 5;
const CHANGES: u8 = 6;
const DIGEST: u8 = 7;
const HANDOVER: u8 = 8;

/// Nodes with the endpoints that they announce.
pub(super) type NodeList = Vec<(Node, Vec<Endpoint>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Sender: its epoch and its announcement; `None` once it has retired.
    Process {
        epoch: u64,
        announcement: Option<Announcement>,
    },
    /// Both: itself, and the nodes that it replicates.
    Nodes(NodeList),
    /// Receiver: the epoch and the next change of its replica; `None` for a snapshot.
    Resume(Option<(u64, u64)>),
    /// Sender: all entries follow; the next change has this number.
    Snapshot { sequence: u64 },
    /// Sender: a part of the snapshot.
    Entries { is_last: bool, entries: Bytes },
    /// Sender: entries that changed, one for each sequence number.
    Changes(Bytes),
    /// Sender: the digest of its whole table, before change `sequence`.
    Digest { sequence: u64, digest: Digest },
    /// Sender: entries of earlier processes of a node, and for how many more
    /// ms the online ones count.
    Handover {
        of: HandoverOf,
        ms: u32,
        entries: Bytes,
    },
}

/// The node with the earlier processes that a handover is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandoverOf {
    /// The node that receives the handover: the sender has kept the entries.
    Receiver,
    /// The node that sends the handover: others had kept the entries.
    Sender,
}

impl Message {
    pub(super) fn write(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Process {
                epoch,
                announcement,
            } => {
                out.put_u8(PROCESS);
                out.put_u64(*epoch);
                out.put_u8(u8::from(announcement.is_some()));
                if let Some(announcement) = announcement {
                    put_list(&mut out, &announcement.endpoints, put_endpoint);
                    put_list(&mut out, &announcement.offers, |out, offer| {
                        put_text(out, offer.domain.as_str());
                        out.put_u8(u8::from(offer.hidden));
                    });
                }
            }
            Self::Nodes(nodes) => {
                out.put_u8(NODES);
                put_list(&mut out, nodes, |out, (node, endpoints)| {
                    put_text(out, node.host.as_str());
                    put_text(out, &node.name);
                    put_list(out, endpoints, put_endpoint);
                });
            }
            Self::Resume(from) => {
                out.put_u8(RESUME);
                out.put_u8(u8::from(from.is_some()));
                if let Some((epoch, sequence)) = from {
                    out.put_u64(*epoch);
                    out.put_u64(*sequence);
                }
            }
            Self::Snapshot { sequence } => {
                out.put_u8(SNAPSHOT);
                out.put_u64(*sequence);
            }
            Self::Entries { is_last, entries } => {
                out.put_u8(ENTRIES);
                out.put_u8(u8::from(*is_last));
                out.put_slice(entries);
            }
            Self::Changes(entries) => {
                out.put_u8(CHANGES);
                out.put_slice(entries);
            }
            Self::Digest { sequence, digest } => {
                out.put_u8(DIGEST);
                out.put_u64(*sequence);
                out.put_u128(digest.0);
            }
            Self::Handover { of, ms, entries } => {
                out.put_u8(HANDOVER);
                out.put_u8(u8::from(*of == HandoverOf::Sender));
                out.put_u32(*ms);
                out.put_slice(entries);
            }
        }
        out.into()
    }

    /// Reads a message, but not the entries in it.
    pub(super) fn read(mut body: Bytes) -> Result<Self, InvalidMessage> {
        let read = Self::read_fields(&mut body)?;
        match body.len() {
            0 => Ok(read),
            more => Err(InvalidMessage(format!(
                "has {more} bytes more than its fields"
            ))),
        }
    }

    fn read_fields(body: &mut Bytes) -> Result<Self, InvalidMessage> {
        Ok(match body.try_get_u8().map_err(too_short)? {
            PROCESS => Self::Process {
                epoch: take_u64(body)?,
                announcement: match take_bool(body)? {
                    true => Some(Announcement {
                        endpoints: take_list(body, take_endpoint)?,
                        offers: take_list(body, take_offer)?,
                    }),
                    false => None,
                },
            },
            NODES => Self::Nodes(take_list(body, |body| {
                let host = take_host(body)?;
                let name = take_text(body)?;
                Ok((Node { host, name }, take_list(body, take_endpoint)?))
            })?),
            RESUME => Self::Resume(match take_bool(body)? {
                true => Some((take_u64(body)?, take_u64(body)?)),
                false => None,
            }),
            SNAPSHOT => Self::Snapshot {
                sequence: take_u64(body)?,
            },
            ENTRIES => Self::Entries {
                is_last: take_bool(body)?,
                entries: std::mem::take(body),
            },
            CHANGES => Self::Changes(std::mem::take(body)),
            DIGEST => Self::Digest {
                sequence: take_u64(body)?,
                digest: Digest(body.try_get_u128().map_err(too_short)?),
            },
            HANDOVER => Self::Handover {
                of: match take_bool(body)? {
                    true => HandoverOf::Sender,
                    false => HandoverOf::Receiver,
                },
                ms: body.try_get_u32().map_err(too_short)?,
                entries: std::mem::take(body),
            },
            other => return Err(InvalidMessage(format!("is of the unknown kind {other}"))),
        })
    }

    /// Error for a message that the peer may not send, or not yet; `why` ends the sentence.
    pub(super) fn unexpected(&self, why: &str) -> InvalidMessage {
        let kind = self.write()[0];
        InvalidMessage(format!("is of kind {kind}, which may not come {why}"))
    }
}

fn put_endpoint(out: &mut Vec<u8>, endpoint: &Endpoint) {
    put_text(out, &endpoint.host);
    out.put_u16(endpoint.port);
}

fn take_endpoint(body: &mut Bytes) -> Result<Endpoint, InvalidMessage> {
    let host = take_text(body)?;
    let port = body.try_get_u16().map_err(too_short)?;
    Endpoint::new(&host, port)
        .ok_or_else(|| InvalidMessage(format!("has an endpoint that is none: {host:?}")))
}

fn take_offer(body: &mut Bytes) -> Result<Offer, InvalidMessage> {
    Ok(Offer {
        domain: take_host(body)?,
        hidden: take_bool(body)?,
    })
}

fn take_host(body: &mut Bytes) -> Result<Host, InvalidMessage> {
    let text = take_text(body)?;
    Host::new(&text)
        .map_err(|error| InvalidMessage(format!("names a domain that is none: {error}")))
}

/// Cuts the list where the peer would stop reading.
fn put_list<T>(out: &mut Vec<u8>, list: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    let count_at = out.len();
    out.put_u16(0);
    let mut count = 0_u16;
    for member in list.iter().take(LIST_LIMIT) {
        if out.len() >= CHUNK {
            break;
        }
        put(out, member);
        count += 1;
    }
    out[count_at..count_at + 2].copy_from_slice(&count.to_be_bytes());
}

fn take_list<T>(
    body: &mut Bytes,
    mut take: impl FnMut(&mut Bytes) -> Result<T, InvalidMessage>,
) -> Result<Vec<T>, InvalidMessage> {
    let count = usize::from(body.try_get_u16().map_err(too_short)?);
    if count > LIST_LIMIT {
        let what = format!("has a list of {count} members, more than {LIST_LIMIT}");
        return Err(InvalidMessage(what));
    }
    (0..count).map(|_| take(body)).collect()
}

/// Cut at [`TEXT_LIMIT`], as in a hello; names are never that long.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(TEXT_LIMIT)).rev().find(fits);
    let text = &text[..end.unwrap_or(0)];
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn take_text(body: &mut Bytes) -> Result<String, InvalidMessage> {
    let length = usize::from(body.try_get_u16().map_err(too_short)?);
    if length > TEXT_LIMIT {
        return Err(InvalidMessage(format!("has a text of {length} bytes")));
    }
    if body.len() < length {
        return Err(InvalidMessage("ends within a text".to_owned()));
    }
    let text = body.split_to(length);
    let text = std::str::from_utf8(&text);
    text.map(str::to_owned)
        .map_err(|_| InvalidMessage("has a text that is not UTF-8".to_owned()))
}

fn take_u64(body: &mut Bytes) -> Result<u64, InvalidMessage> {
    body.try_get_u64().map_err(too_short)
}

fn take_bool(body: &mut Bytes) -> Result<bool, InvalidMessage> {
    body.try_get_u8().map(|byte| byte != 0).map_err(too_short)
}

fn too_short(_: TryGetError) -> InvalidMessage {
    InvalidMessage("ends before its fields do".to_owned())
}

//! What two nodes say to each other about the table. `docs/mesh.md` shows it
//! byte by byte.

use bytes::{Buf, BufMut, Bytes, TryGetError};

use super::entry::{BUCKETS, Digest, Entry};
use crate::config::Endpoint;
use crate::host::Host;
use crate::replication::{InvalidMessage, Node};
use crate::store::{Announcement, Offer};

/// The longest name, in bytes, as on all links.
const TEXT_LIMIT: usize = 1023;

/// As many endpoints, domains or nodes are read from one message.
const LIST_LIMIT: usize = 1024;

const PROCESS: u8 = 1;
const NODES: u8 = 2;
const HAVE: u8 = 3;
const PARTS: u8 = 4;
const CHANGES: u8 = 5;
const DIGEST: u8 = 6;
const KEPT: u8 = 7;
const FORMER: u8 = 8;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// From the followed: which process it is, and what it announces;
    /// `None` once it has retired.
    Process {
        epoch: u64,
        announcement: Option<Announcement>,
    },
    /// From both: nodes that can be dialled, as far as the sender knows.
    Nodes(Vec<(Node, Vec<Endpoint>)>),
    /// From the follower: what it has of the table, part by part.
    Have(Vec<Digest>),
    /// From the followed: whole parts.
    Parts(Bytes),
    /// From the followed: how some JIDs stand from now on.
    Changes(Bytes),
    /// From the followed: its whole table, now, when it had heard `heard`
    /// times what the follower has.
    Digest { heard: u32, digest: Digest },
    /// From the followed: what it keeps of the process that the follower's
    /// node was before, and for how many more ms the online ones count.
    Kept { ms: u32, entries: Bytes },
    /// From the followed: what others have kept of the processes that its own
    /// node was before, and for how many more ms the online ones count.
    Former { ms: u32, entries: Bytes },
}

impl Message {
    /// The message's bytes.
    pub(super) fn write(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Process {
                epoch,
                announcement,
            } => put_process(&mut out, *epoch, announcement.as_ref()),
            Self::Nodes(nodes) => put_nodes(&mut out, nodes),
            Self::Have(digests) => {
                out.put_u8(HAVE);
                digests.iter().for_each(|digest| out.put_u128(digest.0));
            }
            Self::Parts(bytes) => {
                out.put_u8(PARTS);
                out.put_slice(bytes);
            }
            Self::Changes(bytes) => {
                out.put_u8(CHANGES);
                out.put_slice(bytes);
            }
            Self::Digest { heard, digest } => {
                out.put_u8(DIGEST);
                out.put_u32(*heard);
                out.put_u128(digest.0);
            }
            Self::Kept { ms, entries } => put_former(&mut out, KEPT, *ms, entries),
            Self::Former { ms, entries } => put_former(&mut out, FORMER, *ms, entries),
        }
        out.into()
    }

    /// Reads a message. What is in [`Message::Parts`], [`Message::Changes`],
    /// [`Message::Kept`] and [`Message::Former`] is left to be read.
    pub(super) fn read(mut body: Bytes) -> Result<Self, InvalidMessage> {
        let message = match body.try_get_u8().map_err(truncated)? {
            PROCESS => Self::Process {
                epoch: body.try_get_u64().map_err(truncated)?,
                announcement: take_announcement(&mut body)?,
            },
            NODES => Self::Nodes(take_list(&mut body, |body| {
                let host = take_host(body)?;
                let name = take_text(body)?;
                Ok((Node { host, name }, take_list(body, take_endpoint)?))
            })?),
            HAVE => Self::Have(take_digests(&mut body)?),
            PARTS => return Ok(Self::Parts(body)),
            CHANGES => return Ok(Self::Changes(body)),
            DIGEST => Self::Digest {
                heard: body.try_get_u32().map_err(truncated)?,
                digest: Digest(body.try_get_u128().map_err(truncated)?),
            },
            KEPT => {
                let ms = body.try_get_u32().map_err(truncated)?;
                return Ok(Self::Kept { ms, entries: body });
            }
            FORMER => {
                let ms = body.try_get_u32().map_err(truncated)?;
                return Ok(Self::Former { ms, entries: body });
            }
            other => return Err(InvalidMessage(format!("is of the unknown kind {other}"))),
        };
        match body.len() {
            0 => Ok(message),
            more => Err(InvalidMessage(format!(
                "has {more} bytes more than its fields"
            ))),
        }
    }
}

impl Message {
    /// It may not come now; `where_from` ends the sentence.
    pub(super) fn out_of_place(&self, where_from: &str) -> InvalidMessage {
        let kind = match self {
            Self::Process { .. } => PROCESS,
            Self::Nodes(_) => NODES,
            Self::Have(_) => HAVE,
            Self::Parts(_) => PARTS,
            Self::Changes(_) => CHANGES,
            Self::Digest { .. } => DIGEST,
            Self::Kept { .. } => KEPT,
            Self::Former { .. } => FORMER,
        };
        InvalidMessage(format!(
            "is of kind {kind}, which may not come {where_from}"
        ))
    }
}

/// Appends part `index` to what becomes a [`Message::Parts`].
pub(super) fn put_part(out: &mut Vec<u8>, index: usize, entries: &[u8]) {
    // Less than BUCKETS, and than BUCKET_LIMIT.
    out.put_u16(index as u16);
    out.put_u32(entries.len() as u32);
    out.put_slice(entries);
}

/// The parts in a [`Message::Parts`].
pub(super) fn take_parts(bytes: &[u8]) -> Result<Vec<(usize, Vec<Entry<'_>>)>, InvalidMessage> {
    let mut rest = bytes;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let index = usize::from(rest.try_get_u16().map_err(truncated)?);
        let length = rest.try_get_u32().map_err(truncated)? as usize;
        let (entries, after) = rest.split_at_checked(length).ok_or_else(too_short)?;
        parts.push((index, Entry::check_all(entries)?));
        rest = after;
    }
    Ok(parts)
}

fn put_process(out: &mut Vec<u8>, epoch: u64, announcement: Option<&Announcement>) {
    out.put_u8(PROCESS);
    out.put_u64(epoch);
    out.put_u8(u8::from(announcement.is_some()));
    if let Some(announcement) = announcement {
        put_endpoints(out, &announcement.endpoints);
        put_offers(out, &announcement.offers);
    }
}

fn put_former(out: &mut Vec<u8>, kind: u8, ms: u32, entries: &[u8]) {
    out.put_u8(kind);
    out.put_u32(ms);
    out.put_slice(entries);
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[(Node, Vec<Endpoint>)]) {
    out.put_u8(NODES);
    let nodes = cut(nodes);
    out.put_u16(nodes.len() as u16);
    for (node, endpoints) in nodes {
        put_text(out, node.host.as_str());
        put_text(out, &node.name);
        put_endpoints(out, endpoints);
    }
}

fn take_announcement(body: &mut Bytes) -> Result<Option<Announcement>, InvalidMessage> {
    if body.try_get_u8().map_err(truncated)? == 0 {
        return Ok(None);
    }
    Ok(Some(Announcement {
        endpoints: take_list(body, take_endpoint)?,
        offers: take_list(body, take_offer)?,
    }))
}

fn take_digests(body: &mut Bytes) -> Result<Vec<Digest>, InvalidMessage> {
    if body.len() != 16 * BUCKETS {
        let what = format!("has {} bytes of digests, not {}", body.len(), 16 * BUCKETS);
        return Err(InvalidMessage(what));
    }
    let digest = |_| body.try_get_u128().map(Digest).map_err(truncated);
    (0..BUCKETS).map(digest).collect()
}

fn put_endpoints(out: &mut Vec<u8>, endpoints: &[Endpoint]) {
    let endpoints = cut(endpoints);
    out.put_u16(endpoints.len() as u16);
    for endpoint in endpoints {
        put_text(out, &endpoint.host);
        out.put_u16(endpoint.port);
    }
}

fn take_endpoint(body: &mut Bytes) -> Result<Endpoint, InvalidMessage> {
    let host = take_text(body)?;
    let port = body.try_get_u16().map_err(truncated)?;
    Endpoint::new(&host, port)
        .ok_or_else(|| InvalidMessage(format!("has an endpoint that is none: {host:?}")))
}

fn put_offers(out: &mut Vec<u8>, offers: &[Offer]) {
    let offers = cut(offers);
    out.put_u16(offers.len() as u16);
    for offer in offers {
        put_text(out, offer.domain.as_str());
        out.put_u8(u8::from(offer.hidden));
    }
}

fn take_offer(body: &mut Bytes) -> Result<Offer, InvalidMessage> {
    Ok(Offer {
        domain: take_host(body)?,
        hidden: body.try_get_u8().map_err(truncated)? != 0,
    })
}

fn take_host(body: &mut Bytes) -> Result<Host, InvalidMessage> {
    let text = take_text(body)?;
    Host::new(&text)
        .map_err(|error| InvalidMessage(format!("names a domain that is none: {error}")))
}

/// What the other side would read of it.
fn cut<T>(list: &[T]) -> &[T] {
    &list[..list.len().min(LIST_LIMIT)]
}

fn take_list<T>(
    body: &mut Bytes,
    mut take: impl FnMut(&mut Bytes) -> Result<T, InvalidMessage>,
) -> Result<Vec<T>, InvalidMessage> {
    let count = usize::from(body.try_get_u16().map_err(truncated)?);
    if count > LIST_LIMIT {
        return Err(InvalidMessage(format!(
            "has a list of {count} things, more than {LIST_LIMIT}"
        )));
    }
    (0..count).map(|_| take(body)).collect()
}

/// Cut at [`TEXT_LIMIT`], as in a greeting; names are never that long.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(TEXT_LIMIT)).rev().find(fits);
    let text = &text[..end.unwrap_or(0)];
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn take_text(body: &mut Bytes) -> Result<String, InvalidMessage> {
    let length = usize::from(body.try_get_u16().map_err(truncated)?);
    if length > TEXT_LIMIT {
        return Err(InvalidMessage(format!("has a text of {length} bytes")));
    }
    if body.len() < length {
        return Err(too_short());
    }
    let text = body.split_to(length);
    std::str::from_utf8(&text)
        .map(str::to_owned)
        .map_err(|_| InvalidMessage("has a text that is not UTF-8".to_owned()))
}

fn truncated(_: TryGetError) -> InvalidMessage {
    too_short()
}

fn too_short() -> InvalidMessage {
    InvalidMessage("ends before its fields do".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
        let endpoint = (
            "[a-z]{1,9}\\.test|10\\.0\\.0\\.[1-9]|2001:db8::[1-9]",
            1..9999_u16,
        );
        vec(
            endpoint.prop_map(|(host, port)| Endpoint { host, port }),
            0..4,
        )
    }

    fn messages() -> impl Strategy<Value = Message> {
        let offer = ("[a-z]{1,9}\\.test", any::<bool>()).prop_map(|(domain, hidden)| Offer {
            domain: Host::new(&domain).unwrap(),
            hidden,
        });
        let announcement = (endpoints(), vec(offer, 0..4))
            .prop_map(|(endpoints, offers)| Announcement { endpoints, offers });
        let node = ("[a-z]{1,9}\\.test", "[a-z]{1,9}").prop_map(|(host, name)| Node {
            host: Host::new(&host).unwrap(),
            name,
        });
        prop_oneof![
            (any::<u64>(), proptest::option::of(announcement)).prop_map(|(epoch, announcement)| {
                Message::Process {
                    epoch,
                    announcement,
                }
            }),
            vec((node, endpoints()), 0..4).prop_map(Message::Nodes),
            any::<u128>().prop_map(|seed| {
                let digests = (0..BUCKETS as u128).map(|n| Digest(seed.wrapping_mul(n)));
                Message::Have(digests.collect())
            }),
            (any::<u32>(), any::<u128>()).prop_map(|(heard, digest)| Message::Digest {
                heard,
                digest: Digest(digest),
            }),
            (any::<u32>(), any::<Vec<u8>>()).prop_map(|(ms, entries)| Message::Kept {
                ms,
                entries: entries.into()
            }),
            (any::<u32>(), any::<Vec<u8>>()).prop_map(|(ms, entries)| Message::Former {
                ms,
                entries: entries.into()
            }),
            any::<Vec<u8>>().prop_map(|bytes| Message::Changes(bytes.into())),
            any::<Vec<u8>>().prop_map(|bytes| Message::Parts(bytes.into())),
        ]
    }

    proptest! {
        #[test]
        fn come_back_as_they_were(message in messages()) {
            prop_assert_eq!(Message::read(message.write()), Ok(message));
        }

        #[test]
        fn a_truncated_one_is_an_error_or_another_one_but_no_panic(
            message in messages(),
            cut_at in any::<prop::sample::Index>(),
        ) {
            let bytes = message.write();
            let cut = bytes.slice(..cut_at.index(bytes.len()));
            prop_assert_ne!(Message::read(cut), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_without_panic(kind in 0..10_u8, body: Vec<u8>) {
            let _ = take_parts(&body);
            let bytes = [&[kind][..], &body].concat();
            let _ = Message::read(bytes.into());
        }
    }

    #[test]
    fn long_lists_are_refused_before_anything_is_read() {
        let bytes = [NODES, 0xff, 0xff];
        let error = Message::read(Bytes::copy_from_slice(&bytes)).unwrap_err();
        assert!(error.0.contains("65535 things"), "{error}");
    }

    #[test]
    fn parts_come_back_as_they_were() {
        let mut bytes = Vec::new();
        put_part(&mut bytes, 7, &[]);
        put_part(&mut bytes, 4095, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 9, b'a']);
        let parts = take_parts(&bytes).unwrap();
        assert_eq!(parts[0], (7, Vec::new()));
        assert_eq!((parts[1].0, parts[1].1[0].jid), (4095, "a"));
        assert!(take_parts(&bytes[..bytes.len() - 1]).is_err());
    }
}

//! A user moves to another datacenter in the middle of a flow of messages.
//!
//! Each message reaches the user at one host or the other, or the old server has accepted it, and
//! then its archive contains it (docs/delivery.md).

use std::collections::BTreeSet;

use tokio::join;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::inbox::Inbox;
use crate::support::server::Kind;
use crate::support::xml::{body, child};

crate::on_each_backend!(
    a_numbered_flow_survives_a_graceful_move,
    a_numbered_flow_survives_an_ungraceful_move,
);

const COUNT: usize = 300;
/// Number of messages sent before he is online again.
const BEFORE: usize = 200;
const MAM: &str = "urn:xmpp:mam:2";

/// The numbers in the bodies of messages, in order of arrival; without those in an archive's
/// answer.
fn heard(inbox: &Inbox) -> Vec<usize> {
    let raw = inbox.raw();
    let messages = raw.iter().filter(|raw| raw.starts_with("<message"));
    let live = messages.filter(|raw| !raw.contains(MAM) || !raw.contains("<result"));
    live.filter_map(|raw| {
        let (_, rest) = raw.split_once("<body>")?;
        rest.split_once("</body>")?.0.parse().ok()
    })
    .collect()
}

/// The messages that the server has accepted for this account (XEP-0313), delivered or not.
async fn archived(client: &Client) -> BTreeSet<usize> {
    let query = format!(
        "<query xmlns='{MAM}'><set xmlns='http://jabber.org/protocol/rsm'><max>1000</max></set>\
         </query>"
    );
    let answer = client.iq(None, "set", &query).await;
    let fin = child(&answer, "fin").unwrap_or_else(|| panic!("no archive: {answer:?}"));
    assert_eq!(fin.attr("complete"), Some("true"), "{fin:?}");
    let pending = client.inbox().pending();
    let results = pending.iter().filter_map(|stanza| child(stanza, "result"));
    let messages = results
        .filter_map(|result| child(result, "forwarded"))
        .filter_map(|forwarded| child(forwarded, "message"));
    messages
        .filter_map(body)
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn is_rising(numbers: impl IntoIterator<Item = usize>) -> bool {
    let numbers: Vec<usize> = numbers.into_iter().collect();
    numbers.is_sorted_by(|a, b| a < b)
}

/// The messages are in order on each of two paths: the later ones took the shorter path.
fn is_in_order_along_two_paths(numbers: &[usize]) -> bool {
    (0..=COUNT).any(|first| {
        let path = |shorter| {
            numbers
                .iter()
                .copied()
                .filter(move |n| (*n >= first) == shorter)
        };
        is_rising(path(false)) && is_rising(path(true))
    })
}

async fn moves(backend: Backend, kind: Kind, graceful: bool) {
    let mut builder = Cluster::on(backend);
    for host in ["dc1.test", "dc2.test", "dc3.test"] {
        builder = builder.datacenter(host).its_server(kind);
        if kind == Kind::Prosody {
            builder = builder
                .its_prosody(|prosody| prosody.host_options("  max_archive_query_results = 1000"));
        }
    }
    let cluster = builder.start().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let old = cluster.login("bob", "dc2.test", "b1").await;
    let at_old = old.inbox().clone();
    cluster
        .until_claimed("bob@example.test", Some("dc2.test"))
        .await;

    let send = async {
        for n in 0..BEFORE {
            alice.chat("bob@example.test", &n.to_string()).await;
        }
    };
    let go = async {
        let some = |stanza: &minidom::Element| body(stanza).as_deref() == Some("50");
        at_old.until("the middle of the flow", some).await;
        match graceful {
            true => old.close().await,
            false => old.kill().await,
        }
        cluster.login("bob", "dc3.test", "b2").await
    };
    let ((), new) = join!(send, go);
    // The old server may have accepted all messages until now; it has noticed his absence when
    // his claim has ended.
    cluster.until_claimed("bob@example.test/b1", None).await;
    for n in BEFORE..COUNT {
        alice.chat("bob@example.test", &n.to_string()).await;
    }
    let last = (COUNT - 1).to_string();
    new.expect_chat("alice@example.test", &last).await;
    for dc in cluster.datacenters() {
        dc.gateway.until_settled().await;
    }
    new.sync().await;
    alice.sync().await;

    // Messages that the old server accepted and did not deliver are in its archive.
    let back = cluster.login("bob", "dc2.test", "b3").await;
    let taken = archived(&back).await;
    let (before, after, late) = (heard(&at_old), heard(new.inbox()), heard(back.inbox()));
    let story = format!("before {before:?}\nafter {after:?}\nlate {late:?}\ntaken {taken:?}");
    assert!(
        before.len() > 50 && after.len() >= COUNT - BEFORE,
        "{story}"
    );
    assert!(is_rising(before.iter().copied()), "{story}");
    assert!(is_in_order_along_two_paths(&after), "{story}");
    assert!(is_rising(late.iter().copied()), "{story}");
    let set = |numbers: &[usize]| numbers.iter().copied().collect::<BTreeSet<_>>();
    let (before, after, late) = (set(&before), set(&after), set(&late));
    // No message is lost, none is duplicated.
    let all: BTreeSet<_> = after.union(&taken).copied().collect();
    assert_eq!(all, (0..COUNT).collect(), "{story}");
    assert!(
        before.is_subset(&taken) && late.is_subset(&taken),
        "{story}"
    );
    assert!(
        before.is_disjoint(&after) && before.is_disjoint(&late),
        "{story}"
    );
    // He may have been online at both hosts for a moment: then both received a copy.
    let copied = &cluster.dc("dc1.test").gateway;
    let copied = copied.metric("strait_stanzas_copied_total", &[]).await;
    let both = after.intersection(&taken).count();
    assert!(both as f64 <= copied, "{both} of {copied} copies\n{story}");

    let errors = alice.inbox().pending();
    let errors = errors.iter().find(|s| s.attr("type") == Some("error"));
    assert!(errors.is_none(), "{errors:?}");
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_numbered_flow_survives_a_graceful_move(backend: Backend) {
    moves(backend, Kind::Prosody, true).await;
}

async fn a_numbered_flow_survives_an_ungraceful_move(backend: Backend) {
    moves(backend, Kind::Prosody, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_numbered_flow_survives_moves_between_mongooseims() {
    moves(Backend::Mesh, Kind::MongooseIm, true).await;
    moves(Backend::Mesh, Kind::MongooseIm, false).await;
}

//! Queries from one datacenter to a user in another.

use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::xml::child;

crate::on_mesh!(
    disco_and_vcard_of_a_user_elsewhere,
    a_query_to_a_session_is_answered_by_its_client,
);

crate::on_pairs_with_mongooseim!(
    disco_and_vcard_of_a_user_elsewhere,
    a_query_to_a_session_is_answered_by_its_client,
);

const DISCO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";

async fn disco_and_vcard_of_a_user_elsewhere(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_friends().await;

    let info = alice.iq(Some("bob@example.test"), "get", DISCO).await;
    assert_eq!(info.attr("type"), Some("result"), "{info:?}");
    let identity = child(&info, "query")
        .and_then(|q| child(q, "identity"))
        .expect("an identity");
    assert_eq!(identity.attr("category"), Some("account"), "{info:?}");

    let vcard = "<vCard xmlns='vcard-temp'><FN>Bob</FN><JABBERID>bob@dc2.test</JABBERID></vCard>";
    let stored = bob.iq(None, "set", vcard).await;
    assert_eq!(stored.attr("type"), Some("result"), "{stored:?}");
    let got = alice
        .iq(
            Some("bob@example.test"),
            "get",
            "<vCard xmlns='vcard-temp'/>",
        )
        .await;
    let got = child(&got, "vCard").unwrap_or_else(|| panic!("{got:?}"));
    assert_eq!(child(got, "FN").map(|n| n.text()).as_deref(), Some("Bob"));
    assert_eq!(
        child(got, "JABBERID").map(|n| n.text()).as_deref(),
        Some("bob@example.test")
    );

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_query_to_a_session_is_answered_by_its_client(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_friends().await;

    let (answer, ()) = tokio::join!(
        alice.iq(Some("bob@example.test/b1"), "get", DISCO),
        answer_disco(&bob)
    );
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    assert_eq!(answer.attr("from"), Some("bob@example.test/b1"));

    let gone = alice.iq(Some("bob@example.test/gone"), "get", DISCO).await;
    assert_eq!(gone.attr("type"), Some("error"), "{gone:?}");
    let error = child(&gone, "error").expect("an error");
    assert!(child(error, "service-unavailable").is_some(), "{gone:?}");

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn answer_disco(client: &Client) {
    let query = client
        .until("a disco query", |s| {
            s.name() == "iq" && s.attr("type") == Some("get")
        })
        .await;
    let (from, id) = (
        query.attr("from").expect("from"),
        query.attr("id").expect("id"),
    );
    client
        .send(&format!(
            "<iq type='result' to='{from}' id='{id}'>\
             <query xmlns='http://jabber.org/protocol/disco#info'>\
             <identity category='client' type='pc' name='test'/></query></iq>"
        ))
        .await;
}

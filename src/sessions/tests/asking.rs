//! Tests of look-ups: counts, learned origins and probes to the server.

use super::*;

#[tokio::test(start_paused = true)]
async fn look_ups_are_counted() {
    let world = World::new().await;
    world.claim_at_dc2(PHONE, 1).await;
    for _ in 0..3 {
        assert_eq!(world.locate(PHONE).await, found(&["dc2.test"], &[], None));
    }
    world.cluster.set_available(false);
    assert_eq!(world.locate(PHONE).await, found(&[], &[], None));
    assert_eq!(world.metrics.mapping_fetches.get(), 4);
    assert_eq!(world.metrics.mapping_fetch_time.get_sample_count(), 4);
    assert_eq!(world.metrics.mapping_cache_misses.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_table_counts_more_than_what_an_envelope_taught() {
    let world = World::new().await;
    world.claim_at_dc2(PHONE, 1).await;
    world.claim_at_dc2(ALICE, 1).await;
    world
        .sessions
        .learn(&jid(PHONE), &host("dc3.test"), |_| true);
    let in_dc2 = found(&["dc2.test"], &[], None);
    assert_eq!(world.locate(PHONE).await, in_dc2);

    // The session is withdrawn at dc2, and not claimed yet at dc3.
    world.dc2.withdraw(&[PHONE.to_owned()]).await.unwrap();
    assert_eq!(world.locate(PHONE).await.full, [host("dc3.test")]);
    assert_eq!(world.locate(ALICE).await.bare, [host("dc2.test")]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_origin_or_one_that_owns_no_unique_name_teaches_nothing() {
    let world = World::new().await;
    world.locate(PHONE).await;
    let dc3 = host("dc3.test");
    world.sessions.learn(&jid(PHONE), &dc3, |_| false);
    assert!(world.locate(PHONE).await.full.is_empty());

    let world = World::with(config::Accounts::Unique).await;
    world.dc2.settle(&[ALICE.to_owned()]).await.unwrap();
    world.locate(PHONE).await;
    world.sessions.learn(&jid(PHONE), &dc3, |_| true);
    assert!(world.locate(PHONE).await.full.is_empty());
    let dc2 = host("dc2.test");
    world.sessions.learn(&jid(PHONE), &dc2, |_| true);
    assert_eq!(world.locate(PHONE).await.full, [dc2]);
}

#[tokio::test(start_paused = true)]
async fn what_an_envelope_taught_outlives_a_new_question() {
    let world = World::new().await;
    world.locate(PHONE).await;
    world
        .sessions
        .learn(&jid(PHONE), &host("dc3.test"), |_| true);
    world.sessions.ask_anew(&jid(PHONE), Duration::ZERO);
    assert_eq!(world.locate(PHONE).await.full, [host("dc3.test")]);
    assert_eq!(world.locate(ALICE).await.bare, [host("dc3.test")]);
}

#[tokio::test(start_paused = true)]
async fn senders_are_learned_for_a_short_time_unless_they_are_known() {
    let world = World::new().await;
    let dc3 = host("dc3.test");
    world.claim_at_dc2("bob@example.test/x", 1).await;
    for sender in [PHONE, "bob@example.test/x", "carol@example.test/x"] {
        world.locate(sender).await;
    }
    world.presence(None, "carol@example.test/x");
    for sender in [PHONE, "bob@example.test/x", "carol@example.test/x"] {
        world.sessions.learn(&jid(sender), &dc3, |_| true);
    }
    let learned = Locations {
        full: vec![dc3.clone()],
        ..Locations::default()
    };
    assert_eq!(world.locate(PHONE).await, learned);
    assert_eq!(world.locate(ALICE).await.bare, learned.full);
    assert_eq!(
        world.locate("bob@example.test/x").await.full,
        [host("dc2.test")]
    );
    assert_eq!(
        world.locate("carol@example.test/x").await.full,
        [host("dc1.test")]
    );
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.locate(PHONE).await, found(&[], &[], None));

    // While the store is unreachable, the last origin seen counts.
    world.cluster.set_available(false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.locate(PHONE).await.full, [dc3]);
}

#[tokio::test(start_paused = true)]
async fn a_home_elsewhere_is_that_of_the_last_claim() {
    let world = World::new().await;
    assert!(!world.sessions.has_home_elsewhere(&jid(PHONE)));
    world.claim_at_dc2(ALICE, 1).await;
    world.dc2.withdraw(&[ALICE.to_owned()]).await.unwrap();
    assert!(world.sessions.has_home_elsewhere(&jid(PHONE)));
    world.presence(None, PHONE);
    world.until(|| world.plain(ALICE).is_some()).await;
    world.presence(Some("unavailable"), PHONE);
    world.until(|| world.plain(ALICE).is_none()).await;
    assert!(!world.sessions.has_home_elsewhere(&jid(PHONE)));
}

#[tokio::test(start_paused = true)]
async fn who_shows_by_traffic_is_asked_for_once() {
    let world = World::new().await;
    let seen = |kind, from: &str| {
        let (from, to) = (jid(from), jid(BOB));
        let stanza = Stanza::new(kind, None, None, Some(from), Some(to), &[]);
        world.sessions.observe(&stanza)
    };
    let probe = seen(Kind::Message, PHONE).expect("a probe");
    assert_eq!(probe.from(), Some(&jid("example.test")));
    assert_eq!(probe.to(), Some(&jid(ALICE)));
    assert!(seen(Kind::Message, PHONE).is_none());
    assert!(seen(Kind::Presence, "carol@example.test/x").is_none());
    assert!(seen(Kind::Message, "carol@example.test/x").is_none());

    let missing = |text: &str| world.sessions.missing(&jid(text)).is_some();
    assert!(!missing("carol@example.test"));
    assert!(missing("dave@example.test/x"));
    assert!(!missing("dave@example.test"), "just now");
}

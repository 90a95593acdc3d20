//! Look-ups: what is cached, asked anew, learned.

use super::*;

const MOMENT: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn look_ups_are_cached_and_counted_and_can_be_forgotten() {
    let world = World::new().await;
    world.claim_at_dc2(PHONE, 1).await;
    for _ in 0..3 {
        assert_eq!(world.locate(PHONE).await, found(&["dc2.test"], &[], None));
    }
    assert_eq!(world.metrics.mapping_fetches.get(), 3);
    assert_eq!(world.metrics.mapping_cache_misses.get(), 1);
    assert_eq!(world.metrics.mapping_fetch_time.get_sample_count(), 3);

    world.dc2.withdraw(&[PHONE.to_owned()]).await.unwrap();
    assert_eq!(world.locate(PHONE).await, found(&["dc2.test"], &[], None));
    world.sessions.ask_anew(&jid(PHONE), Duration::ZERO);
    assert_eq!(world.locate(PHONE).await, found(&[], &[], None));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_anew_counts_until_there_is_an_answer() {
    let world = World::new().await;
    world.claim_at_dc2(PHONE, 1).await;
    assert_eq!(world.locate(PHONE).await.full, [host("dc2.test")]);
    world.cluster.set_available(false);
    world.sessions.ask_anew(&jid(PHONE), Duration::ZERO);
    assert_eq!(world.locate(PHONE).await.full, [host("dc2.test")]);
    assert_eq!(world.errors("claims"), 1, "the store was asked");
}

#[tokio::test(start_paused = true)]
async fn many_reasons_to_ask_anew_cost_few_questions() {
    let world = World::new().await;
    for _ in 0..100 {
        world.sessions.ask_anew(&jid(ALICE), MOMENT);
        world.locate(ALICE).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // At 0, 50 and perhaps 100 ms.
    let asked = world.metrics.mapping_cache_misses.get();
    assert!((2..=3).contains(&asked), "{asked} times");
    world.claim_at_dc2(ALICE, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.sessions.ask_anew(&jid(ALICE), MOMENT);
    assert_eq!(world.locate(ALICE).await.bare, [host("dc2.test")]);
}

#[tokio::test(start_paused = true)]
async fn what_an_envelope_taught_outlives_a_new_question() {
    let world = World::new().await;
    world.locate(PHONE).await;
    world.sessions.learn(&jid(PHONE), &host("dc3.test"));
    world.sessions.ask_anew(&jid(PHONE), Duration::ZERO);
    assert_eq!(world.locate(PHONE).await.full, [host("dc3.test")]);
    assert_eq!(world.locate(ALICE).await.bare, [host("dc3.test")]);
}

#[tokio::test(start_paused = true)]
async fn an_envelope_from_elsewhere_makes_the_table_be_asked_anew() {
    let world = World::new().await;
    let dc3 = world.cluster.store(host("dc3.test"), "gw1");
    announce(&dc3).await;
    world.claim_at_dc2(PHONE, 1).await;
    world.claim_at_dc2(ALICE, 1).await;
    let in_dc2 = found(&["dc2.test"], &[], None);
    assert_eq!(world.locate(PHONE).await, in_dc2);
    tokio::time::sleep(Duration::from_millis(50)).await;

    // It says the same again: then that counts, it is newer than the envelope.
    world.sessions.learn(&jid(PHONE), &host("dc3.test"));
    assert_eq!(world.locate(PHONE).await, in_dc2);
    tokio::time::sleep(Duration::from_millis(50)).await;

    let claim = |jid: &str| OwnClaim {
        jid: jid.to_owned(),
        since: 2,
        fresh: true,
    };
    dc3.claim(&[claim(PHONE), claim(ALICE)]).await.unwrap();
    world.dc2.withdraw(&[PHONE.to_owned()]).await.unwrap();
    assert_eq!(world.locate(PHONE).await, in_dc2, "it is cached");
    world.sessions.learn(&jid(PHONE), &host("dc3.test"));
    assert_eq!(world.locate(PHONE).await, found(&["dc3.test"], &[], None));
    let both = found(&[], &["dc3.test", "dc2.test"], None);
    assert_eq!(world.locate(ALICE).await, both);

    // Withdrawn at one, and not claimed yet at the other.
    world.sessions.learn(&jid(PHONE), &host("dc4.test"));
    dc3.withdraw(&[PHONE.to_owned()]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.sessions.learn(&jid(PHONE), &host("dc4.test"));
    assert_eq!(world.locate(PHONE).await.full, [host("dc4.test")]);
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
        world.sessions.learn(&jid(sender), &dc3);
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

    // Without the store, the last that was seen is better than nothing.
    world.cluster.set_available(false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.locate(PHONE).await.full, [dc3]);
}

#[tokio::test(start_paused = true)]
async fn a_home_elsewhere_is_known_once_it_was_looked_up() {
    let world = World::new().await;
    world.claim_at_dc2(ALICE, 1).await;
    world.dc2.withdraw(&[ALICE.to_owned()]).await.unwrap();
    assert!(!world.sessions.has_home_elsewhere(&jid(PHONE)));
    world.locate(PHONE).await;
    assert!(world.sessions.has_home_elsewhere(&jid(PHONE)));
    world.presence(None, PHONE);
    world.until(|| world.plain(ALICE).is_some()).await;
    world.presence(Some("unavailable"), PHONE);
    world.until(|| world.plain(ALICE).is_none()).await;
    world.locate(PHONE).await;
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

#[tokio::test(start_paused = true)]
async fn the_same_look_up_is_asked_for_once() {
    let world = World::new().await;
    world.claim_at_dc2(ALICE, 1).await;
    let alice = jid(ALICE);
    let look_ups = (0..10).map(|_| world.sessions.locate(&alice));
    world.cluster.hang();
    let started = tokio::time::Instant::now();
    futures::future::join_all(look_ups).await;
    assert_eq!(started.elapsed(), Duration::from_millis(500));

    // It is still being asked: nobody waits for it again so soon.
    let started = tokio::time::Instant::now();
    world.locate(ALICE).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn old_answers_count_when_the_store_fails_or_hangs() {
    let world = World::new().await;
    world.claim_at_dc2(PHONE, 1).await;
    assert_eq!(world.locate(PHONE).await.full, [host("dc2.test")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.cluster.set_available(false);
    assert_eq!(world.locate(PHONE).await.full, [host("dc2.test")]);
    assert_eq!(world.errors("claims"), 1);
    world.cluster.hang();
    assert_eq!(world.locate(PHONE).await.full, [host("dc2.test")]);

    // Nothing is asked in vain for ever: when the store answers again, so do we.
    world.cluster.set_available(true);
    world.dc2.withdraw(&[PHONE.to_owned()]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.locate(PHONE).await, found(&[], &[], None));
}

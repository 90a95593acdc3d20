use super::*;

const GLOBAL: &str = "example.test";
const LOCAL: &str = "dc1.test";

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().copied().map(host).collect()
}

/// One input and the expected decision; built from the usual case.
struct Row {
    name: &'static str,
    recipient: &'static str,
    kind: Kind,
    stanza_type: Option<&'static str>,
    arrival: Arrival,
    origin: &'static str,
    copy_for: Option<&'static str>,
    ttl: u32,
    retries: u32,
    full: &'static [&'static str],
    bare: &'static [&'static str],
    home: Option<&'static str>,
    here: bool,
    service: ServiceHost,
    bounce_enabled: bool,
    intake: fn() -> IntakeOutcome,
    change: fn(&mut RoutingFacts),
    want: Want,
}

/// A [`Decision`] that can be compared and written in one line.
#[derive(Debug, Clone, PartialEq)]
enum Want {
    Answer,
    Reinject(ReinjectReason),
    To(&'static str),
    /// Several peers, and whether a copy is reinjected here.
    Each(&'static [&'static str], bool),
    Bounce,
    Refuse(Reason),
    AnswerForAccount,
    ReinjectToBare(ReinjectReason),
    HoldForRoute,
    Absorb(Absorbed),
}
use Want::*;

/// A chat message from here to a user of the shared domain.
fn row(name: &'static str, recipient: &'static str, want: Want) -> Row {
    Row {
        name,
        recipient,
        kind: Kind::Message,
        stanza_type: Some("chat"),
        arrival: Arrival::Component,
        origin: LOCAL,
        copy_for: None,
        ttl: 4,
        retries: 0,
        full: &[],
        bare: &[],
        home: None,
        here: false,
        service: ServiceHost::NotAService,
        bounce_enabled: true,
        intake: IntakeOutcome::default,
        change: |_| {},
        want,
    }
}

impl Row {
    fn full(mut self, hosts: &'static [&'static str]) -> Self {
        self.full = hosts;
        self
    }
    fn bare(mut self, hosts: &'static [&'static str]) -> Self {
        self.bare = hosts;
        self
    }
    fn home(mut self, host: &'static str) -> Self {
        self.home = Some(host);
        self
    }
    fn here(mut self) -> Self {
        self.here = true;
        self
    }
    fn ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }
    fn tried(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }
    fn no_bounce(mut self) -> Self {
        self.bounce_enabled = false;
        self
    }
    fn kind(mut self, kind: Kind, stanza_type: Option<&'static str>) -> Self {
        self.kind = kind;
        self.stanza_type = stanza_type;
        self
    }
    fn iq(self) -> Self {
        self.kind(Kind::Iq, Some("get"))
    }
    fn link(mut self, peer: &'static str) -> Self {
        self.arrival = Arrival::Link(host(peer));
        self.origin = peer;
        self
    }
    fn own(mut self, origin: &'static str) -> Self {
        self.arrival = Arrival::Own;
        self.origin = origin;
        self
    }
    fn copy_for(mut self, host: &'static str) -> Self {
        self.copy_for = Some(host);
        self
    }
    fn service(mut self, service: ServiceHost) -> Self {
        self.service = service;
        self
    }

    fn intake(mut self, intake: fn() -> IntakeOutcome) -> Self {
        self.intake = intake;
        self
    }
    fn facts(mut self, change: fn(&mut RoutingFacts)) -> Self {
        self.change = change;
        self
    }

    fn decide(&self) -> Decision {
        let rules = RoutingRules {
            global: host(GLOBAL),
            local: host(LOCAL),
            bounce_enabled: self.bounce_enabled,
            max_retries: 4,
            message_ttl: 4,
        };
        let jid = |text: &str| Jid::new(text).ok();
        let (from, to) = (jid("bob@example.test/desk"), jid(self.recipient));
        let stanza = Stanza::new(self.kind, self.stanza_type, None, from, to, &[]);
        let arrival = self.arrival.clone();
        let mut envelope = Envelope::new(host(self.origin), arrival, self.ttl, stanza);
        envelope.copy_for = self.copy_for.map(host);
        for _ in 0..self.retries {
            envelope.count_retry(&rules.local);
        }
        let mut facts = RoutingFacts {
            intake: (self.intake)(),
            locations: Locations {
                full: hosts(self.full),
                bare: hosts(self.bare),
                home: self.home.map(host),
            },
            here: self.here,
            service: self.service.clone(),
            ..RoutingFacts::default()
        };
        (self.change)(&mut facts);
        decide(&envelope, &facts, &rules)
    }

    fn matches(&self, decision: &Decision) -> bool {
        match (decision, &self.want) {
            (Decision::Answer, Answer)
            | (Decision::AnswerForAccount, AnswerForAccount)
            | (Decision::HoldForRoute, HoldForRoute)
            | (Decision::Bounce, Bounce) => true,
            (Decision::Reinject { reason, to_bare }, Reinject(want)) => reason == want && !to_bare,
            (Decision::Reinject { reason, to_bare }, ReinjectToBare(want)) => {
                reason == want && *to_bare
            }
            (Decision::Forward(to), To(want)) => *to == host(want),
            (Decision::FanOut(to), Each(want, want_here)) => {
                let here = want_here.then_some(LOCAL).into_iter();
                *to == here
                    .chain(want.iter().copied())
                    .map(host)
                    .collect::<Vec<_>>()
            }
            (Decision::Absorb(what), Absorb(want)) => what == want,
            (Decision::Refuse(refusal), Refuse(want)) => refusal.reason == *want,
            _ => false,
        }
    }
}

fn check(rows: Vec<Row>) {
    for row in rows {
        let decision = row.decide();
        assert!(
            row.matches(&decision),
            "{}: wanted {:?}, decided {decision:?}",
            row.name,
            row.want
        );
        if let Decision::Refuse(refusal) = decision {
            assert!(
                !refusal.text.contains(LOCAL),
                "{}: tells a local host: {}",
                row.name,
                refusal.text
            );
        }
    }
}

const ALICE: &str = "alice@example.test";
const PHONE: &str = "alice@example.test/phone";

#[test]
fn the_shared_domain_itself_is_answered() {
    let presence = |r: Row| r.kind(Kind::Presence, None);
    check(vec![
        row("iq to the domain", GLOBAL, Answer).iq(),
        row("iq to a resource of it", "example.test/x", Answer).iq(),
        presence(row("presence", GLOBAL, Answer)),
        row("over a link", GLOBAL, Answer).link("dc2.test"),
        row("even at ttl 0", GLOBAL, Answer).ttl(0),
        row(
            "our answer to our own server",
            GLOBAL,
            Reinject(ReinjectReason::Routed),
        )
        .own(LOCAL),
        row("an answer to a peer's server", GLOBAL, Answer).own("dc2.test"),
    ]);
}

#[test]
fn a_service_is_where_the_registry_says() {
    let at = |h| ServiceHost::HostedAt(host(h));
    let room = "room@muc.example.test/nick";
    check(vec![
        row("ours", room, Reinject(ReinjectReason::Routed)).service(at(LOCAL)),
        row("ours at ttl 0", room, Reinject(ReinjectReason::Routed))
            .service(at(LOCAL))
            .ttl(0),
        row("a peer's", room, To("dc2.test")).service(at("dc2.test")),
        row("the domain alone", "muc.example.test", To("dc2.test"))
            .service(at("dc2.test"))
            .iq(),
        row("nobody's", room, Refuse(Reason::Unavailable)).service(ServiceHost::Unhosted),
        row("moved on", room, To("dc3.test"))
            .service(at("dc3.test"))
            .link("dc2.test"),
        row("a loop", room, Refuse(Reason::Loop))
            .service(at("dc2.test"))
            .ttl(0),
    ]);
}

#[test]
fn a_session_is_where_its_newest_claim_is() {
    check(vec![
        row("at a peer", PHONE, To("dc2.test"))
            .full(&["dc2.test"])
            .bare(&["dc2.test"]),
        row("here", PHONE, Reinject(ReinjectReason::Routed))
            .full(&[LOCAL])
            .here(),
        row("moved", PHONE, To("dc3.test")).full(&["dc3.test", LOCAL]),
        row("moved here", PHONE, Reinject(ReinjectReason::Routed)).full(&[LOCAL, "dc3.test"]),
        row("its other sessions don't matter", PHONE, To("dc3.test"))
            .full(&["dc3.test"])
            .bare(&[LOCAL, "dc2.test"]),
        row(
            "the tracker knows before the table",
            PHONE,
            Reinject(ReinjectReason::Routed),
        )
        .bare(&["dc2.test"])
        .here(),
        row("an iq goes to the session too", PHONE, To("dc3.test"))
            .full(&["dc3.test", "dc2.test"])
            .iq(),
    ]);
}

#[test]
fn a_gone_session_is_like_the_bare_jid() {
    let both: &[&str] = &["dc3.test", "dc2.test"];
    check(vec![
        row("one host", PHONE, To("dc2.test")).bare(&["dc2.test"]),
        row("chat", PHONE, Each(both, false)).bare(both),
        row("normal", PHONE, Each(both, false))
            .bare(both)
            .kind(Kind::Message, None),
        row("one error is enough for a room", PHONE, To("dc3.test"))
            .bare(both)
            .kind(Kind::Message, Some("groupchat")),
        row("an error", PHONE, To("dc3.test"))
            .bare(both)
            .kind(Kind::Message, Some("error")),
        row("an iq", PHONE, To("dc2.test")).bare(both).iq(),
        row("presence", PHONE, Each(both, false))
            .bare(both)
            .kind(Kind::Presence, Some("unavailable")),
    ]);
}

#[test]
fn a_user_of_several_hosts_gets_messages_at_each_and_iqs_at_one() {
    let away: &[&str] = &["dc3.test", "dc2.test"];
    check(vec![
        row("one host", ALICE, To("dc2.test")).bare(&["dc2.test"]),
        row("only here", ALICE, Reinject(ReinjectReason::Routed)).bare(&[LOCAL]),
        row("message", ALICE, Each(away, false)).bare(away),
        row("here too", ALICE, Each(&["dc2.test"], true)).bare(&["dc2.test", LOCAL]),
        row("here, says the tracker", ALICE, Each(&["dc2.test"], true))
            .bare(&["dc2.test"])
            .here(),
        row("our own message", ALICE, Each(away, false))
            .bare(away)
            .own(LOCAL),
        row("presence", ALICE, Each(away, false))
            .bare(away)
            .kind(Kind::Presence, Some("subscribe")),
        row("an error message", ALICE, Each(away, false))
            .bare(away)
            .kind(Kind::Message, Some("error")),
        row("iq", ALICE, To("dc2.test")).bare(away).iq(),
        row("iq, the other order", ALICE, To("dc2.test"))
            .bare(&["dc2.test", "dc3.test"])
            .iq(),
        row(
            "iq, one host is us",
            ALICE,
            Reinject(ReinjectReason::Routed),
        )
        .bare(&["dc2.test", LOCAL])
        .kind(Kind::Iq, Some("set")),
        row("iq result: whichever asked", ALICE, Each(away, false))
            .bare(away)
            .kind(Kind::Iq, Some("result")),
        row("ttl 0", ALICE, Reinject(ReinjectReason::TtlZero))
            .bare(away)
            .ttl(0),
    ]);
}

#[test]
fn a_copy_is_never_copied_again() {
    let both: &[&str] = &["dc3.test", "dc2.test"];
    check(vec![
        row("still there", ALICE, To("dc2.test"))
            .bare(both)
            .copy_for("dc2.test"),
        row("still here", ALICE, Reinject(ReinjectReason::Routed))
            .bare(&["dc2.test", LOCAL])
            .copy_for(LOCAL),
        row("gone from there", ALICE, To("dc3.test"))
            .bare(both)
            .copy_for("dc4.test"),
        row("gone everywhere", ALICE, Bounce).copy_for("dc2.test"),
    ]);
}

#[test]
fn what_came_over_a_link_is_for_us_or_goes_on_to_one() {
    check(vec![
        row("tracker has it", ALICE, Reinject(ReinjectReason::Routed))
            .bare(&["dc3.test"])
            .here()
            .link("dc2.test"),
        row("table lists us", ALICE, Reinject(ReinjectReason::Routed))
            .bare(&["dc3.test", LOCAL])
            .link("dc2.test"),
        row("moved on", ALICE, To("dc3.test"))
            .bare(&["dc3.test"])
            .link("dc2.test"),
        row("never to several again", ALICE, To("dc4.test"))
            .bare(&["dc4.test", "dc3.test"])
            .link("dc2.test"),
        row("rather not back", ALICE, To("dc3.test"))
            .bare(&["dc2.test", "dc3.test"])
            .link("dc2.test"),
        row("back if nobody else has it", ALICE, To("dc2.test"))
            .bare(&["dc2.test"])
            .link("dc2.test"),
        row("session moved on", PHONE, To("dc3.test"))
            .full(&["dc3.test"])
            .bare(&["dc3.test", LOCAL])
            .link("dc2.test"),
        row("iq by name", ALICE, To("dc3.test"))
            .bare(&["dc4.test", "dc3.test"])
            .iq()
            .link("dc2.test"),
        row("stays at ttl 0", ALICE, Reinject(ReinjectReason::TtlZero))
            .bare(&["dc3.test"])
            .link("dc2.test")
            .ttl(0),
        row("here at ttl 0", ALICE, Reinject(ReinjectReason::Routed))
            .here()
            .link("dc2.test")
            .ttl(0),
        row("nobody has it", ALICE, Bounce).link("dc2.test"),
    ]);
}

#[test]
fn nobody_known_bounces_then_goes_home() {
    check(vec![
        row("first", ALICE, Bounce).home("dc2.test"),
        row("last bounce", PHONE, Bounce).tried(3),
        row("home", ALICE, To("dc2.test")).home("dc2.test").tried(4),
        row("home here", ALICE, Reinject(ReinjectReason::LastResort))
            .home(LOCAL)
            .tried(4),
        row("no home", PHONE, Reinject(ReinjectReason::LastResort)).tried(4),
        row("home, but ttl 0", ALICE, Reinject(ReinjectReason::TtlZero))
            .home("dc2.test")
            .tried(4)
            .ttl(0),
        row("bounce disabled", ALICE, To("dc2.test"))
            .home("dc2.test")
            .no_bounce(),
        row(
            "disabled, no home",
            ALICE,
            Reinject(ReinjectReason::LastResort),
        )
        .no_bounce(),
        row("home when it came from there", ALICE, To("dc2.test"))
            .home("dc2.test")
            .tried(4)
            .link("dc2.test"),
        row("found meanwhile", ALICE, To("dc3.test"))
            .bare(&["dc3.test"])
            .home("dc2.test")
            .tried(2),
    ]);
}

#[test]
fn a_peer_that_asks_for_presence_is_answered_at_once() {
    let probe = |name, want| row(name, ALICE, want).kind(Kind::Presence, Some("probe"));
    let at_once = Reinject(ReinjectReason::LastResort);
    check(vec![
        probe("no home", at_once.clone()).link("dc2.test"),
        probe("home here", at_once).home(LOCAL).link("dc2.test"),
        probe("home elsewhere", Bounce)
            .home("dc3.test")
            .link("dc2.test"),
        probe("of our server", Bounce).home(LOCAL),
        probe("found", To("dc3.test"))
            .bare(&["dc3.test"])
            .link("dc2.test"),
    ]);
}

#[test]
fn presence_that_was_made_for_us_goes_no_further() {
    let copy = |stanza_type, want| Row {
        copy_for: Some(LOCAL),
        ..row("a copy", ALICE, want)
            .kind(Kind::Presence, stanza_type)
            .bare(&["dc3.test"])
            .link("dc2.test")
    };
    check(vec![
        copy(None, Reinject(ReinjectReason::Routed)),
        copy(Some("unavailable"), Reinject(ReinjectReason::Routed)),
        copy(Some("probe"), Reinject(ReinjectReason::Routed)),
        copy(Some("subscribe"), To("dc3.test")),
    ]);
}

#[test]
fn presence_that_was_made_for_a_host_goes_there_when_it_had_to_wait() {
    let made = |arrival: Arrival, bare| Row {
        copy_for: Some("dc2.test"),
        arrival,
        ..row("held before", ALICE, To("dc2.test"))
            .kind(Kind::Presence, Some("probe"))
            .bare(bare)
    };
    check(vec![
        made(Arrival::Own, &[]),
        made(Arrival::Own, &["dc3.test"]),
        made(Arrival::Component, &[]),
        made(Arrival::Component, &["dc2.test", "dc3.test"]),
    ]);
}

#[test]
fn what_is_below_the_shared_domain_and_no_service_is_never_given_to_the_server_that_asks() {
    let room = "room@muc.example.test/nick";
    let began_here = row(
        "the answer to what began here",
        room,
        Reinject(ReinjectReason::Routed),
    );
    check(vec![
        row("of our server", room, Refuse(Reason::Unavailable)),
        row("of a peer", room, Refuse(Reason::Unavailable)).link("dc2.test"),
        Row {
            origin: LOCAL,
            ..began_here.link("dc2.test")
        },
        row("our own answer", room, Reinject(ReinjectReason::Routed)).own(LOCAL),
    ]);
}

#[test]
fn foreign_domains_are_reached_through_the_origin() {
    let joe = "joe@elsewhere.test/x";
    check(vec![
        row("from our server", joe, Reinject(ReinjectReason::Routed)),
        row(
            "our answer, its exchange began here",
            joe,
            Reinject(ReinjectReason::Routed),
        )
        .own(LOCAL),
        row("our answer, it began at a peer", joe, To("dc2.test")).own("dc2.test"),
        row("over a link", joe, Reinject(ReinjectReason::Routed)).link("dc2.test"),
        row("at ttl 0", joe, Reinject(ReinjectReason::TtlZero))
            .own("dc2.test")
            .ttl(0),
    ]);
}

#[test]
fn local_addresses_are_not_for_others() {
    check(vec![
        row("an account", "alice@dc1.test", Refuse(Reason::BadAddress)).link("dc2.test"),
        row("the server", "dc1.test", Refuse(Reason::BadAddress))
            .link("dc2.test")
            .iq(),
    ]);
}

#[test]
fn addresses_are_compared_normalised() {
    check(vec![
        row("upper case", "Alice@EXAMPLE.test/phone", To("dc2.test")).full(&["dc2.test"]),
        row("the domain", "Example.Test.", Answer).iq(),
    ]);
}

#[test]
fn the_intake_can_end_a_stanza() {
    let absorbed = |name, what| row(name, ALICE, Absorb(what)).bare(&["dc2.test"]);
    check(vec![
        row("a forged sender", ALICE, Refuse(Reason::ForeignSender))
            .bare(&["dc2.test"])
            .intake(|| IntakeOutcome::Refused(Refusal::new(Reason::ForeignSender, "no"))),
        absorbed("an error about a copy", Absorbed::Error)
            .intake(|| IntakeOutcome::Absorbed(Absorbed::Error)),
        absorbed("an answer to our probe", Absorbed::Presence)
            .intake(|| IntakeOutcome::Absorbed(Absorbed::Presence)),
        row("no recipient", "@", Refuse(Reason::BadAddress)),
        row(
            "an address of the server",
            "alice@dc1.test",
            Refuse(Reason::BadAddress),
        ),
    ]);
}

#[test]
fn an_account_of_another_datacenter_may_not_write() {
    let sender = |name, want| row(name, ALICE, want).bare(&["dc2.test"]);
    check(vec![
        sender("ours", To("dc2.test")).facts(|it| it.sender_owner = Owner::Ours),
        sender("theirs", Refuse(Reason::ForeignAccount))
            .facts(|it| it.sender_owner = Owner::Theirs),
        sender("unknown", Refuse(Reason::Timeout)).facts(|it| it.sender_owner = Owner::Unknown),
        row(
            "the reply is for the local account",
            ALICE,
            Reinject(ReinjectReason::Routed),
        )
        .bare(&["dc2.test"])
        .kind(Kind::Message, Some("error"))
        .own(LOCAL)
        .copy_for(LOCAL),
    ]);
}

#[test]
fn an_answer_to_a_probe_also_goes_to_the_host_that_waits_for_it() {
    let presence = |name, want| {
        row(name, ALICE, want)
            .kind(Kind::Presence, None)
            .facts(|it| it.wanted_at = Some(host("dc3.test")))
    };
    check(vec![
        presence("nobody known", Each(&["dc3.test"], false)),
        presence("at last", Each(&["dc3.test"], false)).tried(4),
        presence("at that host", Each(&["dc3.test"], false)).bare(&["dc3.test"]),
        presence("at another", Each(&["dc2.test", "dc3.test"], false)).bare(&["dc2.test"]),
        presence("here", Each(&["dc3.test"], true)).here(),
        presence("at several", Each(&["dc2.test", "dc3.test"], true))
            .here()
            .bare(&["dc2.test"]),
        presence("ttl 0", Reinject(ReinjectReason::TtlZero))
            .bare(&["dc2.test"])
            .ttl(0),
        row("to the domain", GLOBAL, Answer).facts(|it| it.wanted_at = Some(host("dc3.test"))),
    ]);
}

#[test]
fn the_server_receives_only_what_it_handles() {
    let doubles = |name, recipient, want| {
        row(name, recipient, want).facts(|it| it.server_doubles_messages = true)
    };
    let (routed, last) = (ReinjectReason::Routed, ReinjectReason::LastResort);
    let disco = |it: &mut RoutingFacts| {
        it.account_reply = Some(Stanza::new(Kind::Iq, Some("result"), None, None, None, &[]));
    };
    check(vec![
        doubles("an offline session", PHONE, ReinjectToBare(routed)).bare(&[LOCAL]),
        doubles("an offline user", PHONE, ReinjectToBare(last)).tried(4),
        doubles("an online session", PHONE, Reinject(routed)).here(),
        doubles("a bare JID", ALICE, Reinject(routed)).bare(&[LOCAL]),
        doubles("an iq", PHONE, Reinject(routed))
            .bare(&[LOCAL])
            .iq(),
        doubles("a groupchat message", PHONE, Reinject(routed))
            .bare(&[LOCAL])
            .kind(Kind::Message, Some("groupchat")),
        doubles("a room", "room@muc.example.test/nick", Reinject(routed))
            .service(ServiceHost::HostedAt(host(LOCAL))),
        row("disco, here", ALICE, AnswerForAccount)
            .here()
            .iq()
            .facts(disco),
        row("disco, elsewhere", ALICE, To("dc2.test"))
            .bare(&["dc2.test"])
            .iq()
            .facts(disco),
    ]);
}

#[test]
fn each_host_receives_one_copy_and_in_order() {
    let held = |it: &mut RoutingFacts| it.copies_held_for = hosts(&[LOCAL, "dc2.test"]);
    check(vec![
        row("another copy is here", ALICE, Absorb(Absorbed::Copy))
            .here()
            .link("dc2.test")
            .facts(|it| it.has_copy_here = true),
        row(
            "another copy is here, this one goes on",
            ALICE,
            To("dc3.test"),
        )
        .bare(&["dc3.test"])
        .link("dc2.test")
        .facts(|it| it.has_copy_here = true),
        row("copies wait for us", ALICE, HoldForRoute)
            .here()
            .facts(held),
        row("copies wait for a peer", ALICE, HoldForRoute)
            .bare(&["dc2.test"])
            .facts(held),
        row("copies wait for others", ALICE, To("dc3.test"))
            .bare(&["dc3.test"])
            .facts(held),
    ]);
}

#[test]
fn nothing_bounces_while_the_gateway_stops() {
    check(vec![
        row("no home", ALICE, Reinject(ReinjectReason::LastResort)).facts(|it| it.closing = true),
        row("a home", ALICE, To("dc2.test"))
            .home("dc2.test")
            .facts(|it| it.closing = true),
    ]);
}

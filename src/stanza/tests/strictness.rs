//! Each kind of malformed stanza, and its fault. The stream continues behind all of them.

use super::*;
use crate::stanza::Reason;

/// Returns the fault of `stanza`, which must be the same on a stream and in `Stanza::parse`.
fn fault(stanza: &str) -> Fault {
    let stream = format!("{stanza}<presence id='behind'/>");
    let seen = scan(&stream);
    let [Seen::Refused(_, fault), Seen::Stanza(behind)] = &*seen else {
        panic!("{stanza} gives {seen:?}");
    };
    assert_eq!(behind, "<presence id='behind'/>");
    assert_eq!(parse(stanza).as_ref().err(), Some(fault), "{stanza}");
    fault.clone()
}

fn offsets(expected: impl Fn(usize) -> Fault, list: &[(&str, usize)]) {
    for (stanza, offset) in list {
        assert_eq!(fault(stanza), expected(*offset), "{stanza}");
    }
}

#[test]
fn what_xmpp_forbids() {
    for (stanza, what, offset) in [
        ("<iq><!-- a --></iq>", "a comment", 4),
        ("<iq><!--></iq>--></iq>", "a comment", 4),
        ("<iq>a<?b?></iq>", "a processing instruction", 5),
        (
            "<iq><?xml version='1.0'?></iq>",
            "a processing instruction",
            4,
        ),
        ("<iq><!DOCTYPE a></iq>", "a document type declaration", 4),
        ("<!-- a -->", "a comment", 0),
        ("<?xml version='1.0'?>", "a processing instruction", 0),
        ("<!DOCTYPE a SYSTEM '>'>", "a document type declaration", 0),
    ] {
        assert_eq!(
            fault(stanza),
            Fault::Restricted { what, offset },
            "{stanza}"
        );
    }
}

#[test]
fn illegal_names() {
    offsets(
        |offset| Fault::Name { offset },
        &[
            ("<iq><a:b:c xmlns:a='u'/></iq>", 5),
            ("<iq><:a/></iq>", 5),
            ("<iq><a:/></iq>", 5),
            ("<iq><a 1='2'/></iq>", 7),
            ("<iq><a ='2'/></iq>", 7),
            ("<iq><\u{1f600}/></iq>", 5),
            ("<iq a\u{d7}='1'/>", 4),
        ],
    );
    let long = "a".repeat(1025);
    assert_eq!(
        fault(&format!("<iq><{long}/></iq>")),
        Fault::Name { offset: 5 }
    );
}

#[test]
fn broken_start_tags() {
    for (stanza, expected, offset) in [
        ("<iq a='1'b='2'/>", "white space or >", 9),
        ("<iq!a='1'/>", "white space or >", 3),
        ("<iq a/>", "=", 5),
        ("<iq a b='1'/>", "=", 6),
        ("<iq a=1/>", "a quoted value", 6),
        ("<iq a=/>", "a quoted value", 6),
        ("<iq a= b='1'/>", "a quoted value", 7),
    ] {
        assert_eq!(fault(stanza), Fault::Tag { expected, offset }, "{stanza}");
    }
}

#[test]
fn illegal_characters() {
    offsets(
        |offset| Fault::IllegalChar { offset },
        &[
            ("<iq>\0</iq>", 4),
            ("<iq>a\u{1b}</iq>", 5),
            ("<iq a='\u{8}'/>", 7),
            ("<iq>\u{ffff}</iq>", 4),
            ("<iq><![CDATA[\u{fffe}]]></iq>", 13),
        ],
    );
    for (bytes, offset) in [
        (&b"<iq>a\xff</iq>"[..], 5),
        (b"<iq a='\xc3'/>", 7),
        (b"<iq><\xe2\x82/></iq>", 5),
        (b"<iq><![CDATA[\xf4\x90\x80\x80]]></iq>", 13),
    ] {
        let seen = scan_pieces(&Limits::default(), [bytes, b"<iq/>"]);
        let [
            Seen::Refused(_, Fault::Encoding { offset: found }),
            Seen::Stanza(_),
        ] = &*seen
        else {
            panic!("{bytes:?} gives {seen:?}");
        };
        assert_eq!(*found, offset, "{bytes:?}");
    }
}

#[test]
fn illegal_references() {
    offsets(
        |offset| Fault::Reference { offset },
        &[
            ("<iq>&</iq>", 4),
            ("<iq>a&b</iq>", 5),
            ("<iq>&nbsp;</iq>", 4),
            ("<iq>&amp</iq>", 4),
            ("<iq>&#0;</iq>", 4),
            ("<iq>]]&gt;&#8;</iq>", 10),
            ("<iq a='&'/>", 7),
            ("<iq a='&lt' b=';'/>", 7),
            ("<iq><a b='&#xffff;'/></iq>", 10),
            ("<iq xmlns:a='&'/>", 13),
        ],
    );
}

#[test]
fn the_end_of_a_cdata_section_in_text() {
    offsets(
        |offset| Fault::CdataEnd { offset },
        &[
            ("<iq>]]></iq>", 4),
            ("<iq>a]]]></iq>", 6),
            ("<iq><![CDATA[]]>]]></iq>", 16),
        ],
    );
}

#[test]
fn duplicate_attributes() {
    for (stanza, name, offset) in [
        ("<iq a='1' a='1'/>", "a", 10),
        (
            "<iq xmlns='jabber:client' xmlns='jabber:client'/>",
            "xmlns",
            26,
        ),
        ("<iq><a xml:lang='a' xml:lang='b'/></iq>", "xml:lang", 20),
        ("<iq><a xmlns:p='u' xmlns:p='u'/></iq>", "xmlns:p", 19),
        ("<iq xmlns:p='u' xmlns:q='u' p:a='' q:a=''/>", "q:a", 35),
        (
            "<iq xmlns:p='u'><a xmlns:q='&#117;' q:a='' p:a=''/></iq>",
            "p:a",
            43,
        ),
    ] {
        let name = name.into();
        assert_eq!(
            fault(stanza),
            Fault::DuplicateAttribute { name, offset },
            "{stanza}"
        );
    }
    for fine in [
        "<iq a='1' A='1'/>",
        "<iq xmlns:p='u' a='' p:a=''/>",
        "<iq xmlns:p='u' xmlns:q='v' p:a='' q:a=''/>",
    ] {
        assert!(parse(fine).is_ok(), "{fine}");
    }
}

#[test]
fn unbound_prefixes() {
    for (stanza, prefix, offset) in [
        ("<iq><p:a/></iq>", "p", 5),
        ("<iq p:a=''/>", "p", 4),
        ("<iq><a xmlns:p='u'/><p:a/></iq>", "p", 21),
        ("<iq><a xmlns:p='u'><b/></a><p:a/></iq>", "p", 28),
        ("<iq><stream:a/></iq>", "stream", 5),
        ("<iq><xml:a/></iq>", "xml", 5),
        ("<iq><xmlns:a/></iq>", "xmlns", 5),
    ] {
        let prefix = prefix.into();
        assert_eq!(
            fault(stanza),
            Fault::UnboundPrefix { prefix, offset },
            "{stanza}"
        );
    }
    for fine in [
        "<iq xmlns:p='u'><a><p:b/></a><p:c p:d='' xml:lang='x'/></iq>",
        "<iq><p:a p:b='' xmlns:p='u'/></iq>",
    ] {
        assert!(parse(fine).is_ok(), "{fine}");
    }
}

#[test]
fn illegal_declarations() {
    offsets(
        |offset| Fault::Namespace { offset },
        &[
            ("<iq xmlns:p=''/>", 4),
            ("<iq xmlns:xml='http://www.w3.org/XML/1998/namespace'/>", 4),
            ("<iq xmlns:xmlns='u'/>", 4),
            (
                "<iq><a xmlns:p='http://www.w3.org/XML/1998/namespace'/></iq>",
                7,
            ),
            ("<iq><a xmlns:p='http://www.w3.org/2000/xmlns/'/></iq>", 7),
            (
                "<iq><a xmlns='http://www.w3.org/2000&#x2f;xmlns/'/></iq>",
                7,
            ),
            ("<iq><a xmlns='a&#10;b'/></iq>", 7),
        ],
    );
    assert!(parse("<iq><p:a xmlns:p='u'><b xmlns=''/></p:a></iq>").is_ok());
}

#[test]
fn too_many_attributes_or_prefixes() {
    let attributes = |from, to| {
        (from..to)
            .map(|n| format!(" xmlns:p{n}='u'"))
            .collect::<String>()
    };
    let limit = 128;
    let fits = attributes(0, limit);
    assert!(parse(&format!("<iq{fits}/>")).is_ok());
    assert_eq!(
        fault(&format!("<iq><a{fits} b=''/></iq>")),
        Fault::TooMany {
            what: "attributes",
            limit,
            offset: 4
        }
    );
    assert_eq!(
        fault(&format!("<iq xmlns:p='u'><a{fits}/></iq>")),
        Fault::TooMany {
            what: "namespace prefixes",
            limit,
            offset: 16
        }
    );
}

#[test]
fn malformed_addresses_are_left_out_of_the_head() {
    let seen =
        scan("<message from='@@bad' to='b@c.d' id='1' type='error'><body>x</body></message>");
    let [Seen::Refused(Some(head), fault)] = &*seen else {
        panic!("{seen:?}");
    };
    assert_eq!(head, "<message to='b@c.d' id='1' type='error'/>");
    assert_eq!(fault.reason(), Reason::BadAddress);
    assert_eq!(
        fault.to_string(),
        "from='@@bad' is not a JID: second @ found before parsing the resource"
    );
    for bad in ["", "a@", "@b.c", "a b@c.d", "a@b.c/", "a@b.c/&#10;"] {
        let fault = self::fault(&format!("<iq from='x.y' to='{bad}'/>"));
        assert!(
            matches!(
                fault,
                Fault::BadAddress {
                    attribute: "to",
                    ..
                }
            ),
            "{bad}: {fault}"
        );
    }
}

#[test]
fn a_head_is_only_given_when_it_is_sound_itself() {
    for (stanza, head) in [
        (
            "<iq to='a@b.c' id='1'>&x;</iq>",
            Some("<iq to='a@b.c' id='1'/>"),
        ),
        ("<iq to='a@@b.c' id='1'>&x;</iq>", Some("<iq id='1'/>")),
        ("<iq to='a@b.c' id='&x;'/>", None),
        ("<iq to='a@b.c' id='1' id='2'/>", None),
        ("<iq to='a@b.c' p:id='1'/>", None),
        ("<iq to='a@b.c' id='\0'/>", None),
        ("<foo to='a@b.c'>&x;</foo>", None),
    ] {
        let seen = scan(stanza);
        let [Seen::Refused(found, _)] = &*seen else {
            panic!("{seen:?}");
        };
        assert_eq!(found.as_deref(), head, "{stanza}");
    }
}

#[test]
fn other_elements_are_checked_too_but_may_inherit_prefixes() {
    for fine in ["<s:error><a xmlns='u' s:b=''/></s:error>", "<s:features/>"] {
        assert_eq!(scan(fine), [Seen::Other(fine.into())]);
    }
    let seen = scan("<s:error>&x;</s:error>");
    assert_eq!(seen, [Seen::Refused(None, Fault::Reference { offset: 9 })]);
}

#[test]
fn a_whole_is_exactly_one_stanza() {
    assert_eq!(parse("<foo/>").unwrap_err(), Fault::NotAStanza);
    for (bytes, offset) in [
        ("", 0),
        ("<iq", 3),
        ("<iq>", 4),
        (" <iq/>", 6),
        ("<iq/> ", 5),
        ("<iq/><iq/>", 5),
        ("</stream:stream>", 16),
    ] {
        let what = "more or less than one element".into();
        assert_eq!(
            parse(bytes).unwrap_err(),
            Fault::Broken { what, offset },
            "{bytes}"
        );
    }
    let fault = parse("<iq></message>").unwrap_err();
    assert_eq!(fault.reason(), Reason::Malformed);
    assert_eq!(
        fault.to_string(),
        "not well-formed at byte 13 of the stanza: </message> where </iq> should be"
    );
}

#[test]
fn faults_have_the_reason_that_the_sender_is_told() {
    for (stanza, reason) in [
        ("<iq>&x;</iq>", Reason::Malformed),
        ("<iq to='@'/>", Reason::BadAddress),
        ("<iq><!----></iq>", Reason::Malformed),
    ] {
        assert_eq!(fault(stanza).reason(), reason);
    }
    let deep = format!("<iq>{}{}</iq>", "<a>".repeat(64), "</a>".repeat(64));
    assert_eq!(fault(&deep).reason(), Reason::TooLarge);
    let large = format!("<iq>{}</iq>", "a".repeat(512 * 1024));
    assert_eq!(fault(&large).reason(), Reason::TooLarge);
}

/// To unescape both namespaces for each pair of attributes would take minutes.
#[test]
fn long_namespaces_are_compared_once() {
    let attributes: String = (0..60).map(|n| format!(" p:a{n}='' q:a{n}=''")).collect();
    let elements = format!("<x{attributes}/>").repeat(150);
    let (p, q) = ("&amp;p".repeat(15_000), "&amp;q".repeat(15_000));
    let stanza = format!("<iq xmlns:p='{p}' xmlns:q='{q}'>{elements}</iq>");
    assert!(parse(&stanza).is_ok());
    let same = parse(&stanza.replace(&q, &p)).unwrap_err();
    assert!(matches!(same, Fault::DuplicateAttribute { .. }), "{same}");
}

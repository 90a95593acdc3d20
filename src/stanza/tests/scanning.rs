//! Cutting a stream, well-formed or not, into its pieces.

use super::*;

fn stanza(text: &str) -> Seen {
    Seen::Stanza(text.into())
}

fn broken(offset: u64, what: &str) -> Seen {
    let what = what.into();
    Seen::Broken(ScanError { offset, what })
}

#[test]
fn a_stream_is_cut_into_stanzas_other_elements_and_its_end() {
    let seen = scan(
        "<handshake/>\n <message to='a@b.c'><body>x</body></message><presence/> \t\
         <iq type='get' id='1'><q xmlns='u'/></iq>\
         <stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>\
         </stream:stream>",
    );
    let expected = [
        Seen::Other("<handshake/>".into()),
        stanza("<message to='a@b.c'><body>x</body></message>"),
        stanza("<presence/>"),
        stanza("<iq type='get' id='1'><q xmlns='u'/></iq>"),
        Seen::Other(
            "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
                .into(),
        ),
        Seen::End,
    ];
    assert_eq!(seen, expected);
}

#[test]
fn only_stanza_names_in_the_streams_namespace_are_stanzas() {
    for own in [
        "<message xmlns='jabber:client'/>",
        "<message xmlns=\"jabber:server\"/>",
        "<message xmlns = 'jabber:component:accept' />",
        "<message xmlns='jabber&#58;client'/>",
        "<message\n/>",
    ] {
        assert_eq!(scan(own), [stanza("<message/>")], "{own}");
    }
    for foreign in [
        "<message xmlns='urn:x'/>",
        "<message xmlns=''/>",
        "<Message/>",
        "<messages/>",
        "<c:message xmlns:c='jabber:client'/>",
        "<foo from='a@b.c'/>",
    ] {
        assert_eq!(scan(foreign), [Seen::Other(foreign.into())], "{foreign}");
    }
}

#[test]
fn the_stream_ends_whatever_its_prefix_and_nothing_comes_after() {
    for end in [
        "</stream:stream>",
        "</stream>",
        "</s:stream >",
        " </x:stream\n>",
    ] {
        let stream = format!("<iq/>{end}<iq/></a>");
        assert_eq!(scan(&stream), [stanza("<iq/>"), Seen::End], "{end}");
    }
}

#[test]
fn what_can_not_be_cut_ends_the_stream_with_place_and_reason() {
    for (stream, offset, what) in [
        ("<iq/></message>", 14, "an end tag without a start tag"),
        ("<iq/>text<iq/>", 5, "text between stanzas"),
        ("<![CDATA[x]]>", 0, "text between stanzas"),
        ("<iq><a></iq>", 11, "</iq> where </a> should be"),
        ("<iq><a></aa></iq>", 11, "</aa> where </a> should be"),
        ("<iq><a></a b='c'></iq>", 11, "an end tag with attributes"),
        ("<iq><a></a/></iq>", 10, "a / in an end tag"),
        ("<iq>1 < 2</iq>", 6, "a < that begins no tag"),
        ("<iq><></iq>", 4, "a < that begins no tag"),
        ("<iq><1/></iq>", 4, "a < that begins no tag"),
        ("<iq <a/></iq>", 4, "a tag inside of a tag"),
        ("<iq<a/></iq>", 3, "a tag inside of a tag"),
        ("<iq></iq<a/>", 8, "a tag inside of a tag"),
        ("<iq a='1'/ >", 10, "a / inside of a tag"),
        ("<iq><a /b='2'/></iq>", 8, "a / inside of a tag"),
        ("<iq><a//></iq>", 7, "a / inside of a tag"),
        ("<iq a='<'/>", 7, "a < in an attribute's value"),
        (
            "<iq to='a></iq><iq id='b'/>",
            10,
            "a < in an attribute's value",
        ),
        ("<iq><!ELEMENT a></iq>", 4, "a <! that begins nothing known"),
        ("<iq><!doctype a></iq>", 4, "a <! that begins nothing known"),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><iq/>",
            12,
            "a document type declaration with declarations in it",
        ),
        ("\0<iq/>", 0, "text between stanzas"),
    ] {
        let last = scan(stream).pop();
        assert_eq!(last, Some(broken(offset, what)), "{stream}");
    }
}

#[test]
fn a_broken_stream_stays_broken() {
    let mut scanner = Scanner::new(Limits::default());
    scanner.buffer().extend_from_slice(b"  x");
    let error = scanner.next().unwrap_err();
    assert_eq!(error.offset, 2);
    assert_eq!(
        error.to_string(),
        "not well-formed at byte 2 of the stream: text between stanzas"
    );
    scanner.buffer().extend_from_slice(b"<iq/>");
    assert_eq!(scanner.next().unwrap_err(), error);
}

#[test]
fn offsets_count_from_the_first_byte_of_the_stream() {
    let mut scanner = Scanner::new(Limits::default());
    for _ in 0..3 {
        scanner.buffer().extend_from_slice(b"<iq/>  ");
        assert!(scanner.next().unwrap().is_some());
        assert!(scanner.next().unwrap().is_none());
    }
    scanner.buffer().extend_from_slice(b" x");
    assert_eq!(scanner.next().unwrap_err().offset, 22);
}

/// Streams with every kind of piece in them, for the tests of splitting.
const MIXED: [&str; 5] = [
    "<iq id=\"'>\"/> <message to='a@b.c'><body>x]]<![CDATA[</message>]]]]]]>&#x41;</body>\
     <é:ü xmlns:é='u' é:a='/>'/></message></stream:stream>",
    "<iq><!-- </iq> -- > ---></iq><?pi <iq/> ?><iq><?a > ??></iq><!DOCTYPE a SYSTEM '>'><iq/>",
    "<message><body>too large, really much too large for so small a limit, but its end can \
     be found</body></message><iq/><message a='too large in its head, so that there is none \
     to answer, and with \" and > in it, and a lot more'><x/></message><iq/></a>",
    "<iq><a><b><c><d><e><f/></e></d></c></b></a></iq>\n\n<iq/><iq><a></b>",
    "<iq to='@@'><body/></iq><iq a='1' a='2'/><x:y/><iq/ ><iq/>",
];

#[test]
fn reads_may_split_the_stream_anywhere() {
    let limits = Limits {
        bytes: 100,
        depth: 5,
    };
    for stream in MIXED {
        let bytes = stream.as_bytes();
        let whole = scan_pieces(&limits, [bytes]);
        assert!(whole.len() > 2, "{stream}");
        assert_eq!(scan_pieces(&limits, bytes.chunks(1)), whole);
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(scan_pieces(&limits, [first, second]), whole, "{at}");
        }
    }
}

#[test]
fn a_too_large_stanza_is_thrown_away_and_the_stream_goes_on() {
    let limits = Limits {
        bytes: 4096,
        depth: 5,
    };
    let mut scanner = Scanner::new(limits);
    scanner
        .buffer()
        .extend_from_slice(b"<message to='a@b.c' id='1'><body>");
    for _ in 0..1000 {
        scanner.buffer().extend_from_slice(&[b'x'; 1000]);
        assert!(scanner.next().unwrap().is_none());
        assert!(scanner.buffer().len() <= 5096, "buffered");
    }
    scanner.buffer().extend_from_slice(b"</body><a b='<");
    assert!(scanner.next().is_err(), "still lexed while thrown away");

    let attribute = "x".repeat(5000);
    let seen = scan_pieces(
        &Limits {
            bytes: 4096,
            depth: 5,
        },
        [
            b"<message to='a@b.c' id='1'><a b='".as_slice(),
            attribute.as_bytes(),
            b"'/></message><presence a='",
            attribute.as_bytes(),
            b"'/><iq/>",
        ],
    );
    let fault = Fault::TooLarge { limit: 4096 };
    assert_eq!(
        seen,
        [
            Seen::Refused(Some("<message to='a@b.c' id='1'/>".into()), fault.clone()),
            Seen::Refused(None, fault),
            stanza("<iq/>"),
        ]
    );
}

#[test]
fn a_stanza_of_exactly_the_limits_passes() {
    let fits = "<iq><a><b/></a></iq>";
    let limits = |bytes, depth| Limits { bytes, depth };
    let scan = |limits| scan_pieces(&limits, [fits.as_bytes()]);
    let head = Some("<iq/>".to_owned());
    assert_eq!(scan(limits(fits.len(), 3)), [stanza(fits)]);
    assert_eq!(
        scan(limits(fits.len() - 1, 3)),
        [Seen::Refused(head.clone(), Fault::TooLarge { limit: 19 })]
    );
    assert_eq!(
        scan(limits(fits.len(), 2)),
        [Seen::Refused(head, Fault::TooDeep { limit: 2 })]
    );
}

#[test]
fn a_stanza_nested_without_end_does_not_take_memory_without_end() {
    let mut scanner = Scanner::new(Limits {
        bytes: 1000,
        depth: 5,
    });
    let error = (0..2000)
        .find_map(|_| {
            scanner.buffer().extend_from_slice(b"<a>");
            scanner.next().err()
        })
        .expect("it is given up");
    assert_eq!(error.what, "elements are nested too deep to find their end");
}

#[test]
fn cuts_share_the_memory_they_were_read_into_until_detached() {
    let mut scanner = Scanner::new(Limits::default());
    let stream = b"<iq type='get'><a/></iq><iq type='get'><b/></iq>";
    scanner.buffer().extend_from_slice(stream);
    let start = scanner.buffer().as_ptr() as usize;
    let read = start..start + stream.len();
    for _ in 0..2 {
        let Some(Cut::Stanza(mut stanza)) = scanner.next().unwrap() else {
            panic!("no stanza");
        };
        let is_shared = |part: &[u8]| read.contains(&(part.as_ptr() as usize));
        let before = written(&stanza);
        assert!(is_shared(stanza.payload()));
        assert!(is_shared(stanza.stanza_type().unwrap().as_bytes()));
        stanza.detach();
        assert!(!is_shared(stanza.payload()));
        assert!(!is_shared(stanza.stanza_type().unwrap().as_bytes()));
        assert_eq!(written(&stanza), before);
    }
}

#[test]
fn stanzas_read_one_by_one_lie_side_by_side() {
    let mut scanner = Scanner::new(Limits::default());
    let stream = b"<message><body>one at a time</body></message>";
    let mut kept = Vec::new();
    for _ in 0..1000 {
        scanner.buffer().extend_from_slice(stream);
        let Some(Cut::Stanza(stanza)) = scanner.next().unwrap() else {
            panic!("no stanza");
        };
        kept.push(stanza);
    }
    let neighbours = kept.windows(2).filter(|pair| {
        let [first, second] = pair else { return false };
        let [first, second] = [first, second].map(|stanza| stanza.payload().as_ptr() as usize);
        first + stream.len() == second
    });
    // 45 kB in chunks of 16 KiB: all have a neighbour, but for two or three.
    assert!(neighbours.count() >= 996);
}

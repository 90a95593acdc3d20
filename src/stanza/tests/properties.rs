//! Properties that hold for every stream.

use std::fmt::Write;

use minidom::Element;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const LIMITS: Limits = Limits {
    bytes: 1500,
    depth: 8,
};

/// Returns whether an independent parser finds exactly one element at the place where `stanza` is
/// written to a component stream, and the next element intact behind it.
fn fits_into_a_stream(stanza: &str) -> bool {
    let stream = format!(
        "<s:stream xmlns='jabber:component:accept' xmlns:s='http://etherx.jabber.org/streams'>\
         {stanza}<iq id='sentinel'/></s:stream>"
    );
    // The parser should do this itself (XML 1.0 §2.11), but fails in attributes.
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let Ok(root) = stream.parse::<Element>() else {
        return false;
    };
    let children: Vec<_> = root.nodes().collect();
    let [
        minidom::Node::Element(first),
        minidom::Node::Element(sentinel),
    ] = &*children
    else {
        return false;
    };
    ["message", "presence", "iq"].contains(&first.name())
        && first.ns() == "jabber:component:accept"
        && sentinel.is("iq", "jabber:component:accept")
        && sentinel.attr("id") == Some("sentinel")
}

fn collect(parent: &Element, depth: usize, found: &mut Vec<((usize, String), String)>) {
    for child in parent.children() {
        found.push(((depth, child.name().to_owned()), child.ns()));
        collect(child, depth + 1, found);
    }
}

fn without_vowels(tree: &mut Element) {
    for mut node in tree.take_nodes() {
        match node.as_element_mut() {
            Some(element) if element.name().starts_with(['a', 'e', 'i', 'o', 'x']) => continue,
            Some(element) => without_vowels(element),
            None => {}
        }
        let last = tree.nodes_mut().last().and_then(|last| last.as_text_mut());
        match (last, node.as_text()) {
            (Some(last), Some(text)) => last.push_str(text),
            _ => {
                tree.append_node(node);
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~&&[^<&\\]]]{1,12}",
        1 => Just("&amp;&lt;&#x1F600;&#10;".to_owned()),
        1 => "<!\\[CDATA\\[[a-z<>&'\" ]{0,8}\\]{0,2}\\]\\]>",
        1 => "[é😀ü名]{1,4}|[\\n\\t\\r]",
        1 => Just("]]].>".to_owned()),
    ];
    prop::collection::vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

fn attributes() -> impl Strategy<Value = String> {
    prop::collection::btree_map(
        "(xml:)?[a-wy-z][a-z0-9.-]{0,5}",
        prop_oneof![
            "'[ -~&&[^<&']]{0,9}'",
            "\"[ -~&&[^<&\"]]{0,9}\"",
            Just("' &lt;&#x41;>é/>'".to_owned()),
        ],
        0..4,
    )
    .prop_map(|map| {
        map.iter().fold(String::new(), |mut out, (name, value)| {
            if !["from", "to"].contains(&&**name) {
                write!(out, " {name}={value}").unwrap();
            }
            out
        })
    })
}

fn element(name: String, attributes: String, children: &[String]) -> String {
    match children {
        [] => format!("<{name}{attributes}/>"),
        _ => format!("<{name}{attributes} >{}</{name}\n>", children.concat()),
    }
}

fn content() -> impl Strategy<Value = String> {
    let leaf = text();
    leaf.prop_recursive(5, 20, 4, |inner| {
        let name = prop_oneof![
            3 => "[a-z][a-z0-9]{0,6}".prop_map(|name| (name, String::new())),
            1 => Just(("x".to_owned(), " xmlns='urn:x'".to_owned())),
            1 => Just(("p:x".to_owned(), " xmlns:p='urn:p' p:a=''".to_owned())),
            1 => Just(("größe".to_owned(), " xmlns=''".to_owned())),
        ];
        let children = prop::collection::vec(inner, 0..4);
        (name, attributes(), children).prop_map(|((name, extra), attributes, children)| {
            element(name, attributes + &extra, &children)
        })
    })
}

/// Generates a well-formed stanza, and its payload.
fn stanza() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![Just("message"), Just("presence"), Just("iq")];
    let address = prop_oneof![
        Just(String::new()),
        Just(" from='a@b.example/R&apos;1'".to_owned()),
        Just(" to=\"c@d.example\" from='e.example'".to_owned()),
    ];
    (name, address, attributes(), content()).prop_map(|(name, address, attributes, payload)| {
        let stanza = format!("<{name}{address}{attributes}>{payload}</{name}>");
        (stanza, payload)
    })
}

/// A change to some bytes, most often one that makes the stanza malformed.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, &'static str),
    Remove(Index, usize),
    Repeat(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let markup = prop::sample::select(vec![
        "<",
        ">",
        "/",
        "'",
        "\"",
        "&",
        ";",
        "=",
        ":",
        " ",
        "\0",
        "\u{fffe}",
        "]]>",
        "<!--",
        "-->",
        "<![CDATA[",
        "<?a ?>",
        "<!DOCTYPE a>",
        "</message>",
        "</s:stream>",
        "<iq/>",
        "<s:x/>",
        " xmlns=''",
        " xmlns:p=''",
        " xmlns:xml='u'",
        "&#0;",
        "&x;",
        "<a>",
        "</a>",
        " a='1'",
        "p:",
        "xml:",
        "\u{220}",
        "é",
        "<a/>",
        "/>",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), markup).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (any::<Index>(), 1..6usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        match mutation {
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Insert(at, text) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, text.bytes());
            }
            Mutation::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Mutation::Repeat(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(from..from, part);
            }
        }
    }
}

/// Cuts `bytes` at the given places, in any order.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces.push(&bytes[start..]);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn well_formed_stanzas_pass_with_their_payload_untouched((text, payload) in stanza()) {
        let stanza = parse(&text).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        prop_assert_eq!(stanza.payload(), payload.as_bytes());
        let again = written(&stanza);
        prop_assert_eq!(&written(&parse(&again).unwrap()), &again);
        prop_assert!(fits_into_a_stream(&again));
    }

    #[test]
    fn the_elements_of_a_payload_are_those_of_its_tree((text, _) in stanza()) {
        let stanza = parse(&text).unwrap();
        let mut seen = Vec::new();
        let mut elements = stanza.elements();
        while elements.advance() {
            let name = (elements.depth(), elements.name().to_owned());
            seen.push((name, elements.namespace().into_owned()));
        }
        let mut expected = Vec::new();
        collect(&stanza.to_element(), 1, &mut expected);
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn removed_elements_leave_the_rest_as_it_is((text, _) in stanza()) {
        let mut stanza = parse(&text).unwrap();
        let mut tree = stanza.to_element();
        stanza.set_payload(stanza.edited_payload(|element| {
            if element.name().starts_with(['a', 'e', 'i', 'o', 'x']) {
                element.remove();
            }
        }));
        without_vowels(&mut tree);
        prop_assert!(parse(&written(&stanza)).is_ok());
        prop_assert_eq!(stanza.to_element(), tree);
    }

    #[test]
    fn the_cuts_are_the_same_however_the_stream_is_read(
        stanzas in prop::collection::vec(stanza(), 1..5),
        mutations in prop::collection::vec(mutation(), 0..3),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        bytes in prop_oneof![Just(60_usize), Just(LIMITS.bytes)],
    ) {
        let mut stream = stanzas.iter().map(|(text, _)| &**text).collect::<String>().into_bytes();
        mutate(&mut stream, &mutations);
        let limits = Limits { bytes, ..LIMITS };
        let whole = scan_pieces(&limits, [&*stream]);
        prop_assert_eq!(&scan_pieces(&limits, pieces(&stream, &cuts)), &whole);
        prop_assert_eq!(scan_pieces(&limits, stream.chunks(1)), whole);
    }

    #[test]
    fn what_passes_fits_into_a_stream(
        stanzas in prop::collection::vec(stanza(), 1..3),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let mut stream = stanzas.iter().map(|(text, _)| &**text).collect::<String>().into_bytes();
        mutate(&mut stream, &mutations);
        for seen in scan_pieces(&LIMITS, [&*stream]) {
            if let Seen::Stanza(text) | Seen::Refused(Some(text), _) = seen {
                prop_assert!(fits_into_a_stream(&text), "{text}");
            }
        }
        if let Ok(stanza) = Stanza::parse(stream.into(), &LIMITS) {
            prop_assert!(fits_into_a_stream(&written(&stanza)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(stream in prop::collection::vec(any::<u8>(), 0..200)) {
        scan_pieces(&LIMITS, [&*stream]);
        let _ = Stanza::parse(stream.into(), &LIMITS);
    }
}

//! Every line of the capture is said by the stand-in in the same situation, or
//! stands here with the reason why not.

use std::collections::BTreeSet;

use crate::{attaching, messages, pep, presence, queries, rooms};

const CAPTURE: &str = include_str!("../captures/mongooseim-to-component.txt");

/// What the stand-in never says, and why.
const NOT_SAID: [(&str, &str); 2] = [
    (
        "<presence from='bob@dc1.test/b1' to='carol@example.test' type='unavailable'>\
         <status>Shutdown by reason: adm</status></presence>",
        "an administrator's kick",
    ),
    (
        "<presence from='bob@dc1.test/sm' to='carol@example.test' type='unavailable'>\
         <status>Shutdown by reason: mod_stream_management</status></presence>",
        "comes after 600 s",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_says_to_a_component_what_mongooseim_said() {
    let flows = tokio::join!(
        attaching::flow(),
        presence::lifecycle(),
        presence::subscriptions(),
        presence::directed(),
        messages::outgoing(),
        messages::refused(),
        queries::to_the_server(),
        queries::to_users(),
        pep::flow(),
        rooms::flow(),
    );
    let (a, b, c, d, e, f, g, h, i, j) = flows;
    let said: BTreeSet<String> = [a, b, c, d, e, f, g, h, i, j]
        .iter()
        .flatten()
        .map(|line| masked(line))
        .collect();
    let lines: BTreeSet<&str> = CAPTURE.lines().collect();
    assert!(lines.len() > 200, "the capture has only {}", lines.len());

    let not_said: BTreeSet<&str> = NOT_SAID.iter().map(|(line, _)| *line).collect();
    for line in &not_said {
        assert!(lines.contains(line), "not in the capture: {line}");
        assert!(!said.contains(&masked(line)), "is said after all: {line}");
    }
    let missing: Vec<&str> = lines
        .into_iter()
        .filter(|line| !not_said.contains(line) && !said.contains(&masked(line)))
        .collect();
    let all: Vec<&str> = said.iter().map(String::as_str).collect();
    assert!(
        missing.is_empty(),
        "{} lines are not said:\n{}\n\nwhat is said:\n{}",
        missing.len(),
        missing.join("\n"),
        all.join("\n")
    );
}

/// Without what differs from run to run: times, and names that the server chose.
fn masked(line: &str) -> String {
    let mut masked = line.to_owned();
    for (start, end) in [
        (" stamp='", "'"),
        (" subid='", "'"),
        (" sessionid='", "'"),
        (" seconds='", "'"),
        ("<utc>", "</utc>"),
        ("<stanza-id by='room@conference.dc1.test' id='", "'"),
    ] {
        masked = mask(&masked, start, end);
    }
    if line.starts_with("<stream:stream") {
        masked = mask(&masked, " id='", "'");
    }
    masked
}

fn mask(line: &str, start: &str, end: &str) -> String {
    let mut parts = line.split(start);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once(end).expect("an end");
        masked += start;
        masked += "*";
        masked += end;
        masked += rest;
    }
    masked
}

//! Reading the servers' lists of sessions and accounts.

use jid::{BareJid, FullJid};

use super::Names;
use crate::sessions::tracker::Listing;

/// What Prosody may say about a session (RFC 6121 §4.7.2.1, and two of its own).
const SHOWN: [&str; 7] = [
    "available",
    "unavailable",
    "away",
    "chat",
    "dnd",
    "xa",
    "[invalid!]",
];

/// Reads the values of `onlineuserjids` as Prosody writes them with `details`:
/// a bare JID, then a line ` - resource: available(0), IP: [127.0.0.1]` for
/// each of its sessions.
///
/// A user writes the resource and the show that stand in these lines, line
/// breaks too. `users` is the same list without details, in which nobody can
/// write: who is not in there is not believed.
pub(super) fn with_details(values: &[String], users: &[String], names: &Names) -> Listing {
    let mut listing = Listing::default();
    let known: Vec<BareJid> = bare(users, names);
    let mut user: Option<(BareJid, BareJid)> = None;
    for line in values {
        if let Some(session) = line.strip_prefix(" - ") {
            let Some((local, global)) = &user else {
                continue;
            };
            match resource(session).and_then(|it| local.with_resource_str(it).ok()) {
                Some(jid) if known.contains(global) => {
                    listing.sessions.extend(names.session(&jid));
                }
                Some(_) => {}
                None => {
                    listing.unclear.insert(global.clone());
                }
            }
        } else {
            let local = BareJid::new(line).ok();
            let next = local.and_then(|local| Some((local.clone(), names.user(&local)?)));
            if next.is_none()
                && let Some((_, global)) = user
            {
                listing.unclear.insert(global);
            }
            user = next;
        }
    }
    listing
}

/// The resource in ` - resource: available(0), IP: [127.0.0.1]`, whose settings
/// behind it Prosody writes.
fn resource(line: &str) -> Option<&str> {
    let (rest, _address) = line.strip_suffix(']')?.rsplit_once("), IP: [")?;
    let (rest, priority) = rest.rsplit_once('(')?;
    let is_priority = priority == "-" || priority.parse::<i16>().is_ok();
    let (resource, shown) = rest.rsplit_once(": ")?;
    (is_priority && SHOWN.contains(&shown) && !resource.is_empty()).then_some(resource)
}

/// Reads full JIDs, as ejabberd's items and MongooseIM's sessions are. Who is
/// named by the bare JID alone has a session that can't be told from others.
pub(super) fn full<'a>(jids: impl IntoIterator<Item = &'a str>, names: &Names) -> Listing {
    let mut listing = Listing::default();
    for jid in jids {
        match (FullJid::new(jid), BareJid::new(jid)) {
            (Ok(full), _) => listing.sessions.extend(names.session(&full)),
            (_, Ok(bare)) => listing.unclear.extend(names.user(&bare)),
            _ => tracing::debug!(jid, "the server lists what is no JID"),
        }
    }
    listing
}

/// Reads accounts: bare JIDs, of which those of other domains are none of ours.
pub(super) fn bare(jids: &[String], names: &Names) -> Vec<BareJid> {
    jids.iter()
        .filter_map(|jid| names.user(&BareJid::new(jid.trim()).ok()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    fn names() -> Names {
        Names::new(
            &Host::new("example.test").unwrap(),
            &Host::new("dc1.test").unwrap(),
        )
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn sessions(listing: &Listing) -> Vec<&str> {
        listing.sessions.iter().map(|jid| jid.as_str()).collect()
    }

    #[test]
    fn prosodys_list_is_read() {
        let values = lines(
            "bob@dc1.test\n - r2: unavailable(-), IP: [127.0.0.1]\n - sm: available(0), IP: [127.0.0.1]\n\
             alice@dc1.test\n - at: home: dnd(-1), IP: [::1]",
        );
        let users = lines("alice@dc1.test\nbob@dc1.test");
        let listing = with_details(&values, &users, &names());
        assert_eq!(
            sessions(&listing),
            [
                "alice@example.test/at: home",
                "bob@example.test/r2",
                "bob@example.test/sm"
            ]
        );
        assert!(listing.unclear.is_empty());
    }

    #[test]
    fn nobody_can_write_somebody_else_into_the_list() {
        // Mallory's show is "away(0), IP: [1]\nalice@dc1.test\n - x: away".
        let values = lines(
            "mallory@dc1.test\n - m: away(0), IP: [1]\nalice@dc1.test\n - x: away(0), IP: [127.0.0.1]",
        );
        let users = lines("mallory@dc1.test");
        let listing = with_details(&values, &users, &names());
        assert_eq!(sessions(&listing), ["mallory@example.test/m"]);
    }

    #[test]
    fn what_cannot_be_read_says_nothing_about_its_user() {
        for strange in [
            "bob@dc1.test\n - r: lunch(0), IP: [127.0.0.1]",
            "bob@dc1.test\n - r: away",
            "bob@dc1.test\nanything",
        ] {
            let listing = with_details(&lines(strange), &lines("bob@dc1.test"), &names());
            assert!(listing.sessions.is_empty(), "{strange}");
            assert!(
                listing
                    .unclear
                    .contains(&BareJid::new("bob@example.test").unwrap()),
                "{strange}"
            );
        }
    }

    #[test]
    fn full_jids_are_read_and_those_of_other_domains_left_out() {
        let listing = full(
            ["Alice@DC1.test/r1", "bob@dc2.test/r", "carol@dc1.test", "@"],
            &names(),
        );
        assert_eq!(sessions(&listing), ["alice@example.test/r1"]);
        assert_eq!(listing.unclear.len(), 1);
    }
}

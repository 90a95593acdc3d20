//! Under what a record is kept.

use std::borrow::Borrow;

use jid::{BareJid, FullJid, Jid};

/// No JID has one (RFC 7622 §3), and it sorts before everything that they have.
const SEPARATOR: char = '\0';

/// A session's user, a viewer, and the session's resource: sorted, all records of
/// one user stand together, and within those all of one viewer. In one text, so
/// that a record costs one allocation. Without a resource it is about the two
/// users and no session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordKey(Box<str>);

impl RecordKey {
    /// For what `viewer` knows of `session`.
    pub(super) fn of(session: &FullJid, viewer: &Jid) -> Self {
        let user = session.to_bare();
        Self::new(user.as_str(), viewer.as_str(), session.resource().as_str())
    }

    /// For whether `viewer` may ask for the presence of `user`.
    pub(super) fn between(user: &BareJid, viewer: &BareJid) -> Self {
        Self::new(user.as_str(), viewer.as_str(), "")
    }

    fn new(user: &str, viewer: &str, resource: &str) -> Self {
        let mut text = String::with_capacity(user.len() + viewer.len() + resource.len() + 2);
        for part in [user, viewer] {
            text.push_str(part);
            text.push(SEPARATOR);
        }
        text.push_str(resource);
        Self(text.into())
    }

    /// What the keys of all records of `user` begin with.
    pub(super) fn all_of(user: &BareJid) -> String {
        format!("{user}{SEPARATOR}")
    }

    /// What the keys of all that `viewer` (bare: and its resources) knows of
    /// `user` begin with; and perhaps other viewers', whose name is longer.
    pub(super) fn all_like(user: &BareJid, viewer: &Jid) -> String {
        format!("{user}{SEPARATOR}{viewer}")
    }

    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.0.splitn(3, SEPARATOR);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    /// User and viewer: the same for all that one viewer knows of one user.
    pub(super) fn pair(&self) -> (&str, &str) {
        let (user, viewer, _) = self.parts();
        (user, viewer)
    }

    pub(super) fn resource(&self) -> &str {
        self.parts().2
    }

    /// Whose presence; `None` when it is about no session.
    pub(super) fn session(&self) -> Option<FullJid> {
        let (user, _, resource) = self.parts();
        let user = BareJid::new(user).ok()?;
        (!resource.is_empty())
            .then(|| user.with_resource_str(resource).ok())
            .flatten()
    }

    pub(super) fn user(&self) -> Option<BareJid> {
        BareJid::new(self.parts().0).ok()
    }

    pub(super) fn viewer(&self) -> Option<Jid> {
        Jid::new(self.parts().1).ok()
    }

    /// Whether it is one of what `viewer` knows, or, if that is a bare JID, one
    /// of its resources.
    pub(super) fn is_of_viewer(&self, viewer: &Jid) -> bool {
        let rest = self.pair().1.strip_prefix(viewer.as_str());
        rest.is_some_and(|rest| rest.is_empty() || (viewer.is_bare() && rest.starts_with('/')))
    }

    pub(super) fn starts_with(&self, prefix: &str) -> bool {
        self.0.starts_with(prefix)
    }
}

impl Borrow<str> for RecordKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_is_about() {
        let session = FullJid::new("alice@x.test/a phone/1").unwrap();
        let viewer = Jid::new("bob@x.test/b1").unwrap();
        let key = RecordKey::of(&session, &viewer);
        assert_eq!(key.session(), Some(session.clone()));
        assert_eq!(key.viewer(), Some(viewer));
        let bob = BareJid::new("bob@x.test").unwrap();
        let key = RecordKey::between(&session.to_bare(), &bob);
        assert_eq!((key.session(), key.user()), (None, Some(session.to_bare())));
    }

    #[test]
    fn a_bare_viewer_is_its_resources_too_and_nobody_else() {
        let session = FullJid::new("alice@x.test/r").unwrap();
        let bob = Jid::new("bob@x.test").unwrap();
        for (viewer, is_bob) in [
            ("bob@x.test", true),
            ("bob@x.test/b1", true),
            ("bob@x.test.org", false),
            ("bobby@x.test", false),
        ] {
            let viewer = Jid::new(viewer).unwrap();
            assert_eq!(RecordKey::of(&session, &viewer).is_of_viewer(&bob), is_bob);
        }
        let phone = Jid::new("bob@x.test/b1").unwrap();
        assert!(!RecordKey::of(&session, &bob).is_of_viewer(&phone));
    }
}

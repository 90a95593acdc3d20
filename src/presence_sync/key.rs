//! The keys of the presence table.

use jid::Jid;

/// Occurs in no JID (RFC 7622 §3) and sorts before all that does.
const SEPARATOR: char = '\0';

/// A user, the viewer, and the user's resource: in this order the records of one
/// user, and within those the ones of one viewer, are neighbours. Without a
/// resource the record concerns the two users. One text is one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordKey(Box<str>);

impl RecordKey {
    /// The key for the presence of a session, or for the right to probe a bare `user`.
    pub(super) fn of(user: &Jid, viewer: &Jid) -> Self {
        let (resource, user) = (Self::resource_of(user), user.to_bare());
        Self(format!("{user}{SEPARATOR}{viewer}{SEPARATOR}{resource}").into())
    }

    /// The key for the right of `viewer` to probe `user`, both bare.
    pub(super) fn between(user: &Jid, viewer: &Jid) -> Self {
        Self::of(&user.to_bare().into(), &viewer.to_bare().into())
    }

    pub(super) fn resource_of(user: &Jid) -> &str {
        user.resource().map_or("", |resource| resource.as_str())
    }

    /// The key's share of the table's bounds: one for each 256 bytes begun.
    pub(super) fn weight(&self) -> i32 {
        i32::try_from(1 + self.0.len() / 256).unwrap_or(i32::MAX)
    }

    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.0.splitn(3, SEPARATOR);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    pub(super) fn user_str(&self) -> &str {
        self.parts().0
    }

    pub(super) fn viewer_str(&self) -> &str {
        self.parts().1
    }

    pub(super) fn pair(&self) -> (&str, &str) {
        let (user, viewer, _) = self.parts();
        (user, viewer)
    }

    /// The user's resource; empty for a record of two users.
    pub(super) fn resource(&self) -> &str {
        self.parts().2
    }

    pub(super) fn user(&self) -> Option<Jid> {
        match self.parts() {
            (user, _, "") => Jid::new(user).ok(),
            (user, _, resource) => Jid::new(&format!("{user}/{resource}")).ok(),
        }
    }

    pub(super) fn viewer(&self) -> Option<Jid> {
        Jid::new(self.viewer_str()).ok()
    }

    /// Sorts before all keys with the same user.
    pub(super) fn first_of_user(user: &Jid) -> Self {
        Self(format!("{}{SEPARATOR}", user.to_bare()).into())
    }

    /// Sorts before all keys that [concern](Self::concerns) its user and viewer.
    pub(super) fn first_of_pair(&self) -> Self {
        let (user, viewer) = self.pair();
        Self(format!("{user}{SEPARATOR}{viewer}").into())
    }

    pub(super) fn starts_with(&self, first: &Self) -> bool {
        self.0.starts_with(&*first.0)
    }

    /// Whether both have one user, and this the same viewer or, if that is a bare
    /// JID, a resource of it.
    pub(super) fn concerns(&self, other: &Self) -> bool {
        let ((user, viewer), (other_user, other_viewer)) = (self.pair(), other.pair());
        user == other_user && (viewer == other_viewer || bare(viewer) == other_viewer)
    }
}

/// Without the resource.
pub(super) fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str, viewer: &str) -> RecordKey {
        RecordKey::of(&Jid::new(user).unwrap(), &Jid::new(viewer).unwrap())
    }

    #[test]
    fn a_key_contains_its_addresses() {
        for user in ["alice@x.test/a phone/1", "alice@x.test"] {
            let key = key(user, "bob@x.test/b1");
            assert_eq!(key.user(), Jid::new(user).ok());
            assert_eq!(key.viewer(), Jid::new("bob@x.test/b1").ok());
        }
    }

    #[test]
    fn a_bare_viewer_includes_its_resources_and_nobody_else() {
        let of_bob = key("alice@x.test/r", "bob@x.test");
        for (viewer, is_bob) in [
            ("bob@x.test", true),
            ("bob@x.test/b1", true),
            ("bob@x.test.org", false),
            ("bobby@x.test", false),
        ] {
            let of_viewer = key("alice@x.test/r", viewer);
            assert_eq!(of_viewer.concerns(&of_bob), is_bob, "{viewer}");
        }
        let of_phone = key("alice@x.test/r", "bob@x.test/b1");
        assert!(!of_bob.concerns(&of_phone));
    }
}

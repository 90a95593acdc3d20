//! What a server does not give, and why; the page lists them all.

/// A reason, with a number of its own on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    BlockedUnseen,
    FirstCapabilities,
    PresenceBased,
    NoNotify,
    ContactsOnly,
    NoRoomArchive,
    InvitationText,
}

impl Limit {
    /// All, in the order of the page.
    pub const ALL: [Self; 7] = [
        Self::BlockedUnseen,
        Self::FirstCapabilities,
        Self::PresenceBased,
        Self::NoNotify,
        Self::ContactsOnly,
        Self::NoRoomArchive,
        Self::InvitationText,
    ];

    /// What the page says.
    pub fn text(self) -> &'static str {
        match self {
            Self::BlockedUnseen => {
                "ejabberd does not tell a contact who gets blocked that the one who blocks is \
                 gone; what the contact sends is refused all the same."
            }
            Self::FirstCapabilities => {
                "ejabberd sends the last item of a contact's node only to clients whose \
                 capabilities it knows, and asks a remote client for them when it first sees them; \
                 the item comes when that client (or another of the same program and version) \
                 comes online next. What is published after the question comes at once."
            }
            Self::PresenceBased => {
                "ejabberd and MongooseIM notify explicit subscribers only while they see their own \
                 session, which they never do for those of other servers. With \
                 `pubsub#presence_based_delivery` set to false at the node they are notified."
            }
            Self::NoNotify => {
                "MongooseIM never asks remote clients for their capabilities, so `+notify` is in \
                 vain. A client that subscribes to the node itself gets the last item then, and \
                 later ones if the node is set up as in 3. Avatars and the like can be fetched."
            }
            Self::ContactsOnly => {
                "MongooseIM shows the nodes of an account to its contacts only \
                 (`presence-subscription-required` for others), until their owner sets \
                 `pubsub#access_model` to `open` at the node."
            }
            Self::NoRoomArchive => {
                "MongooseIM fails (`internal-server-error`) when somebody under the shared domain, \
                 one of its own users too, asks for the archive of a room where anything was said. \
                 The history that a room sends to an occupant who enters works."
            }
            Self::InvitationText => {
                "The text of an invitation, which the server writes for people, names the room \
                 by its local name. Its `jid` attributes, which clients use, do not."
            }
        }
    }

    /// Under which the table refers to it.
    pub fn number(self) -> usize {
        let at = Self::ALL.iter().position(|limit| *limit == self);
        at.expect("ALL has them all") + 1
    }
}

/// What a row came to.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It works.
    Given,
    /// It works, but for this.
    But(Limit),
    /// It does not, and the row has seen that it does not.
    Not(Limit),
}

impl Verdict {
    /// As it stands in the table.
    pub fn cell(&self) -> String {
        match self {
            Self::Given => "yes".to_owned(),
            Self::Not(limit) => format!("**no** ({})", limit.number()),
            Self::But(limit) => format!("yes ({})", limit.number()),
        }
    }
}

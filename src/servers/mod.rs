//! Everything that is special to one server software, one file each.

mod mongooseim;

pub(crate) use self::mongooseim::MONGOOSEIM;

/// What the attached server does differently from RFC 6121 and the XEPs, so
/// that the gateway has to work around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerQuirks {
    /// The server fails when another domain asks what an account offers
    /// (XEP-0030): the gateway answers with these features.
    pub account_features: Option<Vec<String>>,
    /// A message to a session that is offline arrives twice at each session
    /// with carbons (XEP-0280): it has to be sent to the bare JID.
    pub doubles_messages_to_the_gone: bool,
}

//! MongooseIM.

use minidom::Element;
use xmpp_parsers::ns;

use super::ServerQuirks;

/// The name in MongooseIM's own disco#info.
pub(crate) const MONGOOSEIM: &str = "MongooseIM";
/// What an account there offers if the server says nothing more.
const ALWAYS: [&str; 3] = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING];
/// How the features begin that the server has for its accounts.
const OF_ACCOUNTS: [&str; 3] = [ns::PUBSUB, "vcard-temp", "jabber:iq:last"];

impl ServerQuirks {
    /// Quirks of a MongooseIM that offers `features`.
    fn of_mongooseim<'a>(features: impl Iterator<Item = &'a str>) -> Self {
        let of_accounts = |feature: &&str| OF_ACCOUNTS.iter().any(|it| feature.starts_with(it));
        let features = ALWAYS.into_iter().chain(features.filter(of_accounts));
        Self {
            account_features: Some(features.map(str::to_owned).collect()),
            doubles_messages_to_the_gone: true,
        }
    }

    /// Quirks of a MongooseIM whose features are not known.
    #[must_use]
    pub fn mongooseim() -> Self {
        Self::of_mongooseim(std::iter::empty())
    }

    /// Quirks of the server that answers disco#info with `info`.
    pub(crate) fn of(info: &Element) -> Self {
        let server = |child: &&Element| {
            child.name() == "identity" && child.attr("category") == Some("server")
        };
        let name = info.children().find(server).and_then(|it| it.attr("name"));
        if name != Some(MONGOOSEIM) {
            return Self::default();
        }
        let features = info.children().filter(|child| child.name() == "feature");
        Self::of_mongooseim(features.filter_map(|feature| feature.attr("var")))
    }
}

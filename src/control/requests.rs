//! The questions to the server, and reading the frame of its answers.

use minidom::Element;
use minidom::rxml::xml_ncname;
use xmpp_parsers::ns;

const COMMANDS: &str = "http://jabber.org/protocol/commands";
const DATA_FORMS: &str = "jabber:x:data";

/// XEP-0133: the list of online users.
pub(super) const ONLINE: &str = "http://jabber.org/protocol/admin#get-online-users-list";
/// XEP-0133: the list of registered users.
pub(super) const REGISTERED: &str = "http://jabber.org/protocol/admin#get-registered-users-list";

/// XEP-0030 §4, at `node`.
pub(super) fn items(node: Option<&str>) -> Element {
    Element::builder("query", ns::DISCO_ITEMS)
        .attr(xml_ncname!("node").to_owned(), node)
        .build()
}

/// XEP-0030 §3.
pub(super) fn info() -> Element {
    Element::bare("query", ns::DISCO_INFO)
}

/// XEP-0050 §2.1: begins a command.
pub(super) fn execute(node: &str) -> Element {
    Element::builder("command", COMMANDS)
        .attr(xml_ncname!("node").to_owned(), node)
        .attr(xml_ncname!("action").to_owned(), "execute")
        .build()
}

/// XEP-0050 §2.3: fills the form in that a command answered with.
pub(super) fn submit(node: &str, session: &str, fields: &[(&str, &str)]) -> Element {
    let field = |(var, value): (&str, &str)| {
        Element::builder("field", DATA_FORMS)
            .attr(xml_ncname!("var").to_owned(), var)
            .append(Element::builder("value", DATA_FORMS).append(value).build())
            .build()
    };
    let form_type = ("FORM_TYPE", "http://jabber.org/protocol/admin");
    let fields = [form_type].into_iter().chain(fields.iter().copied());
    let form = Element::builder("x", DATA_FORMS)
        .attr(xml_ncname!("type").to_owned(), "submit")
        .append_all(fields.map(field))
        .build();
    Element::builder("command", COMMANDS)
        .attr(xml_ncname!("node").to_owned(), node)
        .attr(xml_ncname!("action").to_owned(), "complete")
        .attr(xml_ncname!("sessionid").to_owned(), session)
        .append(form)
        .build()
}

/// One item of XEP-0030.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) jid: String,
    pub(super) node: Option<String>,
}

/// The items of an answer to [`items`].
pub(super) fn read_items(answer: &Element) -> Option<Vec<Item>> {
    let query = answer.get_child("query", ns::DISCO_ITEMS)?;
    let item = |item: &Element| {
        Some(Item {
            jid: item.attr("jid")?.to_owned(),
            node: item.attr("node").map(str::to_owned),
        })
    };
    Some(query.children().filter_map(item).collect())
}

/// What the server calls itself in an answer to [`info`].
pub(super) fn read_name(answer: &Element) -> Option<String> {
    let query = answer.get_child("query", ns::DISCO_INFO)?;
    let server = |identity: &&Element| {
        identity.name() == "identity" && identity.attr("category") == Some("server")
    };
    let identity = query.children().find(server)?;
    identity.attr("name").map(str::to_owned)
}

/// What a command answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// To go on with it.
    pub(super) session: Option<String>,
    pub(super) completed: bool,
    /// The form's fields: name and values.
    pub(super) fields: Vec<(String, Vec<String>)>,
}

impl Command {
    pub(super) fn has(&self, var: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == var)
    }

    pub(super) fn values(&self, var: &str) -> Option<&[String]> {
        let field = self.fields.iter().find(|(name, _)| name == var)?;
        Some(&field.1)
    }
}

/// Reads the answer to a command.
pub(super) fn read_command(answer: &Element) -> Option<Command> {
    let command = answer.get_child("command", COMMANDS)?;
    let field = |field: &Element| {
        let values = field.children().filter(|child| child.name() == "value");
        let values = values.map(Element::text).collect();
        Some((field.attr("var")?.to_owned(), values))
    };
    let form = command.get_child("x", DATA_FORMS);
    Some(Command {
        session: command.attr("sessionid").map(str::to_owned),
        completed: command.attr("status") == Some("completed"),
        fields: form.map_or_else(Vec::new, |form| form.children().filter_map(field).collect()),
    })
}

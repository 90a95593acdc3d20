//! The two ways in which a server lists over XMPP: commands of XEP-0133 and
//! items of XEP-0030.

use jid::{BareJid, FullJid};
use minidom::Element;
use minidom::rxml::xml_ncname;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field};
use xmpp_parsers::ns;

use super::{AskServer, NoAnswer, SessionList};

const COMMANDS: &str = "http://jabber.org/protocol/commands";
const ADMIN: &str = "http://jabber.org/protocol/admin";

/// The answer to a command (XEP-0050).
pub(super) struct CommandResult {
    session: String,
    pub(super) completed: bool,
    form: Option<DataForm>,
}

impl CommandResult {
    /// The values of the form's field `var`.
    pub(super) fn values(self, var: &'static str) -> Result<Vec<String>, NoAnswer> {
        let mut fields = self.form.into_iter().flat_map(|form| form.fields);
        let field = fields.find(|field| field.var.as_deref() == Some(var));
        field.map(|it| it.values).ok_or(NoAnswer::Strange(var))
    }

    pub(super) fn has(&self, var: &str) -> bool {
        let mut fields = self.form.iter().flat_map(|form| &form.fields);
        fields.any(|field| field.var.as_deref() == Some(var))
    }
}

/// Begins the command `node` of XEP-0133 (XEP-0050 §2.1).
pub(super) async fn execute(server: &dyn AskServer, node: &str) -> Result<CommandResult, NoAnswer> {
    command(server, node, "execute", None).await
}

/// Continues `begun`, with its form filled in (XEP-0050 §2.3).
pub(super) async fn submit(
    server: &dyn AskServer,
    node: &str,
    begun: &CommandResult,
    fields: &[(&str, &str)],
) -> Result<CommandResult, NoAnswer> {
    let fields = fields
        .iter()
        .map(|(var, value)| Field::text_single(var, value));
    let form = DataForm::new(DataFormType::Submit, ADMIN, fields.collect());
    command(server, node, "complete", Some((&begun.session, form))).await
}

async fn command(
    server: &dyn AskServer,
    node: &str,
    action: &str,
    form: Option<(&str, DataForm)>,
) -> Result<CommandResult, NoAnswer> {
    let (session, form) = form.unzip();
    let command = Element::builder("command", COMMANDS)
        .attr(xml_ncname!("node").to_owned(), format!("{ADMIN}#{node}"))
        .attr(xml_ncname!("action").to_owned(), action)
        .attr(xml_ncname!("sessionid").to_owned(), session)
        .append_all(form.map(Element::from));
    let answer = server.iq("set", command.build()).await?;
    let command = answer.get_child("command", COMMANDS);
    let command = command.ok_or(NoAnswer::Strange("a command"))?;
    let form = command.get_child("x", ns::DATA_FORMS).cloned();
    let form = form.map(DataForm::try_from).transpose();
    Ok(CommandResult {
        session: command.attr("sessionid").unwrap_or_default().to_owned(),
        completed: command.attr("status") == Some("completed"),
        form: form.map_err(|_| NoAnswer::Strange("a form that can be read"))?,
    })
}

/// The items at `node` of the server (XEP-0030 §4): JIDs, and nodes below. JIDs
/// stay as they were sent: an ill-formed JID must not cost the list.
pub(super) async fn items(
    server: &dyn AskServer,
    node: &str,
) -> Result<Vec<(String, Option<String>)>, NoAnswer> {
    let query = Element::builder("query", ns::DISCO_ITEMS)
        .attr(xml_ncname!("node").to_owned(), node)
        .build();
    let answer = server.iq("get", query).await?;
    let query = answer.get_child("query", ns::DISCO_ITEMS);
    let query = query.ok_or(NoAnswer::Strange("items"))?;
    let item = |item: &Element| {
        let node = item.attr("node").map(str::to_owned);
        Some((item.attr("jid")?.to_owned(), node))
    };
    Ok(query.children().filter_map(item).collect())
}

/// Reads full JIDs. A bare JID stands for a session that cannot be distinguished
/// from the user's others.
pub(super) fn sessions<'a>(jids: impl IntoIterator<Item = &'a str>) -> SessionList {
    let mut list = SessionList::default();
    for jid in jids {
        match (FullJid::new(jid), BareJid::new(jid)) {
            (Ok(full), _) => list.sessions.push(full),
            (_, Ok(bare)) => list.unclear.push(bare),
            _ => tracing::debug!(jid, "the server lists an ill-formed JID"),
        }
    }
    list
}

/// Reads bare JIDs.
pub(super) fn accounts<'a>(jids: impl IntoIterator<Item = &'a str>) -> Vec<BareJid> {
    let jids = jids.into_iter();
    jids.filter_map(|jid| BareJid::new(jid.trim()).ok())
        .collect()
}

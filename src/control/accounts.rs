//! Who has an account at the server, for the homes of those who never logged in.

use jid::BareJid;

use super::client::{ControlClient, NoAnswer};
use super::{list, requests};

/// ejabberd's node of all accounts.
const NODE: &str = "all users";
/// Nodes below it that are asked at most: enough for a hundred million accounts.
const NODES: usize = 10_000;

/// By the command of XEP-0133.
pub(super) async fn by_command(client: &ControlClient) -> Result<Vec<BareJid>, NoAnswer> {
    let node = requests::REGISTERED;
    let answer = client.ask("set", requests::execute(node)).await?;
    let strange = NoAnswer::Strange("a command");
    let mut command = requests::read_command(&answer).ok_or(strange.clone())?;
    if !command.completed {
        let session = command.session.as_deref().unwrap_or_default();
        let all = requests::submit(node, session, &[("max_items", "none")]);
        let answer = client.ask("set", all).await?;
        command = requests::read_command(&answer).ok_or(strange)?;
    }
    let jids = command.values("registereduserjids");
    let jids = jids.ok_or(NoAnswer::Strange("registereduserjids"))?;
    Ok(list::bare(jids, client.names()))
}

/// By ejabberd's node, which names ranges as nodes of their own when there are
/// many accounts.
pub(super) async fn by_disco(client: &ControlClient) -> Result<Vec<BareJid>, NoAnswer> {
    let mut jids = Vec::new();
    let mut nodes = vec![NODE.to_owned()];
    let mut asked = 0;
    while let Some(node) = nodes.pop() {
        asked += 1;
        let answer = client.ask("get", requests::items(Some(&node))).await?;
        let items = requests::read_items(&answer).ok_or(NoAnswer::Strange("items"))?;
        for item in items {
            match item.node {
                Some(below) if below.starts_with(NODE) && asked + nodes.len() < NODES => {
                    nodes.push(below);
                }
                _ => jids.push(item.jid),
            }
        }
    }
    Ok(list::bare(&jids, client.names()))
}

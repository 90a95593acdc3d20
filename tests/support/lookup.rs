//! What gateways say about where somebody is.

use std::net::SocketAddr;

use serde_json::Value;

use super::cluster::Cluster;
use super::http;
use super::patience::until;

/// What the gateway with that admin server says; `None` if it does not run.
async fn look_up(admin: SocketAddr, jid: &str) -> Option<Value> {
    match http::get(admin, &format!("/api/lookup/{jid}")).await {
        Ok((200, found)) => serde_json::from_str(&found).ok(),
        _ => None,
    }
}

impl Cluster {
    /// The hosts that claim `jid`, the newest claim first, as the first
    /// gateway that runs has it.
    pub async fn claimed_by(&self, jid: &str) -> Vec<String> {
        for admin in self.admins() {
            if let Some(found) = look_up(admin, jid).await {
                let claims = found["claims"].as_array().expect("claims").iter();
                let host = |claim: &Value| claim["host"].as_str().map(str::to_owned);
                return claims.filter_map(host).collect();
            }
        }
        panic!("no gateway runs");
    }

    /// Waits until the session table says, to every gateway that runs, that
    /// `jid` is at `host`, or nowhere.
    pub async fn until_claimed(&self, jid: &str, host: Option<&str>) {
        let admins = self.admins();
        let what = format!("{jid} to be claimed by {host:?}");
        until(&what, async || {
            for admin in &admins {
                // Who does not run does not know, and need not.
                let Some(found) = look_up(*admin, jid).await else {
                    continue;
                };
                if found["claims"][0]["host"].as_str() != host {
                    return Err(format!("at {admin}: {found}"));
                }
            }
            Ok(())
        })
        .await;
    }
}

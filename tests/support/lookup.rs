//! The gateways' answers to look-ups of a user.

use std::net::SocketAddr;

use serde_json::Value;

use super::cluster::Cluster;
use super::gateway::Gateway;
use super::http;
use super::patience::until;

/// The metric with 32 bits of the digest of a node's part of the table, without a database.
const FINGERPRINT: &str = "strait_mesh_fingerprint";

/// Asks the gateway with that admin server; `None` if it does not run.
async fn look_up(admin: SocketAddr, jid: &str) -> Option<Value> {
    match http::get(admin, &format!("/api/lookup/{jid}")).await {
        Ok((200, found)) => serde_json::from_str(&found).ok(),
        _ => None,
    }
}

impl Gateway {
    /// Waits until the gateway finds `jid` at `host`, or nowhere.
    pub async fn until_claimed(&self, jid: &str, host: Option<&str>) {
        let what = format!("{jid} to be claimed by {host:?}, at {}", self.host());
        self.process
            .until(&what, async || {
                let found = look_up(self.admin(), jid).await.ok_or("no answer")?;
                let is_so = found["claims"][0]["host"].as_str() == host;
                is_so.then_some(()).ok_or_else(|| found.to_string())
            })
            .await;
    }
}

impl Cluster {
    /// The hosts that claim `jid`, the newest claim first, according to the first gateway that
    /// runs.
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

    /// Waits until every running gateway finds `jid` at `host`, or nowhere.
    pub async fn until_claimed(&self, jid: &str, host: Option<&str>) {
        let what = format!("{jid} to be claimed by {host:?}");
        self.until_all_say(&what, jid, |found| {
            found["claims"][0]["host"].as_str() == host
        })
        .await;
    }

    /// Waits until every running gateway has `host` as the last host of `jid`.
    pub async fn until_home(&self, jid: &str, host: Option<&str>) {
        let what = format!("the home of {jid} to be {host:?}");
        self.until_all_say(&what, jid, |found| found["home"].as_str() == host)
            .await;
    }

    /// Waits until the look-up of `jid` satisfies `is_so` on every running gateway.
    async fn until_all_say(&self, what: &str, jid: &str, is_so: impl Fn(&Value) -> bool) {
        let admins = self.admins();
        until(what, async || {
            for admin in &admins {
                // A gateway that does not run has no table to compare.
                let Some(found) = look_up(*admin, jid).await else {
                    continue;
                };
                if !is_so(&found) {
                    return Err(format!("at {admin}: {found}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Waits until all gateways return the same result for `jid`.
    pub async fn until_agreed(&self, jid: &str) {
        let admins = self.admins();
        until(&format!("the same to be said of {jid}"), async || {
            let mut said = Vec::new();
            for admin in &admins {
                said.push(look_up(*admin, jid).await.ok_or("no answer")?);
            }
            let is_one = said.windows(2).all(|two| two[0] == two[1]);
            is_one.then_some(()).ok_or_else(|| format!("{said:?}"))
        })
        .await;
    }

    /// Waits until the gateways of all datacenters have the same tables, which they replicate
    /// among themselves.
    pub async fn until_tables_are_equal(&self) {
        let gateways = || self.datacenters().iter().map(|dc| &dc.gateway);
        until("the tables to be equal", async || {
            for of in gateways() {
                let labels = [("host", of.host()), ("node", "n1")];
                let mut seen = Vec::new();
                for at in gateways() {
                    seen.push(at.metrics().await?.get(FINGERPRINT, &labels));
                }
                let own = seen.first().copied().flatten();
                if own.is_none() || seen.iter().any(|other| *other != own) {
                    return Err(format!("that of {} is {seen:?}", of.host()));
                }
            }
            Ok(())
        })
        .await;
    }
}

//! Three datacenters on separate machines. The network between two of them fails and recovers,
//! gateways are killed, users log in and out all the while, and afterwards the three tables are
//! equal within one `refresh_after`.
//!
//! Only without a database: in Redis the three tables are one.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::machine::{self, Machine, Network};
use crate::support::patience::{Deadline, PATIENCE};

const HOSTS: [&str; 3] = ["dc1.test", "dc2.test", "dc3.test"];
const REPAIRS: &str = "strait_mesh_repairs_total";
/// `mesh.refresh_after` of these tests.
const REFRESH_AFTER: Duration = Duration::from_secs(10);

/// The effect of an outage on the connections between two datacenters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// The connections survive: the outage ends before either side closes them.
    Short,
    /// Both sides close them, having received nothing until the timeout.
    Long,
    /// Both sides receive a reset.
    Told,
}

/// Three datacenters, with one user in each who stays online.
struct World {
    network: Network,
    cluster: Cluster,
    /// alice, bob and carol.
    who_stay: [Client; 3],
    /// All users that were ever online.
    known: Vec<String>,
}

#[test]
fn each_pair_is_cut_and_healed_and_each_gateway_killed() {
    machine::with_machines(3, async |network| {
        let mut world = World::begin(network).await;
        let outages = [Outage::Long, Outage::Told, Outage::Short];
        for (pair, outage) in [(0, 1), (1, 2), (2, 0)].into_iter().zip(outages) {
            world.cut_and_heal(pair, outage).await;
        }
        for at in 0..HOSTS.len() {
            world.kill_and_restart(at).await;
        }
        world.everybody_talks("at the end").await;
        world.cluster.assert_balanced().await;
    });
}

impl World {
    async fn begin(network: Network) -> Self {
        let cluster = HOSTS.iter().zip(network.machines());
        let cluster = cluster.fold(Cluster::on(Backend::Mesh), |cluster, (host, machine)| {
            cluster.datacenter(host).its_machine(machine)
        });
        let refresh_after = u32::try_from(REFRESH_AFTER.as_secs()).expect("few seconds");
        // No entry expires while a pair is cut off.
        let times = Backend::Mesh.times(60, refresh_after);
        let cluster = cluster.config(&times).start().await;
        let mut world = Self {
            who_stay: [
                cluster.login("alice", "dc1.test", "a").await,
                cluster.login("bob", "dc2.test", "b").await,
                cluster.login("carol", "dc3.test", "c").await,
            ],
            network,
            cluster,
            known: Vec::new(),
        };
        world.known = ["alice", "alice/a", "bob", "bob/b", "carol", "carol/c"]
            .map(global)
            .into();
        world.until_equal().await;
        world.everybody_talks("at the beginning").await;
        world
    }

    /// Users log in and out on both sides while the two are cut off.
    async fn cut_and_heal(&mut self, (one, other): (usize, usize), outage: Outage) {
        let (a, b) = (self.machine(one), self.machine(other));
        let leaves = self.comes(one, &format!("{one}-leaves")).await;
        self.until_equal().await;
        let before = self.repairs("connect").await;

        self.network.cut(&a, &b);
        if outage == Outage::Told {
            a.reset_connections_with(&b);
        }
        let comes_here = self.comes(one, &format!("{one}-comes")).await;
        let comes_there = self.comes(other, &format!("{other}-comes")).await;
        let left = leaves.jid().replace(HOSTS[one], "example.test");
        leaves.close().await;
        self.says(one, other, "while we are cut off").await;
        self.says(other, one, "while we are cut off").await;
        self.third_knows((one, other), &comes_here, &comes_there, &left)
            .await;
        if outage != Outage::Short {
            self.until_given_up(one, other).await;
            self.until_given_up(other, one).await;
        }

        self.network.heal(&a, &b);
        self.until_equal().await;
        self.hears(other, one, "while we are cut off").await;
        self.hears(one, other, "while we are cut off").await;
        let repaired = self.repairs("connect").await - before;
        match outage {
            Outage::Short => assert_eq!(repaired, 0.0, "nothing was lost"),
            // Each side has missed the changes at the other side, and nothing else.
            Outage::Long | Outage::Told => {
                assert!((2.0..=40.0).contains(&repaired), "{repaired} parts");
            }
        }
        self.everybody_talks(&format!("after {outage:?}")).await;
        comes_here.close().await;
        comes_there.close().await;
        self.until_equal().await;
    }

    async fn kill_and_restart(&mut self, at: usize) {
        let gateway = &mut self.cluster.dc_mut(HOSTS[at]).gateway;
        gateway.process.kill9().await;
        gateway.start().await;
        self.until_equal().await;
        // The gateway received again the entries that it had before, and that is counted.
        let metrics = self.cluster.dc(HOSTS[at]).gateway.metrics().await;
        let metrics = metrics.expect("metrics");
        assert!(metrics.sum(REPAIRS) >= 1.0, "{}", metrics.show(REPAIRS));
        self.everybody_talks(&format!("{} is back", HOSTS[at]))
            .await;
    }

    /// Waits until the three tables are equal: within one `refresh_after`, and without the
    /// repairs that only a defect causes.
    async fn until_equal(&self) {
        let begun = Instant::now();
        self.cluster.until_tables_are_equal().await;
        for jid in &self.known {
            self.cluster.until_agreed(jid).await;
        }
        let took = begun.elapsed();
        assert!(took < REFRESH_AFTER, "{took:?}");
        assert_eq!(self.repairs("digest").await, 0.0);
    }

    /// The number of parts repaired, at all gateways.
    async fn repairs(&self, found: &str) -> f64 {
        let mut all = 0.0;
        for dc in self.cluster.datacenters() {
            all += dc.gateway.metric(REPAIRS, &[("found", found)]).await;
        }
        all
    }

    /// The third gateway, which reaches both, receives all changes.
    async fn third_knows(
        &self,
        (one, other): (usize, usize),
        here: &Client,
        there: &Client,
        left: &str,
    ) {
        let third = self.cluster.dc(HOSTS[3 - one - other]);
        for (at, client) in [(one, here), (other, there)] {
            let jid = client.jid().replace(HOSTS[at], "example.test");
            third.gateway.until_claimed(&jid, Some(HOSTS[at])).await;
        }
        third.gateway.until_claimed(left, None).await;
    }

    /// Waits until `at` has no replication session from `far` any more.
    async fn until_given_up(&self, at: usize, far: usize) {
        // A connection is closed only after its idle timeout.
        let mut deadline = Deadline::after(2 * PATIENCE);
        let labels = [("host", HOSTS[far])];
        let gateway = &self.cluster.dc(HOSTS[at]).gateway;
        while gateway.metric("strait_mesh_links_up", &labels).await > 0.0 {
            assert!(!deadline.is_past(), "{at} still follows {far}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Logs dave in at that datacenter.
    async fn comes(&mut self, at: usize, resource: &str) -> Client {
        let client = self.cluster.login("dave", HOSTS[at], resource).await;
        self.known.push(global(&format!("dave/{resource}")));
        client
    }

    fn machine(&self, at: usize) -> Machine {
        self.network.machines()[at].clone()
    }

    async fn says(&self, from: usize, to: usize, text: &str) {
        self.who_stay[from].chat(&self.name(to), text).await;
    }

    async fn hears(&self, at: usize, from: usize, text: &str) {
        self.who_stay[at].expect_chat(&self.name(from), text).await;
    }

    async fn everybody_talks(&self, text: &str) {
        for from in 0..HOSTS.len() {
            for to in (0..HOSTS.len()).filter(|to| *to != from) {
                self.says(from, to, text).await;
                self.hears(to, from, text).await;
            }
        }
    }

    /// The bare JID in the shared domain of the user who stays there.
    fn name(&self, at: usize) -> String {
        global(["alice", "bob", "carol"][at])
    }
}

/// The JID of a user of the shared domain, perhaps with a resource.
fn global(user: &str) -> String {
    match user.split_once('/') {
        Some((user, resource)) => format!("{user}@example.test/{resource}"),
        None => format!("{user}@example.test"),
    }
}

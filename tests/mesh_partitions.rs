//! Three nodes of the mesh while pairs are cut off from each other and nodes
//! are killed: afterwards they know the same, soon.

mod support;

use std::time::Duration;

use strait::store::{Announcement, OwnClaim, Store};
use tokio::time::{Instant, sleep};

use support::cable::Cable;
use support::certs::Authority;
use support::mesh_node::{MeshNode, Plan, endpoint};
use support::patience::{Deadline, PATIENCE, until};
use support::port::Port;
use support::workdir::Workdir;

const HOSTS: [&str; 3] = ["dc1.test", "dc2.test", "dc3.test"];
/// Nothing expires while a pair is cut off.
const EXPIRE_AFTER: Duration = Duration::from_secs(60);
const REFRESH_AFTER: Duration = Duration::from_secs(5);
/// Claims of each node at the beginning.
const MANY: u64 = 3000;

/// Three nodes; each dials each other over a cable of its own.
struct World {
    authority: Authority,
    ports: Vec<Port>,
    /// `cables[from][to]`
    cables: Vec<Vec<Cable>>,
    nodes: Vec<Option<MeshNode>>,
    claims: u64,
    _workdir: Workdir,
}

impl World {
    async fn begin(name: &str) -> Self {
        let workdir = Workdir::new(name);
        let ports: Vec<Port> = HOSTS.iter().map(|_| Port::take()).collect();
        let mut cables = Vec::new();
        for _ in HOSTS {
            let mut of_one = Vec::new();
            for port in &ports {
                of_one.push(Cable::to(port.address()).await);
            }
            cables.push(of_one);
        }
        let mut world = Self {
            authority: Authority::new(&workdir.file("certs"), "authority"),
            ports,
            cables,
            nodes: Vec::new(),
            claims: 0,
            _workdir: workdir,
        };
        for at in 0..HOSTS.len() {
            let node = world.start(at).await;
            world.nodes.push(Some(node));
            world.claim(at, MANY).await;
        }
        world
    }

    async fn start(&self, at: usize) -> MeshNode {
        let others = (0..HOSTS.len()).filter(|other| *other != at);
        let plan = Plan {
            host: HOSTS[at],
            name: "n1",
            port: self.ports[at].number(),
            peers: others
                .map(|other| endpoint(self.cables[at][other].address()))
                .collect(),
            expire_after: EXPIRE_AFTER,
            refresh_after: REFRESH_AFTER,
        };
        let node = MeshNode::start(&self.authority, plan).await;
        // Without endpoints nobody learns a way around the cables.
        let announcement = Announcement {
            endpoints: Vec::new(),
            offers: Vec::new(),
        };
        let announced = node.store.announce(&announcement).await;
        announced.expect("the mesh takes it");
        node
    }

    fn node(&self, at: usize) -> &MeshNode {
        self.nodes[at].as_ref().expect("a node that runs")
    }

    /// Claims that nobody has made before.
    async fn claim(&mut self, at: usize, count: u64) {
        for _ in 0..count {
            self.claims += 1;
            let claim = OwnClaim {
                jid: format!("user{}@example.test", self.claims),
                since: self.claims,
                fresh: true,
            };
            let claimed = self.node(at).store.claim(&[claim]).await;
            claimed.expect("the mesh takes it");
        }
    }

    fn between(&self, one: usize, other: usize) -> [&Cable; 2] {
        [&self.cables[one][other], &self.cables[other][one]]
    }

    /// Waits until all know the same, and tells how long it took.
    async fn until_in_step(&self) -> Duration {
        let begun = Instant::now();
        until("all tables to be equal", async || {
            for (one, other) in pairs_both_ways() {
                let (one, other) = (self.node(one), self.node(other));
                if !one.is_in_step_with(other) {
                    return Err(format!(
                        "{:?} of {:?}",
                        one.store.replicas(),
                        other.store.replicas()
                    ));
                }
            }
            Ok(())
        })
        .await;
        begun.elapsed()
    }

    /// How many parts were put right, at all nodes.
    fn repairs(&self, found: &str) -> u64 {
        let nodes = self.nodes.iter().flatten();
        nodes
            .flat_map(|node| HOSTS.map(|host| node.repairs(host, found)))
            .sum()
    }
}

fn pairs_both_ways() -> impl Iterator<Item = (usize, usize)> {
    let all = (0..HOSTS.len()).flat_map(|one| (0..HOSTS.len()).map(move |other| (one, other)));
    all.filter(|(one, other)| one != other)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pair_is_cut_off_in_turn_and_each_node_killed() {
    let mut world = World::begin("mesh-partitions").await;
    world.until_in_step().await;
    assert_eq!(world.node(0).store.replicas()[2].claims as u64, MANY);

    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        let third = 3 - one - other;
        let before = world.repairs("connect");
        for cable in world.between(one, other) {
            cable.sever();
        }
        for at in [one, other] {
            world.claim(at, 10).await;
        }
        // The third one hears of it all the same.
        until("the third one to know", async || {
            let knows = [one, other].map(|at| world.node(third).is_in_step_with(world.node(at)));
            (knows == [true, true])
                .then_some(())
                .ok_or_else(|| format!("{knows:?}"))
        })
        .await;
        for cable in world.between(one, other) {
            cable.mend();
        }
        let took = world.until_in_step().await;
        assert!(took < REFRESH_AFTER, "{one}-{other}: {took:?}");
        let repaired = world.repairs("connect") - before;
        assert!(
            (2..=20).contains(&repaired),
            "{one}-{other}: {repaired} parts"
        );
    }

    for at in 0..HOSTS.len() {
        let killed = world.nodes[at].take().expect("a node that runs");
        killed.kill().await;
        let restarted = world.start(at).await;
        world.nodes[at] = Some(restarted);
        world.claim(at, 10).await;
        let took = world.until_in_step().await;
        assert!(took < REFRESH_AFTER, "{at}: {took:?}");
        // What it claimed before counts until it is found again or expires.
        let other = world.node((at + 1) % HOSTS.len());
        let claims = other.store.claims("user1@example.test").await;
        assert_eq!(claims.expect("an answer").len(), 1);
        // It knows it itself, having been told.
        let jid = format!("user{}@example.test", at as u64 * MANY + 1);
        until("it to be told what it claimed", async || {
            let claims = world.node(at).store.claims(&jid).await.expect("an answer");
            (claims.len() == 1)
                .then_some(())
                .ok_or_else(|| format!("{jid}: {claims:?}"))
        })
        .await;
    }
    // Nothing was ever lost on a connection that stood.
    assert_eq!(world.repairs("digest"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_hears_nothing_finds_out_and_catches_up() {
    let mut world = World::begin("mesh-silence").await;
    world.until_in_step().await;
    for cable in world.between(0, 1) {
        cable.cut();
    }
    world.claim(0, 10).await;
    // Both take the connections for dead, the more the claims: they still count.
    let gone = async |at: usize| {
        let what = "the silent connection to be given up";
        let mut deadline = Deadline::after(2 * PATIENCE);
        while world.node(at).store.status().linked.len() > 1 {
            assert!(!deadline.is_past(), "{what}");
            sleep(Duration::from_millis(50)).await;
        }
    };
    gone(0).await;
    gone(1).await;
    let claims = world.node(1).store.claims("user1@example.test").await;
    assert_eq!(claims.expect("an answer").len(), 1);
    for cable in world.between(0, 1) {
        cable.mend();
    }
    let took = world.until_in_step().await;
    assert!(took < 2 * REFRESH_AFTER, "{took:?}");
    assert_eq!(world.repairs("digest"), 0);
}

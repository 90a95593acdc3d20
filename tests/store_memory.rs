//! The store contract, kept by the table in memory.

#[allow(dead_code)]
#[path = "support/memory_store.rs"]
mod memory_store;
mod store_contract;

use std::sync::Arc;
use std::time::Duration;

use memory_store::MemoryCluster;
use store_contract::Bench;
use strait::host::Host;
use strait::store::Store;

struct Memory(MemoryCluster);

impl Bench for Memory {
    fn store(&self, host: &Host, node: &str) -> Arc<dyn Store> {
        self.0.store(host.clone(), node)
    }

    async fn write_as_mongooseim(&self, jid: &str, host: &Host) {
        self.0.write_plain(jid, host.clone());
    }

    async fn read_as_mongooseim(&self, jid: &str) -> Option<String> {
        self.0.plain(jid).map(|host| host.to_string())
    }
}

async fn table(expire_after: Duration) -> Memory {
    Memory(MemoryCluster::new(expire_after))
}

contract_tests!(tokio::test(start_paused = true), table);
mongooseim_contract_tests!(tokio::test(start_paused = true), table);

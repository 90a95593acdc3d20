//! The table in this process: for tests.
/// placeholder
pub struct MemoryStore;

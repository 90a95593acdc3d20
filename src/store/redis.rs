//! The table in Redis, in mod_global_distrib's layout.
/// placeholder
pub struct RedisStore;

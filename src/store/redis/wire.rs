//! A connection to one server or to a cluster, with the same interface.

use std::collections::HashMap;

use futures::FutureExt;
use futures::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
};

/// A connection that can be cloned; the clones share it.
///
/// In a pipeline, commands on keys with the same hash tag keep their order. Other commands may go
/// to different shards of a cluster, and overtake each other.
#[derive(Clone)]
pub(super) enum RedisWire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for RedisWire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let answers = match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => send_to_shards(connection, pipeline).boxed(),
        };
        answers.map(|answers| check(answers?)).boxed()
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Fails the pipeline for an error answer that is not about one command alone.
fn check(answers: Vec<Value>) -> RedisResult<Vec<Value>> {
    let errors = answers.iter().filter_map(|answer| match answer {
        Value::ServerError(error) => Some(RedisError::from(error.clone())),
        _ => None,
    });
    match errors.into_iter().find(|error| !is_of_one_command(error)) {
        Some(error) => Err(error),
        None => Ok(answers),
    }
}

/// Whether the server refused one command and may take others. A server that is out of memory or a
/// replica, for example, refuses all.
fn is_of_one_command(error: &RedisError) -> bool {
    use ServerErrorKind::{CrossSlot, NoScript, ResponseError};
    matches!(
        error.kind(),
        ErrorKind::Server(ResponseError | NoScript | CrossSlot)
    ) || error.code() == Some("WRONGTYPE")
}

/// Commands of a pipeline that must go to the same shard, and their places in the pipeline.
#[derive(Default)]
struct ShardCommands {
    pipeline: Pipeline,
    places: Vec<usize>,
}

/// Sends one pipeline for each hash tag, all at once: a pipeline of the cluster client must not
/// leave a slot.
async fn send_to_shards(
    connection: &ClusterConnection,
    pipeline: &Pipeline,
) -> RedisResult<Vec<Value>> {
    let groups = group(pipeline);
    let answers = groups.into_iter().map(|group| {
        let mut connection = connection.clone();
        async move {
            let count = group.places.len();
            let answers = connection
                .req_packed_commands(&group.pipeline, 0, count)
                .await?;
            RedisResult::Ok(group.places.into_iter().zip(answers))
        }
    });
    let mut placed = Vec::new();
    for answers in join_all(answers).await {
        placed.extend(answers?);
    }
    placed.sort_unstable_by_key(|(place, _)| *place);
    Ok(placed.into_iter().map(|(_, answer)| answer).collect())
}

fn group(pipeline: &Pipeline) -> Vec<ShardCommands> {
    let mut groups: Vec<ShardCommands> = Vec::new();
    let mut by_tag = HashMap::new();
    for (place, command) in pipeline.cmd_iter().enumerate() {
        let tag = first_key(command).map(hash_tag);
        let at = *by_tag.entry(tag).or_insert(groups.len());
        if at == groups.len() {
            groups.push(ShardCommands::default());
        }
        let group = &mut groups[at];
        group.pipeline.add_command(command.clone());
        group.places.push(place);
    }
    groups
}

/// First key of a command, for the commands that the store uses.
fn first_key(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter().filter_map(|word| match word {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    match words.next()? {
        b"EVAL" | b"EVALSHA" => words.nth(2),
        _ => words.next(),
    }
}

/// Part of `key` that selects the shard, by Redis Cluster's rule.
fn hash_tag(key: &[u8]) -> &[u8] {
    let tagged = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        memchr::memchr(b'}', rest).map(|close| &rest[..close])
    });
    tagged.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tag_is_what_the_first_braces_hold() {
        for (key, tag) in [
            ("alice@example.test", "alice@example.test"),
            ("{alice@example.test}#claims", "alice@example.test"),
            ("dc1.test#gw1#{endpoints}", "endpoints"),
            ("a{}{b}", "a{}{b}"),
            ("a{b", "a{b"),
            ("a{b}{c}", "b"),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn commands_of_one_tag_stay_together_and_in_order() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("alice@example.test");
        pipeline.cmd("EXISTS").arg("hosts");
        pipeline.cmd("SUNION").arg("dc1#{endpoints}");
        let keys = ["alice@example.test", "{alice@example.test}#claims"];
        pipeline.cmd("EVAL").arg("return 1").arg(2).arg(&keys);
        pipeline.cmd("SADD").arg("hosts").arg("dc1");
        let places: Vec<_> = group(&pipeline).into_iter().map(|g| g.places).collect();
        assert_eq!(places, [vec![0, 3], vec![1, 4], vec![2]]);
    }
}

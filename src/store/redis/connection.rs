//! One connection to Redis, opened at its first use and opened again when it fails.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind};

use super::site::RedisSite;
use super::wire::RedisWire;

/// A connection that is up or being opened; all users of it wait for the same attempt.
type Attempt = Shared<BoxFuture<'static, RedisResult<RedisWire>>>;

/// A connection that is replaced whenever it fails.
///
/// The connection manager of `redis` keeps a connection with answers that time out: after a network
/// outage without a reset, TCP would need minutes to detect it. Here a timeout closes the
/// connection.
pub(super) struct RedisConnection {
    server: Arc<RedisSite>,
    current: Mutex<Option<Attempt>>,
}

impl RedisConnection {
    pub(super) fn new(server: RedisSite) -> Self {
        Self {
            server: Arc::new(server),
            current: Mutex::new(None),
        }
    }

    /// Sends `commands` and reads their answers. The commands must be repeatable: if the connection
    /// turns out to be dead or to lead to a server that is not in charge any more, they are sent
    /// once more on a new connection.
    ///
    /// On a cluster, only commands with the same hash tag keep their order.
    pub(super) async fn query<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        let attempt = self.attempt();
        let was_up = attempt.peek().is_some();
        match self.query_on(attempt, commands).await {
            // After a timeout the commands are not sent again: the caller has waited already.
            Err(error) if was_up && ends_the_connection(&error) && !error.is_timeout() => {
                self.query_on(self.attempt(), commands).await
            }
            result => result,
        }
    }

    async fn query_on<T: FromRedisValue>(
        &self,
        attempt: Attempt,
        commands: &Pipeline,
    ) -> RedisResult<T> {
        let result = match attempt.clone().await {
            Ok(mut wire) => commands.query_async(&mut wire).await,
            Err(error) => Err(error),
        };
        if result.as_ref().is_err_and(ends_the_connection) {
            self.discard(&attempt);
        }
        result
    }

    fn attempt(&self) -> Attempt {
        let mut current = self.current.lock();
        current
            .get_or_insert_with(|| {
                let server = Arc::clone(&self.server);
                async move { server.connect().await }.boxed().shared()
            })
            .clone()
    }

    fn discard(&self, failed: &Attempt) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|it| it.ptr_eq(failed)) {
            *current = None;
        }
    }
}

/// Whether the error ends the connection: any error but a refusal of one command. A replica that
/// became read-only or has lost its master refuses all: there may be a better server by now.
fn ends_the_connection(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoScript)
            | ErrorKind::Extension
            | ErrorKind::UnexpectedReturnType
    )
}

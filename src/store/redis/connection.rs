//! One connection to Redis, made when it is first needed and made anew when
//! it fails.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind};

use super::site::RedisSite;
use super::wire::RedisWire;

/// A connection that stands or is being made; all who need it wait for the same.
type Attempt = Shared<BoxFuture<'static, RedisResult<RedisWire>>>;

/// A connection that is replaced whenever it fails.
///
/// `redis`'s own connection manager keeps a connection whose answers time
/// out: after a network outage without a reset, TCP would need minutes to
/// find out. Here a timeout ends it.
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

    /// Sends `commands` and reads their answers. They must be repeatable: if
    /// the connection turns out to be dead or to lead to a server that is not
    /// in charge any more, they are sent once more on a new one.
    ///
    /// On a cluster, only commands with the same hash tag keep their order.
    pub(super) async fn query<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        let attempt = self.attempt();
        let was_up = attempt.peek().is_some();
        match self.query_on(attempt, commands).await {
            // Who waited for an answer in vain does not wait twice.
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

/// Everything but a refusal of one command. A replica that became read-only
/// or has lost its master refuses all: there may be a better server by now.
fn ends_the_connection(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoScript)
            | ErrorKind::Extension
            | ErrorKind::UnexpectedReturnType
    )
}

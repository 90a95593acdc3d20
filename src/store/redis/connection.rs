//! One connection to Redis, made when it is first needed and made anew when
//! it fails.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult,
    ServerErrorKind,
};

/// Long enough for a batch of claims over a long line, short enough not to
/// hold up what waits behind it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection that stands or is being made; all who need it wait for the same.
type Attempt = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// A connection that is replaced whenever it fails.
///
/// `redis`'s own connection manager keeps a connection whose answers time
/// out: after a network outage without a reset, TCP would need minutes to
/// find out. Here a timeout ends it.
pub(super) struct Connection {
    client: Client,
    current: Mutex<Option<Attempt>>,
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            current: Mutex::new(None),
        }
    }

    /// Sends `commands` and reads their answers. They must be repeatable: if
    /// the connection turns out to be dead, they are sent once more on a new one.
    pub(super) async fn query<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        let attempt = self.attempt();
        let was_up = attempt.peek().is_some();
        match self.query_on(attempt, commands).await {
            Err(error) if was_up && error.is_connection_dropped() => {
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
            Ok(mut connection) => commands.query_async(&mut connection).await,
            Err(error) => Err(error),
        };
        if result.as_ref().is_err_and(ends_the_connection) {
            self.discard(&attempt);
        }
        result
    }

    fn attempt(&self) -> Attempt {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current
            .get_or_insert_with(|| {
                let client = self.client.clone();
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(PATIENCE))
                    .set_response_timeout(Some(PATIENCE));
                async move {
                    client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await
                }
                .boxed()
                .shared()
            })
            .clone()
    }

    fn discard(&self, failed: &Attempt) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|it| it.ptr_eq(failed)) {
            *current = None;
        }
    }
}

/// Everything but a refusal of one command. A replica that became read-only
/// or has lost its master refuses all: there may be a better server at the
/// same address by now.
fn ends_the_connection(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ResponseError)
            | ErrorKind::Extension
            | ErrorKind::UnexpectedReturnType
    )
}

//! Answers of the store, kept with the time they were given.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::store::{StoreError, within};

/// A question without an answer for so long is given up, and may be asked again.
const GIVE_UP: Duration = Duration::from_secs(3);

type Answer<T> = Result<T, StoreError>;

/// Keeps the answers to one kind of question. They never expire here, since
/// an old answer is better than none when the store is away: who takes one
/// judges its age. One question is asked only once at a time.
pub(super) struct LookupCache<T> {
    kept: moka::sync::Cache<String, CachedAnswer<T>>,
    asking: Mutex<Asking<T>>,
}

/// An answer and when it was given.
#[derive(Clone)]
pub(super) struct CachedAnswer<T> {
    pub(super) value: T,
    pub(super) at: Instant,
    /// Something speaks against it: it only counts if there is no newer one.
    pub(super) doubted: bool,
}

struct Asking<T> {
    next_id: u64,
    flights: HashMap<String, Flight<T>>,
}

/// A question that is being asked.
#[derive(Clone)]
struct Flight<T> {
    id: u64,
    answer: Shared<BoxFuture<'static, Answer<T>>>,
}

impl<T: Clone + Send + Sync + 'static> LookupCache<T> {
    pub(super) fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            kept: moka::sync::Cache::new(capacity),
            asking: Mutex::new(Asking {
                next_id: 0,
                flights: HashMap::new(),
            }),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<CachedAnswer<T>> {
        self.kept.get(key)
    }

    pub(super) fn put(&self, key: &str, value: T) {
        let kept = CachedAnswer {
            value,
            at: Instant::now(),
            doubted: false,
        };
        self.kept.insert(key.to_owned(), kept);
    }

    /// Drops the answer for `key`, and one that is on its way: it may be older
    /// than what makes us forget.
    pub(super) fn forget(&self, key: &str) {
        self.asking().flights.remove(key);
        self.kept.invalidate(key);
    }

    /// Doubts an answer for `key` that is at least `age` old, and one that is
    /// on its way: the question will be asked anew. Until there is an answer to
    /// that, the old one stays.
    pub(super) fn doubt(&self, key: &str, age: Duration) {
        let mut asking = self.asking();
        match self.kept.get(key) {
            Some(kept) if kept.at.elapsed() < age => return,
            Some(kept) => {
                let kept = CachedAnswer {
                    doubted: true,
                    ..kept
                };
                self.kept.insert(key.to_owned(), kept);
            }
            None => {}
        }
        asking.flights.remove(key);
    }

    /// Asks by `question`, unless that is being done already, and keeps the
    /// answer if `is_kept` says so. It goes on being asked if nobody
    /// waits so long: the next one who asks will find the answer.
    pub(super) async fn ask(
        self: &Arc<Self>,
        key: &str,
        question: impl Future<Output = Answer<T>> + Send + 'static,
        is_kept: fn(&T) -> bool,
    ) -> Answer<T> {
        let answer = {
            let mut asking = self.asking();
            match asking.flights.get(key) {
                Some(flight) => flight.answer.clone(),
                None => {
                    let id = asking.next_id;
                    asking.next_id += 1;
                    let answer = self.clone().fly(key.to_owned(), id, question, is_kept);
                    let flight = Flight { id, answer };
                    asking.flights.insert(key.to_owned(), flight.clone());
                    flight.answer
                }
            }
        };
        answer.await
    }

    fn fly(
        self: Arc<Self>,
        key: String,
        id: u64,
        question: impl Future<Output = Answer<T>> + Send + 'static,
        is_kept: fn(&T) -> bool,
    ) -> Shared<BoxFuture<'static, Answer<T>>> {
        let task = tokio::spawn(async move {
            let answer = within(GIVE_UP, question).await;
            self.land(&key, id, &answer, is_kept);
            answer
        });
        let answer = async move {
            task.await
                .unwrap_or_else(|error| Err(StoreError(format!("a look-up broke off: {error}"))))
        };
        answer.boxed().shared()
    }

    fn land(&self, key: &str, id: u64, answer: &Answer<T>, is_kept: fn(&T) -> bool) {
        let mut asking = self.asking();
        if asking.flights.get(key).is_none_or(|flight| flight.id != id) {
            return;
        }
        asking.flights.remove(key);
        match answer {
            Ok(value) if is_kept(value) => self.put(key, value.clone()),
            Ok(_) => self.kept.invalidate(key),
            Err(_) => {}
        }
    }

    fn asking(&self) -> MutexGuard<'_, Asking<T>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

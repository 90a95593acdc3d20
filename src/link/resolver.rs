//! Resolves names to addresses.
//!
//! The resolver asks the system's resolver, so that names mean here what they mean
//! to every program of this machine. But a system look-up can't be interrupted: a
//! missing answer holds a thread for as long as the system likes. So look-ups have
//! threads of their own, at most one for a name, and the dialler waits for a
//! look-up only for a limited time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::timeout;

use super::CONNECT_LIMIT;

/// Largest number of names looked up at once. Each look-up has a thread.
const THREADS: usize = 64;

type Outcome = Result<Vec<IpAddr>, String>;
type Pending = HashMap<String, watch::Receiver<Option<Outcome>>>;

/// Looks names up, each anew at every request.
pub(super) struct Resolver {
    look_up: Arc<LookUp>,
    pending: Arc<Mutex<Pending>>,
}

type LookUp = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Resolver {
    /// Creates a resolver that asks the system.
    pub(super) fn system() -> Self {
        Self::asking(|name| {
            // The port plays no part in the look-up.
            let found = (name, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    /// Creates a resolver that asks `look_up`, which may block.
    pub(super) fn asking(
        look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            look_up: Arc::new(look_up),
            pending: Arc::default(),
        }
    }

    /// Returns the addresses of `host`, which may be an address itself.
    ///
    /// # Errors
    /// When there are none, or no answer comes in time; the error is in words.
    pub(super) async fn resolve(&self, host: &str) -> Outcome {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let mut answer = self.ask(host)?;
        let outcome = match timeout(CONNECT_LIMIT, answer.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) => None,
            Err(_) => return Err(format!("no answer within {CONNECT_LIMIT:?}")),
        };
        match outcome {
            Some(Ok(addresses)) if addresses.is_empty() => Err("it has no addresses".to_owned()),
            Some(outcome) => outcome,
            None => Err("the look-up ended without an answer".to_owned()),
        }
    }

    /// Joins the look-up of `host` that is under way, or starts one.
    fn ask(&self, host: &str) -> Result<watch::Receiver<Option<Outcome>>, String> {
        let mut pending = lock(&self.pending);
        // A look-up with a dead thread will never be answered.
        pending.retain(|_, answer| answer.has_changed().is_ok());
        if let Some(answer) = pending.get(host) {
            return Ok(answer.clone());
        }
        if pending.len() >= THREADS {
            return Err(format!("{THREADS} other look-ups have no answer yet"));
        }
        let (tell, answer) = watch::channel(None);
        let (look_up, all, name) = (
            Arc::clone(&self.look_up),
            Arc::clone(&self.pending),
            host.to_owned(),
        );
        let look_up = move || {
            let outcome = look_up(&name).map_err(|error| error.to_string());
            lock(&all).remove(&name);
            // The requesters may have given up.
            tell.send_replace(Some(outcome));
        };
        thread::Builder::new()
            .name("resolve".to_owned())
            .spawn(look_up)
            .map_err(|error| format!("no thread for the look-up: {error}"))?;
        pending.insert(host.to_owned(), answer.clone());
        Ok(answer)
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pending = lock(&self.pending);
        f.debug_struct("Resolver")
            .field("pending", &pending.keys())
            .finish_non_exhaustive()
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Every look-up sends its name when it starts; look-ups of names that start
    /// with `hung` end when the sender is dropped.
    fn partly_hung() -> (Resolver, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(Some(released));
        let (start, started) = mpsc::channel();
        let start = Mutex::new(start);
        let resolver = Resolver::asking(move |name| {
            start.lock().send(name.to_owned()).ok();
            if name.starts_with("hung") {
                let released = released.lock().take();
                released.map(|released| released.recv().ok());
            }
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        });
        (resolver, release, started)
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let resolver = Resolver::asking(|name| panic!("{name} was looked up"));
        for address in ["127.0.0.1", "::1"] {
            let expected = vec![address.parse().unwrap()];
            assert_eq!(resolver.resolve(address).await, Ok(expected));
        }
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let addresses = Resolver::system().resolve("localhost").await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
        let error = Resolver::system().resolve("no such name").await;
        assert!(error.is_err(), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_hangs_has_one_thread_and_delays_no_other() {
        let (resolver, release, started) = partly_hung();
        for _ in 0..20 {
            let error = resolver.resolve("hung.test").await.unwrap_err();
            assert!(error.contains("no answer within"), "{error}");
        }
        // The clock is paused, the thread is not: it may only start now.
        assert_eq!(started.recv().as_deref(), Ok("hung.test"));
        tokio::time::resume();
        assert!(resolver.resolve("other.test").await.is_ok());
        assert_eq!(
            started.recv().as_deref(),
            Ok("other.test"),
            "one was enough"
        );
        // The late answer counts when it comes, and the name is looked up anew then.
        let mut answer = resolver.ask("hung.test").unwrap();
        drop(release);
        answer.wait_for(Option::is_some).await.unwrap();
        assert!(resolver.resolve("hung.test").await.is_ok());
        assert_eq!(started.recv().as_deref(), Ok("hung.test"));
    }

    #[tokio::test]
    async fn only_so_many_names_are_looked_up_at_once() {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let resolver = Resolver::asking(move |_| {
            released.lock().recv().ok();
            Ok(Vec::new())
        });
        let names: Vec<_> = (0..THREADS).map(|n| format!("gw{n}.test")).collect();
        let answers: Vec<_> = names.iter().map(|name| resolver.ask(name)).collect();
        assert!(answers.iter().all(Result::is_ok));
        assert!(resolver.ask("one.more.test").is_err());
        assert!(resolver.ask("gw1.test").is_ok(), "that one is under way");
        drop(release);
        for mut answer in answers.into_iter().flatten() {
            answer.wait_for(Option::is_some).await.unwrap();
        }
        assert!(resolver.ask("one.more.test").is_ok());
    }
}

//! Everything that a connection has received: raw for later checks, parsed for waiting.

use std::collections::VecDeque;
use std::fmt::Write as _;

use minidom::Element;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;

use super::patience::{Deadline, PATIENCE};
use super::xml::{Piece, Splitter};

/// A reader task fills the inbox, and the test takes elements from it.
#[derive(Debug)]
pub struct Inbox {
    owner: String,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Headers and elements in the order of arrival, raw.
    raw: Vec<String>,
    header: Option<String>,
    /// Elements that no test code has taken yet.
    pending: VecDeque<Element>,
    closed: bool,
}

impl Inbox {
    /// Creates an empty inbox. `owner` is for messages.
    pub fn new(owner: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// The owner's name, for messages.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Reads until the connection ends. Elements that `intercept` takes are kept as raw text
    /// only.
    pub async fn fill(
        &self,
        mut from: OwnedReadHalf,
        namespace: &'static str,
        mut intercept: impl FnMut(&Element) -> bool,
    ) {
        let mut splitter = Splitter::new(namespace);
        while let Ok(1..) = from.read_buf(splitter.buffer()).await {
            while let Some(piece) = splitter.next() {
                self.put(piece, &mut intercept);
            }
        }
        self.change(|state| state.closed = true);
    }

    fn put(&self, piece: Piece, intercept: &mut impl FnMut(&Element) -> bool) {
        match piece {
            Piece::Header(raw) => self.change(|state| {
                state.raw.push(raw.clone());
                state.header = Some(raw);
            }),
            Piece::Element(element, raw) => {
                let taken = intercept(&element);
                self.change(|state| {
                    state.raw.push(raw);
                    if !taken {
                        state.pending.push_back(*element);
                    }
                });
            }
            Piece::End => self.change(|state| state.closed = true),
        }
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state());
        self.changes.send_modify(|times| *times += 1);
    }

    /// Takes the first matching element that was not taken before, and waits for it if necessary.
    /// Earlier elements stay in the inbox.
    ///
    /// # Panics
    /// When none arrives in time or the connection ends first; lists the received elements.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Element) -> bool) -> Element {
        self.wait(what, |state| {
            let at = state.pending.iter().position(&wanted)?;
            state.pending.remove(at)
        })
        .await
    }

    /// Like [`until`](Self::until), without a bound, for elements that may never arrive.
    pub async fn whenever(&self, wanted: impl Fn(&Element) -> bool) -> Element {
        let mut changes = self.changes.subscribe();
        loop {
            {
                let mut state = self.state();
                let at = state.pending.iter().position(&wanted);
                if let Some(found) = at.and_then(|at| state.pending.remove(at)) {
                    return found;
                }
            }
            changes.changed().await.expect("we hold the sender");
        }
    }

    /// Waits for a stream header; returns each header once.
    pub async fn header(&self) -> String {
        self.wait("a stream header", |state| state.header.take())
            .await
    }

    /// Waits until the other side has ended the stream or the connection.
    pub async fn closed(&self) {
        self.wait("the end of the stream", |state| state.closed.then_some(()))
            .await;
    }

    /// Whether the stream or the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Everything received, raw.
    pub fn raw(&self) -> Vec<String> {
        self.state().raw.clone()
    }

    /// The elements received and not taken yet.
    pub fn pending(&self) -> Vec<Element> {
        self.state().pending.iter().cloned().collect()
    }

    async fn wait<T>(&self, what: &str, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut deadline = Deadline::after(PATIENCE);
        let mut changes = self.changes.subscribe();
        loop {
            let closed = {
                let mut state = self.state();
                if let Some(found) = take(&mut state) {
                    return found;
                }
                state.closed
            };
            if closed {
                panic!(
                    "{}: {what} never came, the stream has ended; {self}",
                    self.owner
                );
            }
            if deadline.wait(changes.changed()).await.is_err() {
                panic!("{}: waited {PATIENCE:?} for {what}; {self}", self.owner);
            }
        }
    }
}

impl std::fmt::Display for Inbox {
    /// Prints everything received, for failure messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let mut list = String::new();
        for raw in &state.raw {
            write!(list, "\n  {raw}")?;
        }
        write!(f, "{} pieces received:{list}", state.raw.len())
    }
}

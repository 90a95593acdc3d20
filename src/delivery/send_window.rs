//! The sender's window of one connection: items written and not acknowledged, or
//! still to write.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;

/// Items in order: those written on the present connection, then those to write. An
/// item gets a number at its first write and keeps it.
#[derive(Debug)]
pub(crate) struct SendWindow<T> {
    entries: VecDeque<Unacknowledged<T>>,
    /// Number of `entries` that need no writing on the present connection.
    written: usize,
    last_number: u64,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Unacknowledged<T> {
    /// Set at the first write.
    pub(crate) number: Option<u64>,
    pub(crate) size: usize,
    pub(crate) item: T,
}

#[derive(Debug)]
pub(crate) struct NextToWrite<'a, T> {
    pub(crate) number: u64,
    /// The item was not written before on any connection of this window.
    pub(crate) is_first: bool,
    pub(crate) item: &'a T,
}

/// An acknowledgement names a number that was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it acknowledged stanza {through}, but only {written} were written")]
pub(crate) struct BeyondWritten {
    pub(crate) through: u64,
    pub(crate) written: u64,
}

impl<T> Default for SendWindow<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            written: 0,
            last_number: 0,
            bytes: 0,
        }
    }
}

impl<T> SendWindow<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of the sizes given to [`Self::push`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts the items that the receiver has over the present connection.
    pub(crate) fn awaiting_ack(&self) -> usize {
        self.written
    }

    /// Iterates in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Unacknowledged<T>> {
        self.entries.iter()
    }

    /// Iterates in order, to change the items.
    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.item)
    }

    /// Queues an item behind all others.
    pub(crate) fn push(&mut self, item: T, size: usize) {
        self.bytes += size;
        self.entries.push_back(Unacknowledged {
            number: None,
            size,
            item,
        });
    }

    /// Returns the next item to write on the present connection; the item counts as written.
    pub(crate) fn next_to_write(&mut self) -> Option<NextToWrite<'_, T>> {
        let entry = self.entries.get_mut(self.written)?;
        self.written += 1;
        let is_first = entry.number.is_none();
        let number = *entry.number.get_or_insert_with(|| {
            self.last_number += 1;
            self.last_number
        });
        Some(NextToWrite {
            number,
            is_first,
            item: &entry.item,
        })
    }

    /// Begins a new connection: all items after `resume_after` are to be written,
    /// in order, before any newer one.
    ///
    /// # Errors
    /// When no item with that number was ever written.
    pub(crate) fn reconnect(&mut self, resume_after: u64) -> Result<(), BeyondWritten> {
        self.check(resume_after)?;
        self.written = self.numbered_through(resume_after);
        Ok(())
    }

    /// Takes out the items that the receiver has settled. A late ack finds nothing.
    ///
    /// # Errors
    /// When no item with that number was ever written.
    pub(crate) fn acknowledge(
        &mut self,
        through: u64,
    ) -> Result<Drain<'_, Unacknowledged<T>>, BeyondWritten> {
        self.check(through)?;
        let settled = self.numbered_through(through);
        self.written = self.written.saturating_sub(settled);
        let entries = self.entries.range(..settled);
        self.bytes -= entries.map(|entry| entry.size).sum::<usize>();
        Ok(self.entries.drain(..settled))
    }

    /// Takes out the items that are `wanted`, in order; their numbers become gaps.
    pub(crate) fn extract(
        &mut self,
        wanted: impl Fn(&Unacknowledged<T>) -> bool,
    ) -> Vec<Unacknowledged<T>> {
        if !self.entries.iter().any(&wanted) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.entries.len());
        let mut written = self.written;
        for (position, entry) in self.entries.drain(..).enumerate() {
            if wanted(&entry) {
                written -= usize::from(position < self.written);
                self.bytes -= entry.size;
                taken.push(entry);
            } else {
                kept.push_back(entry);
            }
        }
        self.entries = kept;
        self.written = written;
        taken
    }

    fn check(&self, number: u64) -> Result<(), BeyondWritten> {
        if number <= self.last_number {
            return Ok(());
        }
        Err(BeyondWritten {
            through: number,
            written: self.last_number,
        })
    }

    /// Counts the entries with a number up to `through`. Numbers are given in
    /// order, so entries without one stand behind.
    fn numbered_through(&self, through: u64) -> usize {
        self.entries
            .partition_point(|entry| entry.number.is_some_and(|number| number <= through))
    }
}

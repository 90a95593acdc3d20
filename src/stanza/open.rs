//! The elements that are open at one place of a stream.

/// The names of the open elements, and of the end tag being read.
#[derive(Debug)]
pub(super) struct OpenElements {
    /// One name behind the other.
    names: Vec<u8>,
    /// Where in `names` each open element's begins.
    begins: Vec<usize>,
    /// Where in `names` the end tag's begins.
    closing: usize,
    /// How long `names` may become, in bytes.
    limit: usize,
}

impl OpenElements {
    /// None, whose names may together have `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            names: Vec::new(),
            begins: Vec::new(),
            closing: 0,
            limit,
        }
    }

    /// How many are open.
    pub(super) fn depth(&self) -> usize {
        self.begins.len()
    }

    /// A start tag's name begins.
    pub(super) fn begin(&mut self) {
        self.begins.push(self.names.len());
    }

    /// An end tag's name begins.
    pub(super) fn begin_end(&mut self) {
        self.closing = self.names.len();
    }

    /// The name that has begun goes on.
    ///
    /// # Errors
    /// When there is room for so many bytes only.
    pub(super) fn extend(&mut self, part: &[u8]) -> Result<(), usize> {
        let room = self.limit - self.names.len();
        if part.len() > room {
            return Err(room);
        }
        self.names.extend_from_slice(part);
        Ok(())
    }

    /// The end tag's name is complete. It must be that of the innermost open
    /// element, or with none open that of the stream's root, whose prefix is
    /// not known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn match_end(&mut self) -> Result<(), String> {
        let (open, end) = self.names.split_at(self.closing);
        match self.begins.last() {
            Some(&begin) if open[begin..] == *end => {}
            Some(&begin) => {
                let (end, open) = (shown(end), shown(&open[begin..]));
                return Err(format!("</{end}> where </{open}> should be"));
            }
            None if end == b"stream" || end.ends_with(b":stream") => {}
            None => return Err("an end tag without a start tag".into()),
        }
        self.names.truncate(self.closing);
        Ok(())
    }

    /// The innermost one ends.
    pub(super) fn close(&mut self) {
        if let Some(begin) = self.begins.pop() {
            self.names.truncate(begin);
        }
    }
}

/// A name for an error message, shortened when no sane one.
fn shown(name: &[u8]) -> String {
    const ENOUGH: usize = 40;
    String::from_utf8_lossy(name).chars().take(ENOUGH).collect()
}

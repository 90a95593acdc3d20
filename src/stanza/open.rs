//! The elements that are open at one place of a stream.

/// The names of the open elements, and of the end tag being read.
#[derive(Debug)]
pub(super) struct OpenElements {
    /// Names of the open elements, concatenated.
    names: Vec<u8>,
    /// Offset in `names` at which each open element's name begins.
    begins: Vec<usize>,
    /// Offset in `names` at which the end tag's name begins.
    closing: usize,
    /// Upper bound for the length of `names`, in bytes.
    limit: usize,
}

impl OpenElements {
    /// Creates an empty list; all names together may have `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            names: Vec::new(),
            begins: Vec::new(),
            closing: 0,
            limit,
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.begins.len()
    }

    pub(super) fn begin(&mut self) {
        self.begins.push(self.names.len());
    }

    pub(super) fn begin_end(&mut self) {
        self.closing = self.names.len();
    }

    /// Appends `part` to the name that was begun last.
    ///
    /// # Errors
    /// Returns the number of bytes of `part` that still fit.
    pub(super) fn extend(&mut self, part: &[u8]) -> Result<(), usize> {
        let room = self.limit - self.names.len();
        if part.len() > room {
            return Err(room);
        }
        self.names.extend_from_slice(part);
        Ok(())
    }

    /// Ends the end tag's name. The name must equal that of the innermost open element; with no
    /// open element, it must be `stream`, with any prefix, because the prefix of the stream's
    /// root is unknown here.
    ///
    /// # Errors
    /// A description of the mismatch.
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

    pub(super) fn close(&mut self) {
        if let Some(begin) = self.begins.pop() {
            self.names.truncate(begin);
        }
    }
}

/// Shortens a long or illegal name for an error message.
fn shown(name: &[u8]) -> String {
    const ENOUGH: usize = 40;
    String::from_utf8_lossy(name).chars().take(ENOUGH).collect()
}

//! Finds the end of a top-level element: this part of the scanner sees a stream read by read, and
//! keeps its state between reads.
//!
//! The module parses just enough of XML to find the end with certainty, and fails as soon as that
//! is impossible. Everything else is checked by [`check`](super::check) once the element is
//! complete.

use memchr::{memchr, memchr2, memmem};

use super::open::OpenElements;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// From [`Bounds::start`] to [`Bounds::position`].
    Element,
    /// A comment or another item between elements that RFC 6120 §11.1 forbids.
    Restricted(&'static str),
    /// The end tag of the stream's root.
    End,
}

/// The error when the end of the element cannot be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) what: String,
    /// Offset in the bytes passed to [`Bounds::advance`].
    pub(super) offset: usize,
}

/// The syntax at the current position.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Text, or the space between top-level elements.
    Content,
    /// A `<`; the construct that begins with it is not known yet.
    Markup,
    /// A part of a start tag's name.
    StartName,
    /// The rest of a start tag, outside of values.
    Attributes,
    /// An attribute's value, which ends with `quote`.
    Value { quote: u8 },
    /// Behind the `/` in a start tag.
    Slash,
    /// A part of an end tag's name.
    EndName,
    /// Behind the name of an end tag.
    EndSpace,
    /// A construct that ends with `end`, with any contents.
    Until {
        end: &'static str,
        /// The name in the error for this construct on the top level.
        what: &'static str,
    },
    /// A document type declaration, without an internal subset.
    Doctype { quote: Option<u8> },
}

/// The result of one step.
enum Step {
    /// The state has changed; take the next step.
    Go,
    /// More bytes are needed.
    Starved,
    Complete(Piece),
}

const CDATA: &[u8] = b"<![CDATA[";
const COMMENT: &[u8] = b"<!--";
const DOCTYPE: &[u8] = b"<!DOCTYPE";

/// The bytes that end a name in a tag.
static NAME_ENDS: [bool; 256] = table(b"></ \t\n\r");
/// The bytes with a meaning in a start tag, outside of values.
static TAG_MARKS: [bool; 256] = table(b"></'\"");

const fn table(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
}

#[derive(Debug)]
pub(super) struct Bounds {
    state: State,
    /// The bytes before this offset are parsed.
    position: usize,
    /// Offset at which the current top-level element begins.
    start: usize,
    /// Offset at which the start tag of that element ends.
    head_end: Option<usize>,
    /// The greatest nesting depth in that element.
    deepest: usize,
    open: OpenElements,
}

impl Bounds {
    /// Creates the state for a new stream; the names of all open elements together may have
    /// `names_limit` bytes.
    pub(super) fn new(names_limit: usize) -> Self {
        Self {
            state: State::Content,
            position: 0,
            start: 0,
            head_end: None,
            deepest: 0,
            open: OpenElements::new(names_limit),
        }
    }

    /// The bytes before this offset are parsed.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// `None` until the start tag of the current top-level element is complete.
    pub(super) fn head_end(&self) -> Option<usize> {
        self.head_end
    }

    /// The greatest nesting depth in the current top-level element, which counts as 1.
    pub(super) fn deepest(&self) -> usize {
        self.deepest
    }

    pub(super) fn is_inside(&self) -> bool {
        self.open.depth() > 0 || !matches!(self.state, State::Content)
    }

    /// Shifts all offsets after the caller has removed the first `count` bytes, which must be
    /// parsed.
    pub(super) fn forget(&mut self, count: usize) {
        self.position -= count;
        self.start = self.start.saturating_sub(count);
        self.head_end = self.head_end.map(|end| end.saturating_sub(count));
    }

    /// Continues at the current position. `bytes` must begin with the bytes of the previous call;
    /// `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the end of the element cannot be found any more.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Broken> {
        loop {
            let step = match self.state {
                State::Content => self.content(bytes)?,
                State::Markup => self.markup(bytes)?,
                State::StartName => self.start_name(bytes)?,
                State::Attributes => self.attributes(bytes)?,
                State::Value { quote } => self.value(bytes, quote)?,
                State::Slash => self.slash(bytes)?,
                State::EndName => self.end_name(bytes)?,
                State::EndSpace => self.end_space(bytes)?,
                State::Until { end, what } => self.until(bytes, end, what),
                State::Doctype { quote } => self.doctype(bytes, quote)?,
            };
            match step {
                Step::Go => {}
                Step::Starved => return Ok(None),
                Step::Complete(piece) => return Ok(Some(piece)),
            }
        }
    }

    fn content(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        let from = self.position;
        let found = memchr(b'<', &bytes[from..]);
        let to = found.map_or(bytes.len(), |at| from + at);
        if self.open.depth() == 0
            && let Some(at) = bytes[from..to].iter().position(|&byte| !is_space(byte))
        {
            return Err(broken("text between stanzas", from + at));
        }
        self.position = to;
        if found.is_none() {
            return Ok(Step::Starved);
        }
        if self.open.depth() == 0 {
            self.start = to;
            self.head_end = None;
            self.deepest = 0;
        }
        self.state = State::Markup;
        Ok(Step::Go)
    }

    fn markup(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        let at = self.position;
        let Some(&next) = bytes.get(at + 1) else {
            return Ok(Step::Starved);
        };
        let (length, state) = match next {
            b'/' => {
                self.open.begin_end();
                (2, State::EndName)
            }
            b'?' => {
                let what = "a processing instruction";
                (2, State::Until { end: "?>", what })
            }
            b'!' => match self.declaration(&bytes[at..])? {
                Some(known) => known,
                None => return Ok(Step::Starved),
            },
            // The check that a letter may begin a name follows later.
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' | 0x80.. => {
                self.open.begin();
                self.deepest = self.deepest.max(self.open.depth());
                (1, State::StartName)
            }
            _ => return Err(broken("a < that begins no tag", at)),
        };
        self.position += length;
        self.state = state;
        Ok(Step::Go)
    }

    /// Classifies a construct that begins with `<!`; `None` when there are too few bytes to
    /// decide.
    fn declaration(&self, bytes: &[u8]) -> Result<Option<(usize, State)>, Broken> {
        let comment = State::Until {
            end: "-->",
            what: "a comment",
        };
        let cdata = State::Until {
            end: "]]>",
            what: "a CDATA section",
        };
        let known = [
            (COMMENT, comment),
            (CDATA, cdata),
            (DOCTYPE, State::Doctype { quote: None }),
        ];
        for (mark, state) in known {
            if bytes.starts_with(mark) {
                if mark == CDATA && self.open.depth() == 0 {
                    return Err(broken("text between stanzas", self.position));
                }
                return Ok(Some((mark.len(), state)));
            }
            if mark.starts_with(bytes) {
                return Ok(None);
            }
        }
        Err(broken("a <! that begins nothing known", self.position))
    }

    fn start_name(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        match self.name(bytes)? {
            None => return Ok(Step::Starved),
            Some(b'<') => return Err(broken("a tag inside of a tag", self.position)),
            Some(_) => {}
        }
        self.state = State::Attributes;
        Ok(Step::Go)
    }

    /// Consumes the rest of a name, and returns the byte behind it.
    fn name(&mut self, bytes: &[u8]) -> Result<Option<u8>, Broken> {
        let rest = &bytes[self.position..];
        let length = rest.iter().position(|&byte| NAME_ENDS[usize::from(byte)]);
        let name = &rest[..length.unwrap_or(rest.len())];
        if let Err(room) = self.open.extend(name) {
            let what = "elements are nested too deep to find their end";
            return Err(broken(what, self.position + room));
        }
        self.position += name.len();
        Ok(length.map(|length| rest[length]))
    }

    fn attributes(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        let rest = &bytes[self.position..];
        let Some(plain) = rest.iter().position(|&byte| TAG_MARKS[usize::from(byte)]) else {
            self.position = bytes.len();
            return Ok(Step::Starved);
        };
        let at = self.position + plain;
        self.position = at + 1;
        self.state = match rest[plain] {
            b'>' => return Ok(self.start_tag_ends(false)),
            b'<' => return Err(broken("a tag inside of a tag", at)),
            b'/' => State::Slash,
            quote => State::Value { quote },
        };
        Ok(Step::Go)
    }

    fn value(&mut self, bytes: &[u8], quote: u8) -> Result<Step, Broken> {
        let Some(found) = memchr2(quote, b'<', &bytes[self.position..]) else {
            self.position = bytes.len();
            return Ok(Step::Starved);
        };
        let at = self.position + found;
        if bytes[at] == b'<' {
            // The quote before it may never have been closed. A wrong guess could swallow the
            // stanzas behind it.
            return Err(broken("a < in an attribute's value", at));
        }
        self.position = at + 1;
        self.state = State::Attributes;
        Ok(Step::Go)
    }

    fn slash(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        match bytes.get(self.position) {
            None => Ok(Step::Starved),
            Some(b'>') => {
                self.position += 1;
                Ok(self.start_tag_ends(true))
            }
            // `<a/ >` is ambiguous: empty or not.
            Some(_) => Err(broken("a / inside of a tag", self.position)),
        }
    }

    fn start_tag_ends(&mut self, empty: bool) -> Step {
        if self.open.depth() == 1 {
            self.head_end = Some(self.position);
        }
        self.state = State::Content;
        if empty { self.close() } else { Step::Go }
    }

    /// Closes the innermost open element, which ends at the position.
    fn close(&mut self) -> Step {
        self.state = State::Content;
        self.open.close();
        if self.open.depth() == 0 {
            Step::Complete(Piece::Element)
        } else {
            Step::Go
        }
    }

    fn end_name(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        match self.name(bytes)? {
            None => return Ok(Step::Starved),
            Some(b'<') => return Err(broken("a tag inside of a tag", self.position)),
            Some(b'/') => return Err(broken("a / in an end tag", self.position)),
            Some(_) => {}
        }
        if let Err(what) = self.open.match_end() {
            return Err(broken(what, self.position));
        }
        self.state = State::EndSpace;
        Ok(Step::Go)
    }

    fn end_space(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        let rest = &bytes[self.position..];
        let Some(spaces) = rest.iter().position(|&byte| !is_space(byte)) else {
            self.position = bytes.len();
            return Ok(Step::Starved);
        };
        self.position += spaces;
        if rest[spaces] != b'>' {
            return Err(broken("an end tag with attributes", self.position));
        }
        self.position += 1;
        if self.open.depth() == 0 {
            self.state = State::Content;
            return Ok(Step::Complete(Piece::End));
        }
        Ok(self.close())
    }

    fn until(&mut self, bytes: &[u8], end: &'static str, what: &'static str) -> Step {
        let Some(found) = memmem::find(&bytes[self.position..], end.as_bytes()) else {
            // The first bytes of the end mark may already be there.
            let undecided = bytes.len().saturating_sub(end.len() - 1);
            self.position = self.position.max(undecided);
            return Step::Starved;
        };
        self.position += found + end.len();
        self.declaration_ends(what)
    }

    fn declaration_ends(&mut self, what: &'static str) -> Step {
        self.state = State::Content;
        if self.open.depth() == 0 {
            Step::Complete(Piece::Restricted(what))
        } else {
            Step::Go
        }
    }

    fn doctype(&mut self, bytes: &[u8], mut quote: Option<u8>) -> Result<Step, Broken> {
        for (at, &byte) in bytes.iter().enumerate().skip(self.position) {
            match (quote, byte) {
                (Some(mark), _) if byte == mark => quote = None,
                (Some(_), _) => {}
                (None, b'>') => {
                    self.position = at + 1;
                    return Ok(self.declaration_ends("a document type declaration"));
                }
                (None, b'[' | b'<') => {
                    let what = "a document type declaration with declarations in it";
                    return Err(broken(what, at));
                }
                (None, b'\'' | b'"') => quote = Some(byte),
                (None, _) => {}
            }
        }
        self.position = bytes.len();
        self.state = State::Doctype { quote };
        Ok(Step::Starved)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn broken(what: impl Into<String>, offset: usize) -> Broken {
    Broken {
        what: what.into(),
        offset,
    }
}

//! Where a top-level element ends: the part of the scanner that sees a stream
//! read by read, and remembers between reads what it is in the middle of.
//!
//! It understands just enough of XML to find the end for sure, and fails as
//! soon as that can't be done. Everything else is checked by
//! [`check`](super::check) once the element is complete.

use memchr::memmem;
use memchr::{memchr, memchr2};

/// A complete thing on the top level of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// From [`Bounds::start`] to [`Bounds::position`].
    Element,
    /// A comment or the like between elements: what RFC 6120 §11.1 forbids.
    Restricted(&'static str),
    /// The end tag of the stream's root.
    End,
}

/// The end of the element can't be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) what: String,
    /// In the bytes given.
    pub(super) offset: usize,
}

/// What stands at the current position.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Text, or the space between top-level elements.
    Content,
    /// A `<`; what it begins is not known yet.
    Markup,
    /// A part of a start tag's name.
    StartName,
    /// The rest of a start tag.
    Attributes {
        /// The quote that ends the value we are in.
        quote: Option<u8>,
        /// The last byte was a `/` outside of quotes.
        slash: bool,
    },
    /// A part of an end tag's name. While it is read, it stands in
    /// [`Bounds::names`] behind those of the open elements.
    EndName {
        /// Where in `names` it begins.
        name: usize,
    },
    /// Behind the name of an end tag.
    EndSpace,
    /// Something that goes on until `end`, whatever it contains.
    Until {
        end: &'static str,
        /// What it is called when it stands on the top level.
        what: &'static str,
    },
    /// A document type declaration, without an internal subset.
    Doctype { quote: Option<u8> },
}

/// How a step ended.
enum Step {
    /// The state has changed, look again.
    Go,
    /// More bytes are needed.
    Starved,
    Complete(Piece),
}

const CDATA: &[u8] = b"<![CDATA[";
const COMMENT: &[u8] = b"<!--";
const DOCTYPE: &[u8] = b"<!DOCTYPE";

/// The names of all open elements together may take as much memory as a stanza.
const NO_END: &str = "elements are nested too deep to find their end";

#[derive(Debug)]
pub(super) struct Bounds {
    state: State,
    /// Everything before it is understood.
    position: usize,
    /// Where the current top-level element begins.
    start: usize,
    /// Where its start tag ends.
    head_end: Option<usize>,
    /// How deep its elements are nested.
    deepest: usize,
    /// The names of the open elements, one behind the other.
    names: Vec<u8>,
    /// Where in `names` each begins.
    open: Vec<usize>,
    /// How long `names` may become.
    names_limit: usize,
}

impl Bounds {
    pub(super) fn new(names_limit: usize) -> Self {
        Self {
            state: State::Content,
            position: 0,
            start: 0,
            head_end: None,
            deepest: 0,
            names: Vec::new(),
            open: Vec::new(),
            names_limit,
        }
    }

    /// Everything before it is understood.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Where the current top-level element begins.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Where the current top-level element's start tag ends, once it does.
    pub(super) fn head_end(&self) -> Option<usize> {
        self.head_end
    }

    /// How deep the current top-level element's elements are nested, itself counted.
    pub(super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// Whether the position is inside of a top-level element.
    pub(super) fn is_inside(&self) -> bool {
        !self.open.is_empty() || !matches!(self.state, State::Content)
    }

    /// To be told when the first `count` bytes, which it has understood, are gone.
    pub(super) fn forget(&mut self, count: usize) {
        self.position -= count;
        self.start = self.start.saturating_sub(count);
        self.head_end = self.head_end.map(|end| end.saturating_sub(count));
    }

    /// Looks on from where it stopped. `bytes` are the same as before, with
    /// more behind them; `None` when they are too few.
    ///
    /// # Errors
    /// When the end of the element can't be found any more.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Broken> {
        loop {
            let step = match self.state {
                State::Content => self.content(bytes)?,
                State::Markup => self.markup(bytes)?,
                State::StartName => self.start_name(bytes)?,
                State::Attributes { quote, slash } => self.attributes(bytes, quote, slash)?,
                State::EndName { name } => self.end_name(bytes, name)?,
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
        if self.open.is_empty()
            && let Some(at) = bytes[from..to].iter().position(|&byte| !is_space(byte))
        {
            return Err(broken("text between stanzas", from + at));
        }
        self.position = to;
        if found.is_none() {
            return Ok(Step::Starved);
        }
        if self.open.is_empty() {
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
                let name = self.names.len();
                (2, State::EndName { name })
            }
            b'?' => {
                let what = "a processing instruction";
                (2, State::Until { end: "?>", what })
            }
            b'!' => match self.declaration(&bytes[at..])? {
                Some(known) => known,
                None => return Ok(Step::Starved),
            },
            // Whether it is a letter that may begin a name is checked later.
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' | 0x80.. => {
                self.open.push(self.names.len());
                self.deepest = self.deepest.max(self.open.len());
                (1, State::StartName)
            }
            _ => return Err(broken("a < that begins no tag", at)),
        };
        self.position += length;
        self.state = state;
        Ok(Step::Go)
    }

    /// What `<!` begins; `None` when there are too few bytes to tell.
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
                if mark == CDATA && self.open.is_empty() {
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
        self.state = State::Attributes {
            quote: None,
            slash: false,
        };
        Ok(Step::Go)
    }

    /// Takes the rest of a name over to `names`, and returns the byte behind it.
    fn name(&mut self, bytes: &[u8]) -> Result<Option<u8>, Broken> {
        let rest = &bytes[self.position..];
        let length = rest
            .iter()
            .position(|&byte| matches!(byte, b'>' | b'/' | b'<') || is_space(byte));
        let name = &rest[..length.unwrap_or(rest.len())];
        if self.names.len() + name.len() > self.names_limit {
            let left = self.names_limit - self.names.len();
            return Err(broken(NO_END, self.position + left));
        }
        self.names.extend_from_slice(name);
        self.position += name.len();
        Ok(length.map(|length| rest[length]))
    }

    fn attributes(
        &mut self,
        bytes: &[u8],
        mut quote: Option<u8>,
        mut slash: bool,
    ) -> Result<Step, Broken> {
        let mut at = self.position;
        while at < bytes.len() {
            if let Some(mark) = quote {
                let Some(found) = memchr2(mark, b'<', &bytes[at..]) else {
                    at = bytes.len();
                    break;
                };
                at += found;
                if bytes[at] == b'<' {
                    // Or the quote before it was never closed. Guessing which
                    // could swallow the stanzas behind.
                    return Err(broken("a < in an attribute's value", at));
                }
                quote = None;
                at += 1;
                continue;
            }
            match bytes[at] {
                b'>' => {
                    self.position = at + 1;
                    return Ok(self.start_tag_ends(slash));
                }
                // Is `<a/ >` empty or not? Nobody can tell.
                _ if slash => return Err(broken("a / inside of a tag", at)),
                b'<' => return Err(broken("a tag inside of a tag", at)),
                mark @ (b'\'' | b'"') => quote = Some(mark),
                byte => slash = byte == b'/',
            }
            at += 1;
        }
        self.position = at;
        self.state = State::Attributes { quote, slash };
        Ok(Step::Starved)
    }

    fn start_tag_ends(&mut self, empty: bool) -> Step {
        if self.open.len() == 1 {
            self.head_end = Some(self.position);
        }
        self.state = State::Content;
        if empty { self.close() } else { Step::Go }
    }

    /// The innermost open element ends at the position.
    fn close(&mut self) -> Step {
        self.state = State::Content;
        if let Some(name) = self.open.pop() {
            self.names.truncate(name);
        }
        if self.open.is_empty() {
            Step::Complete(Piece::Element)
        } else {
            Step::Go
        }
    }

    fn end_name(&mut self, bytes: &[u8], close: usize) -> Result<Step, Broken> {
        match self.name(bytes)? {
            None => return Ok(Step::Starved),
            Some(b'<') => return Err(broken("a tag inside of a tag", self.position)),
            Some(b'/') => return Err(broken("a / in an end tag", self.position)),
            Some(_) => {}
        }
        let Some(&open) = self.open.last() else {
            return self.stream_end();
        };
        let (open, name) = (&self.names[open..close], &self.names[close..]);
        if open != name {
            let what = format!("</{}> where </{}> should be", shown(name), shown(open));
            return Err(broken(what, self.position));
        }
        self.names.truncate(close);
        self.state = State::EndSpace;
        Ok(Step::Go)
    }

    fn stream_end(&mut self) -> Result<Step, Broken> {
        let local = self.names.rsplit(|&byte| byte == b':').next();
        if local != Some(b"stream") {
            return Err(broken("an end tag without a start tag", self.position));
        }
        self.names.clear();
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
        if self.open.is_empty() {
            self.state = State::Content;
            return Ok(Step::Complete(Piece::End));
        }
        Ok(self.close())
    }

    fn until(&mut self, bytes: &[u8], end: &'static str, what: &'static str) -> Step {
        let Some(found) = memmem::find(&bytes[self.position..], end.as_bytes()) else {
            // The end's first bytes may already be there.
            let undecided = bytes.len().saturating_sub(end.len() - 1);
            self.position = self.position.max(undecided);
            return Step::Starved;
        };
        self.position += found + end.len();
        self.declaration_ends(what)
    }

    fn declaration_ends(&mut self, what: &'static str) -> Step {
        self.state = State::Content;
        if self.open.is_empty() {
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

/// A name for an error message, shortened when no sane one.
fn shown(name: &[u8]) -> String {
    const ENOUGH: usize = 40;
    String::from_utf8_lossy(name).chars().take(ENOUGH).collect()
}

fn broken(what: impl Into<String>, offset: usize) -> Broken {
    Broken {
        what: what.into(),
        offset,
    }
}

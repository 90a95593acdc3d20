//! XML in the form of MongooseIM's own parser: names, prefixes and declarations as they were
//! written, no namespace resolved; attributes sorted by name.

use std::collections::BTreeMap;
use std::fmt;

use minidom::rxml::error::EndOrError;
use minidom::rxml::parser::RawQName;
use minidom::rxml::{Parse, RawEvent, RawParser};

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The name with its prefix.
    pub name: String,
    attributes: BTreeMap<String, String>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Element(Tree),
    Text(String),
}

impl Tree {
    /// Creates an element without attributes and children.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Parses one element from a literal in a source file.
    ///
    /// # Panics
    /// On input that is not XML.
    pub fn read(text: &str) -> Self {
        let mut reader = Reader::default();
        let mut bytes = text.as_bytes();
        // The reader expects a stream header first.
        let mut opening = &b"<stream>"[..];
        while let Ok(Some(Piece::Header(_))) = reader.next(&mut opening) {}
        match reader.next(&mut bytes) {
            Ok(Some(Piece::Element(tree))) => tree,
            other => panic!("{other:?} instead of an element: {text}"),
        }
    }

    /// Sets an attribute.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Appends a child.
    pub fn holding(mut self, child: Tree) -> Self {
        self.push(child);
        self
    }

    /// Appends a text, even an empty one: then the element is written with an end tag.
    pub fn saying(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.attributes.insert(name.to_owned(), value.to_owned());
    }

    pub fn unset(&mut self, name: &str) -> Option<String> {
        self.attributes.remove(name)
    }

    pub fn push(&mut self, child: Tree) {
        self.nodes.push(Node::Element(child));
    }

    pub fn push_first(&mut self, child: Tree) {
        self.nodes.insert(0, Node::Element(child));
    }

    fn push_text(&mut self, more: &str) {
        match self.nodes.last_mut() {
            // The parser returns a long text in pieces.
            Some(Node::Text(text)) => text.push_str(more),
            _ => self.nodes.push(Node::Text(more.to_owned())),
        }
    }

    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// The namespace that it declares for names without a prefix.
    pub fn ns(&self) -> &str {
        self.attr("xmlns").unwrap_or_default()
    }

    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns() == ns
    }

    pub fn children(&self) -> impl Iterator<Item = &Tree> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(tree) => Some(tree),
            Node::Text(_) => None,
        })
    }

    pub fn child(&self, name: &str) -> Option<&Tree> {
        self.children().find(|child| child.name == name)
    }

    pub fn child_in(&self, ns: &str) -> Option<&Tree> {
        self.children().find(|child| child.ns() == ns)
    }

    /// All text in the element, without that of its children.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}='{}'", super::super::xml::escape(value))?;
        }
        Ok(())
    }

    /// The start tag alone, for a stream.
    pub fn open(&self) -> String {
        struct Head<'a>(&'a Tree);
        impl fmt::Display for Head<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write_head(f)?;
                f.write_str(">")
            }
        }
        Head(self).to_string()
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        if self.nodes.is_empty() {
            return f.write_str("/>");
        }
        f.write_str(">")?;
        for node in &self.nodes {
            match node {
                Node::Element(tree) => tree.fmt(f)?,
                Node::Text(text) => f.write_str(&super::super::xml::escape(text))?,
            }
        }
        write!(f, "</{}>", self.name)
    }
}

/// A piece of a stream, in the order of the wire.
#[derive(Debug)]
pub enum Piece {
    /// The stream's start tag.
    Header(Tree),
    /// A child of the stream, whole.
    Element(Tree),
    /// The stream's end tag.
    End,
}

/// The stream is not well-formed.
#[derive(Debug)]
pub struct Broken;

/// Turns bytes into pieces.
#[derive(Debug, Default)]
pub struct Reader {
    parser: RawParser,
    is_open: bool,
    /// The incomplete elements, outermost first.
    unfinished: Vec<Tree>,
}

impl Reader {
    /// Returns the next whole piece, and removes the bytes it has read from `bytes`.
    ///
    /// # Errors
    /// On input that is not XML; the stream cannot be used any more.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Piece>, Broken> {
        loop {
            let event = match self.parser.parse(bytes, false) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(_)) => return Err(Broken),
            };
            if let Some(piece) = self.take(event) {
                return Ok(Some(piece));
            }
        }
    }

    fn take(&mut self, event: RawEvent) -> Option<Piece> {
        match event {
            RawEvent::XmlDeclaration(..) => None,
            RawEvent::ElementHeadOpen(_, name) => {
                self.unfinished.push(Tree::new(&written(name)));
                None
            }
            RawEvent::Attribute(_, name, value) => {
                self.unfinished.last_mut()?.set(&written(name), &value);
                None
            }
            RawEvent::ElementHeadClose(_) if !self.is_open => {
                self.is_open = true;
                self.unfinished.pop().map(Piece::Header)
            }
            RawEvent::ElementHeadClose(_) => None,
            RawEvent::Text(_, text) => {
                // Text between stanzas is a keepalive.
                self.unfinished.last_mut()?.push_text(&text);
                None
            }
            RawEvent::ElementFoot(_) => {
                let Some(whole) = self.unfinished.pop() else {
                    return Some(Piece::End);
                };
                match self.unfinished.last_mut() {
                    Some(parent) => {
                        parent.push(whole);
                        None
                    }
                    None => Some(Piece::Element(whole)),
                }
            }
        }
    }
}

fn written((prefix, name): RawQName) -> String {
    match prefix {
        Some(prefix) => format!("{prefix}:{name}"),
        None => name.to_string(),
    }
}

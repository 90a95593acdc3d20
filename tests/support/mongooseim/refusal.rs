//! Errors in MongooseIM's form: with `code`, and with the payload of the request.

use super::tree::Tree;

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// The error with which a stanza is returned.
#[derive(Debug, Clone)]
pub struct Refusal {
    code: u16,
    kind: &'static str,
    condition: &'static str,
    text: Option<String>,
    /// An additional, application-specific condition.
    more: Option<Tree>,
}

/// The place of the error in the reply; it depends on the module of MongooseIM that wrote the
/// reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the request's payload.
    First,
    /// Behind the payload: the handler of an iq wrote the reply itself.
    Last,
}

impl Refusal {
    fn new(code: u16, kind: &'static str, condition: &'static str) -> Self {
        Self {
            code,
            kind,
            condition,
            text: None,
            more: None,
        }
    }

    pub fn bad_request() -> Self {
        Self::new(400, "modify", "bad-request")
    }

    pub fn unavailable() -> Self {
        Self::new(503, "cancel", "service-unavailable")
    }

    pub fn not_found() -> Self {
        Self::new(404, "cancel", "item-not-found")
    }

    pub fn forbidden() -> Self {
        Self::new(403, "auth", "forbidden")
    }

    pub fn not_authorized() -> Self {
        Self::new(401, "auth", "not-authorized")
    }

    pub fn not_allowed() -> Self {
        Self::new(405, "cancel", "not-allowed")
    }

    pub fn conflict() -> Self {
        Self::new(409, "cancel", "conflict")
    }

    pub fn not_acceptable() -> Self {
        Self::new(406, "modify", "not-acceptable")
    }

    pub fn not_implemented() -> Self {
        Self::new(501, "cancel", "feature-not-implemented")
    }

    pub fn internal() -> Self {
        Self::new(500, "wait", "internal-server-error")
            .saying("The server could not process the IQ stanza")
    }

    pub fn saying(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    pub fn with(mut self, condition: &str, ns: &str) -> Self {
        self.more = Some(Tree::new(condition).with("xmlns", ns));
        self
    }

    fn tree(&self) -> Tree {
        let mut error = Tree::new("error")
            .with("code", &self.code.to_string())
            .with("type", self.kind)
            .holding(Tree::new(self.condition).with("xmlns", STANZAS));
        if let Some(text) = &self.text {
            error.push(Tree::new("text").with("xmlns", STANZAS).saying(text));
        }
        if let Some(more) = &self.more {
            error.push(more.clone());
        }
        error
    }

    /// The error reply to `stanza`, if an error about it may be sent at all (RFC 6120 §8.3.1).
    pub fn about(&self, stanza: &Tree, place: Place) -> Option<Tree> {
        if matches!(stanza.attr("type"), Some("error" | "result")) {
            return None;
        }
        let mut back = returned(stanza.clone(), "error");
        match place {
            Place::First => back.push_first(self.tree()),
            Place::Last => back.push(self.tree()),
        }
        Some(back)
    }
}

/// The same stanza with `from` and `to` exchanged.
pub fn returned(mut stanza: Tree, kind: &str) -> Tree {
    let (from, to) = (stanza.unset("from"), stanza.unset("to"));
    if let Some(to) = to {
        stanza.set("from", &to);
    }
    if let Some(from) = from {
        stanza.set("to", &from);
    }
    stanza.set("type", kind);
    stanza
}

/// The result of an iq. Its id is present even if it is empty.
pub fn result(iq: &Tree, payload: Option<Tree>) -> Tree {
    let mut result = Tree::new("iq")
        .with("id", iq.attr("id").unwrap_or_default())
        .with("type", "result");
    if let Some(to) = iq.attr("to") {
        result.set("from", to);
    }
    if let Some(from) = iq.attr("from") {
        result.set("to", from);
    }
    if let Some(payload) = payload {
        result.push(payload);
    }
    result
}

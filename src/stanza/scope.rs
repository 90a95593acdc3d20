//! The namespaces that are declared at one place of a stanza.

use xxhash_rust::xxh3::xxh3_64;

use super::text::unescape;

/// The declarations in scope, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Scope<'a>(Vec<Declaration<'a>>);

/// A declaration by the element at `depth`.
#[derive(Debug)]
struct Declaration<'a> {
    /// Empty for the default namespace.
    prefix: &'a [u8],
    namespace: Namespace<'a>,
    depth: usize,
}

/// A namespace as written, with the hash of its value. Names are compared by the hash: to unescape
/// a long namespace once for each name would take quadratic time. Only its own stanza suffers from
/// a collision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namespace<'a> {
    pub(super) raw: &'a [u8],
    pub(super) hash: u64,
}

impl<'a> Scope<'a> {
    /// The number of declarations in scope.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn declare(&mut self, prefix: &'a [u8], raw: &'a [u8], depth: usize) {
        let hash = xxh3_64(unescape(raw).as_bytes());
        self.0.push(Declaration {
            prefix,
            namespace: Namespace { raw, hash },
            depth,
        });
    }

    /// Drops the declarations of the element at `depth`, which has ended.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.0.pop_if(|last| last.depth >= depth).is_some() {}
    }

    pub(super) fn namespace(&self, prefix: &[u8]) -> Option<Namespace<'a>> {
        let innermost = self.0.iter().rev();
        let mut declarations = innermost.filter(|declaration| declaration.prefix == prefix);
        declarations.next().map(|declaration| declaration.namespace)
    }
}

impl Namespace<'_> {
    /// Whether this is `namespace`. Takes time by the length of `namespace` only.
    pub(super) fn is(&self, namespace: &str) -> bool {
        /// Bytes of the longest reference to one byte: `&#0000065;`.
        const LONGEST: usize = 10;
        self.raw == namespace.as_bytes()
            || (self.raw.len() <= LONGEST * namespace.len() && unescape(self.raw) == namespace)
    }
}

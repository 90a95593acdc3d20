//! Names of elements and attributes, and their characters.

/// No part of a name.
const OTHER: u8 = 0;
/// May stand anywhere in a name.
const START: u8 = 1;
/// May not come first.
const INNER: u8 = 2;
/// `:`, between prefix and local name.
const COLON: u8 = 3;
/// Part of a character beyond ASCII, which is looked up in [`LETTERS`].
const FOREIGN: u8 = 4;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => START,
            b'0'..=b'9' | b'-' | b'.' => INNER,
            b':' => COLON,
            0x80.. => FOREIGN,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
}

/// Letters that the fourth and the fifth edition of XML 1.0 both allow in a
/// name. Parsers in use follow one or the other (expat the fourth), and a name
/// that only one of them takes would end the stream it is spliced into.
const LETTERS: [(char, char); 22] = [
    ('\u{c0}', '\u{d6}'),
    ('\u{d8}', '\u{f6}'),
    ('\u{f8}', '\u{131}'),
    ('\u{134}', '\u{13e}'),
    ('\u{141}', '\u{148}'),
    ('\u{14a}', '\u{17e}'),
    ('\u{180}', '\u{1c3}'),
    ('\u{1cd}', '\u{1f0}'),
    ('\u{1fa}', '\u{217}'),
    ('\u{250}', '\u{2a8}'),
    ('\u{388}', '\u{38a}'),
    ('\u{38e}', '\u{3a1}'),
    ('\u{3a3}', '\u{3ce}'),
    ('\u{401}', '\u{40c}'),
    ('\u{40e}', '\u{44f}'),
    ('\u{451}', '\u{45c}'),
    ('\u{45e}', '\u{481}'),
    ('\u{5d0}', '\u{5ea}'),
    ('\u{3041}', '\u{3094}'),
    ('\u{30a1}', '\u{30fa}'),
    ('\u{4e00}', '\u{9fa5}'),
    ('\u{ac00}', '\u{d7a3}'),
];

/// Upper bound for a name, in bytes; the open elements' names are kept in memory.
const LONGEST: usize = 1024;

/// A qualified name, as positions in the bytes from which it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct QName {
    pub(super) start: usize,
    /// Position of the `:`; `None` without a prefix.
    pub(super) colon: Option<usize>,
    pub(super) end: usize,
}

impl QName {
    /// Reads the name at `start`; `None` when there is no name or an illegal one. `bytes` must be
    /// UTF-8.
    pub(super) fn read(bytes: &[u8], start: usize) -> Option<Self> {
        let mut colon = None;
        let mut end = start;
        let mut foreign = false;
        while let Some(&byte) = bytes.get(end) {
            match CLASSES[usize::from(byte)] {
                OTHER => break,
                COLON if colon.is_some() => return None,
                COLON => colon = Some(end),
                FOREIGN => foreign = true,
                _ => {}
            }
            end += 1;
        }
        let name = Self { start, colon, end };
        let legal = end - start <= LONGEST
            && name.prefix(bytes).is_none_or(begins_name)
            && begins_name(name.local(bytes))
            && (!foreign || only_letters(&bytes[start..end]));
        legal.then_some(name)
    }

    pub(super) fn full<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.end]
    }

    /// The part before the colon.
    pub(super) fn prefix<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.colon.map(|colon| &bytes[self.start..colon])
    }

    /// The part behind the colon, or all of it.
    pub(super) fn local<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.colon.map_or(self.start, |colon| colon + 1)..self.end]
    }
}

/// Checks the first byte only: beyond ASCII, [`only_letters`] decides.
fn begins_name(part: &[u8]) -> bool {
    part.first()
        .is_some_and(|&byte| matches!(CLASSES[usize::from(byte)], START | FOREIGN))
}

fn only_letters(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(|name| {
        name.chars().filter(|c| !c.is_ascii()).all(|c| {
            LETTERS
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Option<(Option<&str>, &str)> {
        let qname = QName::read(name.as_bytes(), 0)?;
        let text = |bytes| str::from_utf8(bytes).unwrap();
        Some((
            qname.prefix(name.as_bytes()).map(text),
            text(qname.local(name.as_bytes())),
        ))
    }

    #[test]
    fn names_with_and_without_prefix_are_read_to_their_end() {
        assert_eq!(read("body>"), Some((None, "body")));
        assert_eq!(read("_a-1.b/"), Some((None, "_a-1.b")));
        assert_eq!(read("xml:lang='de'"), Some((Some("xml"), "lang")));
        assert_eq!(read("größe "), Some((None, "größe")));
        assert_eq!(read("名前>"), Some((None, "名前")));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "", " a", "1a", "-a", ".a", ":a", "a:", "a:b:c", "a:1", "a:-b", "=", "'",
        ] {
            assert_eq!(read(name), None, "{name:?}");
        }
    }

    #[test]
    fn characters_that_one_edition_of_xml_lacks_are_refused() {
        // Fifth edition only: U+0220, U+1F600; neither: U+00D7.
        for name in ["\u{220}a", "a\u{1f600}", "a\u{d7}", "a\u{2028}"] {
            assert_eq!(read(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_name_as_long_as_a_stanza_is_refused() {
        assert!(read(&"a".repeat(LONGEST)).is_some());
        assert!(read(&"a".repeat(LONGEST + 1)).is_none());
    }

    #[test]
    fn every_letter_is_one_to_the_independent_parser_too() {
        for (first, last) in LETTERS {
            for c in [first, last] {
                let document = format!("<{c}a{c} xmlns='u'/>");
                assert!(document.parse::<minidom::Element>().is_ok(), "{c:?}");
            }
        }
    }
}

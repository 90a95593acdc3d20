//! Character data: which characters and references are legal, unescaping and
//! escaping.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

use super::fault::Fault;

/// Checks that `bytes` are UTF-8 of characters that XML 1.0 allows (§2.2).
///
/// # Errors
/// [`Fault::Encoding`] or [`Fault::IllegalChar`].
pub(super) fn check_characters(bytes: &[u8]) -> Result<(), Fault> {
    if let Err(error) = str::from_utf8(bytes) {
        return Err(Fault::Encoding {
            offset: error.valid_up_to(),
        });
    }
    // Without an early exit, so that the compiler makes it a vector loop.
    let controls = bytes
        .iter()
        .fold(false, |found, &byte| found | is_control(byte));
    let illegal = if controls {
        bytes.iter().position(|&byte| is_control(byte))
    } else {
        position_of_noncharacter(bytes)
    };
    match illegal {
        Some(offset) => Err(Fault::IllegalChar { offset }),
        None => Ok(()),
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20) & (byte != b'\t') & (byte != b'\n') & (byte != b'\r')
}

/// U+FFFE and U+FFFF, the only characters above the controls that are not legal.
fn position_of_noncharacter(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0xef, bytes)
        .find(|&at| matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe] | [0xbf, 0xbf])))
}

/// Whether XML 1.0 allows the character (§2.2).
fn is_legal(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    }
}

/// Checks the text in `bytes[from..to]`: references, and no `]]>`.
///
/// # Errors
/// [`Fault::Reference`] or [`Fault::CdataEnd`].
pub(super) fn check_text(bytes: &[u8], from: usize, to: usize) -> Result<(), Fault> {
    let mut at = from;
    while let Some(found) = memchr2(b'&', b']', &bytes[at..to]) {
        at += found;
        if bytes[at] == b'&' {
            at = check_reference(&bytes[..to], at)?;
        } else if bytes[at..to].starts_with(b"]]>") {
            return Err(Fault::CdataEnd { offset: at });
        } else {
            at += 1;
        }
    }
    Ok(())
}

/// Checks the reference at `at`, the position of its `&`, and returns the position of its end.
///
/// # Errors
/// [`Fault::Reference`].
pub(super) fn check_reference(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match reference(&bytes[at..]) {
        Some((_, length)) => Ok(at + length),
        None => Err(Fault::Reference { offset: at }),
    }
}

/// Decodes the reference at the beginning of `bytes`; returns the character and the reference's
/// length. Accepts one of the five predefined entities, or a number of up to seven digits that is
/// a legal character.
fn reference(bytes: &[u8]) -> Option<(char, usize)> {
    // The longest is `&#x10ffff;`.
    let end = memchr(b';', &bytes[..bytes.len().min(11)])?;
    let c = match bytes.get(1..end)? {
        b"lt" => '<',
        b"gt" => '>',
        b"amp" => '&',
        b"apos" => '\'',
        b"quot" => '"',
        [b'#', b'x', digits @ ..] => numbered(digits, 16)?,
        [b'#', digits @ ..] => numbered(digits, 10)?,
        _ => return None,
    };
    Some((c, end + 1))
}

fn numbered(digits: &[u8], radix: u32) -> Option<char> {
    let mut number = 0;
    for &digit in digits {
        number = number * radix + char::from(digit).to_digit(radix)?;
    }
    let legal = !digits.is_empty() && digits.len() <= 7;
    char::from_u32(number).filter(|&c| legal && is_legal(c))
}

/// The value of an attribute that was written as `raw`, with its white space
/// normalised as a parser would (XML 1.0 §3.3.3). `raw` must have been checked.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    let special = |byte: u8| matches!(byte, b'&' | b'\t' | b'\n' | b'\r');
    if !raw.iter().fold(false, |found, &byte| found | special(byte))
        && let Ok(text) = str::from_utf8(raw)
    {
        return Cow::Borrowed(text);
    }
    let text = String::from_utf8_lossy(raw);
    let mut value = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.bytes().position(special) {
        value.push_str(&rest[..at]);
        let length = match rest.as_bytes()[at] {
            b'&' => match reference(&rest.as_bytes()[at..]) {
                Some((c, length)) => {
                    value.push(c);
                    length
                }
                None => {
                    value.push('&');
                    1
                }
            },
            b'\r' if rest[at..].starts_with("\r\n") => {
                value.push(' ');
                2
            }
            _ => {
                value.push(' ');
                1
            }
        };
        rest = &rest[at + length..];
    }
    value.push_str(rest);
    Cow::Owned(value)
}

/// Returns the place in `raw` where the part `value` of its unescaped form is written.
pub(super) fn raw_range(raw: &[u8], value: Range<usize>) -> Range<usize> {
    let (mut at, mut unescaped) = (0, 0);
    let mut offset = |target| {
        while unescaped < target && at < raw.len() {
            let (written, meant) = match raw[at] {
                b'&' => reference(&raw[at..]).map_or((1, 1), |(c, length)| (length, c.len_utf8())),
                b'\r' if raw.get(at + 1) == Some(&b'\n') => (2, 1),
                _ => (1, 1),
            };
            at += written;
            unescaped += meant;
        }
        at
    };
    offset(value.start)..offset(value.end)
}

/// The place of a text in a stanza; the place determines which characters must be escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between tags.
    Content,
    /// In an attribute's value, in either kind of quotes.
    Value,
}

/// Returns the escaped form of `c`, or `None` if `c` needs none. Characters that XML cannot carry
/// become U+FFFD.
fn escaped(c: char, place: Place) -> Option<&'static str> {
    Some(match c {
        '<' => "&lt;",
        '>' => "&gt;",
        '&' => "&amp;",
        '\r' => "&#13;",
        '\'' if place == Place::Value => "&apos;",
        '"' if place == Place::Value => "&quot;",
        '\t' if place == Place::Value => "&#9;",
        '\n' if place == Place::Value => "&#10;",
        _ if !is_legal(c) => "\u{fffd}",
        _ => return None,
    })
}

/// Passes `text`, escaped for `place`, piece by piece to `write`.
pub(super) fn escape(text: &str, place: Place, mut write: impl FnMut(&[u8])) {
    // Most text is plain, and bytes are compared faster than characters.
    let plain = text.bytes().fold(true, |plain, byte| {
        plain & (byte >= b' ') & !matches!(byte, b'<' | b'>' | b'&' | b'\'' | b'"' | 0xef)
    });
    if plain {
        return write(text.as_bytes());
    }
    let mut rest = text;
    while let Some((at, c, escape)) = rest
        .char_indices()
        .find_map(|(at, c)| escaped(c, place).map(|escape| (at, c, escape)))
    {
        write(&rest.as_bytes()[..at]);
        write(escape.as_bytes());
        rest = &rest[at + c.len_utf8()..];
    }
    write(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_characters_pass_and_others_are_located() {
        assert_eq!(
            check_characters("a\t\r\n\u{7f}é\u{fffd}😀".as_bytes()),
            Ok(())
        );
        for (bytes, offset) in [
            (&b"ab\0"[..], 2),
            (b"\x1b", 0),
            (b"abc\x0bd", 3),
            ("é\u{fffe}".as_bytes(), 2),
            ("\u{ffff}".as_bytes(), 0),
        ] {
            assert_eq!(check_characters(bytes), Err(Fault::IllegalChar { offset }));
        }
        for (bytes, offset) in [
            (&b"a\xff"[..], 1),
            (b"ab\xc0\x80", 2),
            (b"\xed\xa0\x80", 0),
            (b"a\xe2\x82", 1),
        ] {
            assert_eq!(check_characters(bytes), Err(Fault::Encoding { offset }));
        }
    }

    #[test]
    fn only_predefined_entities_and_legal_characters_may_be_referred_to() {
        for good in [
            "&lt;",
            "&gt;",
            "&amp;",
            "&apos;",
            "&quot;",
            "&#9;",
            "&#x41;",
            "&#xD;",
            "&#1114111;",
            "&#x10fFff;",
            "&#0000065;",
        ] {
            assert_eq!(check_text(good.as_bytes(), 0, good.len()), Ok(()), "{good}");
        }
        for bad in [
            "&",
            "&;",
            "&lt",
            "&nbsp;",
            "&LT;",
            "&#;",
            "&#x;",
            "&#X41;",
            "&#0;",
            "&#x1;",
            "&#xd800;",
            "&#xfffe;",
            "&#x110000;",
            "&#99999999;",
            "&#-1;",
            "& lt;",
            "&#6 5;",
            "&lt\u{2028};",
        ] {
            let text = format!("ab{bad}");
            let fault = Fault::Reference { offset: 2 };
            assert_eq!(
                check_text(text.as_bytes(), 0, text.len()),
                Err(fault),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_end_of_a_cdata_section_is_no_text() {
        assert_eq!(check_text(b"a]]b]>", 0, 6), Ok(()));
        let fault = Fault::CdataEnd { offset: 2 };
        assert_eq!(check_text(b"a]]]>", 0, 5), Err(fault));
    }

    #[test]
    fn values_are_unescaped_and_their_white_space_normalised() {
        assert!(matches!(unescape(b"plain"), Cow::Borrowed("plain")));
        assert_eq!(unescape("a&lt;&#233;é&amp;amp;".as_bytes()), "a<éé&amp;");
        assert_eq!(unescape(b"a\tb\nc\r\nd\re&#10;f"), "a b c d e\nf");
    }

    #[test]
    fn what_is_escaped_comes_back() {
        let text = "<a href='x' q=\"y\">&amp;\t\r\n</a> é😀";
        let mut value = Vec::new();
        escape(text, Place::Value, |piece| value.extend_from_slice(piece));
        assert_eq!(unescape(&value), text);
        assert!(!value.iter().any(|byte| b"<>'\"\t\r\n".contains(byte)));
    }

    #[test]
    fn what_xml_can_not_carry_is_replaced() {
        let mut content = Vec::new();
        escape("a\0b\u{ffff}'\n]]>", Place::Content, |piece| {
            content.extend_from_slice(piece);
        });
        assert_eq!(content, "a\u{fffd}b\u{fffd}'\n]]&gt;".as_bytes());
    }
}

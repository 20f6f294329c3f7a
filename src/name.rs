//! The names of files as text.
//!
//! A name is bytes, and most people and most rules want text. Where the bytes are not UTF-8, the text has `\x80` to
//! `\xff`, one for each byte. This can be undone, because a name in normal form has no other `\`.

/// DHCP's end mark (RFC 2132 section 3.2). Firmware that reads option 67 as a C string sends the mark with the name.
pub(crate) const END_MARK: u8 = 0xff;

/// The characters that are percent-encoded in a part of a URL: all but the unreserved ones of RFC 3986.
#[cfg(any(feature = "http", feature = "rules"))]
pub(crate) const ENCODED: percent_encoding::AsciiSet =
    percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The name without the end marks behind it. `None` if there are none, or if nothing else is there.
pub(crate) fn without_end_mark(name: &[u8]) -> Option<&[u8]> {
    let end = name.iter().rposition(|&byte| byte != END_MARK)? + 1;
    (end < name.len() && name[end - 1] != b'/').then(|| &name[..end])
}

/// The name as text, without loss.
pub(crate) fn text(name: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(name) {
        return text.to_owned();
    }
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text += chunk.valid();
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// The name of this text.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (byte, length) = escape(rest).map_or((b'\\', 1), |byte| (byte, 4));
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The byte at the beginning of this text, if it begins with `\x80` to `\xff`.
pub(crate) fn escape(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("\\x")?.get(..2)?;
    let byte = u8::from_str_radix(digits, 16).ok()?;
    // `from_str_radix` accepts a sign.
    (byte >= 0x80 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_text_and_any_text_is_a_name() {
        for (name, expected) in [
            (&b"caf\xc3\xa9"[..], "caf\u{e9}"),
            (b"caf\xe9", r"caf\xe9"),
            (b"x\xff\xff", r"x\xff\xff"),
            (b"\xe2\x82", r"\xe2\x82"),
            (b"\xe2\x82\xac\xe2\x82/y", "\u{20ac}\\xe2\\x82/y"),
            (b"\xc3/\xa9", r"\xc3/\xa9"),
        ] {
            assert_eq!(text(name), expected);
            assert_eq!(bytes(expected), name, "{expected}");
        }
        assert_eq!(bytes(r"a\xFF"), b"a\xff");
        let mut random = noise();
        for _ in 0..1000 {
            let name: Vec<u8> = (0..random() % 12).map(|_| random()).filter(|byte| *byte != b'\\').collect();
            assert_eq!(bytes(&text(&name)), name);
        }
    }

    #[test]
    fn an_end_mark_is_what_stands_last() {
        for (name, expected) in [
            (&b"pxelinux.0\xff"[..], Some(&b"pxelinux.0"[..])),
            (b"pxelinux.0\xff\xff", Some(b"pxelinux.0")),
            (b"pxe\xfflinux.0", None),
            (b"\xff", None),
            (b"a/\xff", None),
        ] {
            assert_eq!(without_end_mark(name), expected);
        }
    }

    /// A xorshift with a fixed seed.
    fn noise() -> impl FnMut() -> u8 {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        }
    }
}

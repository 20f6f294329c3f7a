//! How names and texts from other machines are shown: on one line, with no character that a terminal obeys or that
//! changes the order of the text around it.
//!
//! A byte that is not UTF-8 is shown as `\xff`. A control character, and any other that leaves no mark (bidirectional
//! overrides, zero-width characters), is shown as `\n` or `\u{202e}`, and so is a space at an end of a name. A
//! backslash in a name is shown as `\\`, so that each shown name stands for one name.

use std::borrow::Cow;

/// How many characters of a name a log line or an answer of the API shows. A longer name is cut in its middle.
pub(crate) const NAME: usize = 200;
/// How many characters are shown of a text (a reason, the text of an ERROR, an origin, all options of a request).
pub(crate) const TEXT: usize = 300;

/// How many bytes of a name or text are processed: a datagram has room for 64 KiB, and escaping it all would take
/// time.
const LOOKED_AT: usize = 4096;

/// The name with these bytes. Of more than 4 KiB the middle is left out.
pub(crate) fn name(bytes: &[u8]) -> String {
    if bytes.len() > LOOKED_AT {
        let half = LOOKED_AT / 2;
        return name(&bytes[..half]) + "…" + &name(&bytes[bytes.len() - half..]);
    }
    let ends_in_space = bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ');
    if !ends_in_space && bytes.iter().all(|byte| matches!(byte, b' '..=b'[' | b']'..=b'~')) {
        return crate::name::text(bytes);
    }
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|char| match char {
            '\\' => shown.push_str(r"\\"),
            char => push(&mut shown, char),
        });
        shown.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    if ends_in_space { with_spaces_shown(&shown) } else { shown }
}

/// The name with the spaces before and behind it as `\u{20}`, because they are invisible.
fn with_spaces_shown(name: &str) -> String {
    let bare = name.trim_matches(' ');
    let before = name.len() - name.trim_start_matches(' ').len();
    let behind = name.len() - before - bare.len();
    [&r"\u{20}".repeat(before), bare, &r"\u{20}".repeat(behind)].concat()
}

/// The text of a peer or an upstream server. Of more than 4 KiB the middle is left out.
pub(crate) fn text(text: &str) -> String {
    if text.len() > LOOKED_AT {
        let is_boundary = |at: &usize| text.is_char_boundary(*at);
        let begin = (0..=LOOKED_AT / 2).rfind(is_boundary).unwrap_or(0);
        let end = (text.len() - LOOKED_AT / 2..text.len()).find(is_boundary).unwrap_or(text.len());
        return self::text(&text[..begin]) + "…" + &self::text(&text[end..]);
    }
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|char| push(&mut shown, char));
    shown
}

/// A text of at most so many characters. Of a longer text the middle is left out.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    // Most texts are short, and no text has more characters than bytes.
    if text.len() <= most || text.chars().count() <= most {
        return text.into();
    }
    let half = most / 2;
    let begin = text.char_indices().nth(most - 1 - half).map_or(text.len(), |(at, _)| at);
    let end = text.char_indices().nth_back(half - 1).map_or(0, |(at, _)| at);
    format!("{}…{}", &text[..begin], &text[end..]).into()
}

/// A URL, perhaps an invalid one, without the text before an `@`, which may be a password.
#[cfg(any(feature = "http", feature = "rules"))]
pub(crate) fn without_password(url: &str) -> Cow<'_, str> {
    url.rsplit_once('@').map_or(url.into(), |(_, rest)| format!("...@{rest}").into())
}

fn push(shown: &mut String, char: char) {
    // Rust also escapes quotation marks and backslashes, which do no harm.
    match char {
        ' '..='~' => shown.push(char),
        // The first one looks like a byte that is not UTF-8, and the others like a space.
        '\u{fffd}' | '\u{2800}' | '\u{3164}' => shown.extend(char.escape_unicode()),
        char => shown.extend(char.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_their_bytes_and_no_control_characters() {
        for (bytes, shown) in [
            (&b"boot/linux-6.1 (old)"[..], "boot/linux-6.1 (old)"),
            ("grub/café-日本".as_bytes(), "grub/café-日本"),
            (b"netboot.xyz.efi\xff", r"netboot.xyz.efi\xff"),
            (br"netboot.xyz.efi\xff", r"netboot.xyz.efi\\xff"),
            (b"\xeaonboard", r"\xeaonboard"),
            (b"a\n2026-11-25 info b\r\t", r"a\n2026-11-25 info b\r\t"),
            (b"\x1b[2Ja\x7f\x07", r"\u{1b}[2Ja\u{7f}\u{7}"),
            ("a\u{85}\u{9b}2J".as_bytes(), r"a\u{85}\u{9b}2J"),
            ("a\u{202e}txt.b\u{2066}\u{200f}\u{61c}".as_bytes(), r"a\u{202e}txt.b\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}\u{feff}\u{2028}".as_bytes(), r"a\u{200b}\u{feff}\u{2028}"),
            (b"\"<b>'", "\"<b>'"),
            ("a\u{fffd}\u{2800}\u{3164}".as_bytes(), r"a\u{fffd}\u{2800}\u{3164}"),
            (b"pxelinux.0 ", r"pxelinux.0\u{20}"),
            (b"  a b\t ", r"\u{20}\u{20}a b\t\u{20}"),
            (b" ", r"\u{20}"),
        ] {
            assert_eq!(name(bytes), shown);
        }
    }

    #[test]
    fn long_text_keeps_both_ends() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("0123456789", 5), "01…89");
        for most in 3..40 {
            let long: String = ('a'..='z').chain('а'..='я').collect();
            let shown = cut(&long, most);
            assert_eq!(shown.chars().count(), most);
            assert!(shown.starts_with('a') && shown.ends_with('я'));
        }
    }

    #[test]
    fn a_name_of_64_kib_is_shown_at_once() {
        let long = "é".repeat(32 << 10);
        assert!(name(long.as_bytes()).len() < 2 * LOOKED_AT && text(&long).len() <= LOOKED_AT + 3);
        assert!(text(&("x".to_owned() + &long)).contains("é…é"));
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(text("a\n\u{202e}\\b"), r"a\n\u{202e}\b");
    }
}

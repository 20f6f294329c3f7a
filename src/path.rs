//! The normal form of the names of files.

use crate::error::Refusal;

/// The normal form of a name, see [`Request::path`](crate::Request::path).
pub(crate) fn normalise(name: &[u8]) -> Result<Vec<u8>, Refusal> {
    let is_drive = |part: &&[u8]| matches!(part, [letter, b':'] if letter.is_ascii_alphabetic());
    let drive = name.split(is_separator).take(1).filter(is_drive).count();
    join(name.split(is_separator).skip(drive))
}

/// The normal form of a name that has no drive letter.
pub(crate) fn joined(name: &[u8]) -> Result<Vec<u8>, Refusal> {
    join(name.split(is_separator))
}

fn is_separator(byte: &u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// The part behind the last separator.
pub(crate) fn last_part(name: &[u8]) -> &[u8] {
    name.rsplit(is_separator).next().unwrap_or_default()
}

fn join<'a>(all: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, Refusal> {
    let mut name = Vec::new();
    for part in all {
        match part {
            b"" | b"." => {}
            b".." if name.is_empty() => return Err(Refusal::denied().because("the name leads out of the root")),
            b".." => name.truncate(name.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            part => {
                name.extend_from_slice(if name.is_empty() { b"" } else { b"/" });
                name.extend_from_slice(part);
            }
        }
    }
    if name.is_empty() { Err(Refusal::not_found().because("the name is empty")) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::bytes;

    #[test]
    fn names_become_comparable() {
        for (name, expected) in [
            ("pxelinux.0", "pxelinux.0"),
            ("/debian-installer/amd64/linux", "debian-installer/amd64/linux"),
            ("efi64//debian-installer/./linux", "efi64/debian-installer/linux"),
            (r"\Boot\BCD", "Boot/BCD"),
            (r"C:\Boot\BCD", "Boot/BCD"),
            ("efi64/../linux", "linux"),
            ("a/b/../../c", "c"),
            ("...", "..."),
        ] {
            assert_eq!(normalise(name.as_bytes()).unwrap(), expected.as_bytes(), "{name}");
        }
    }

    #[test]
    fn names_do_not_leave_the_root() {
        for name in ["..", "../x", "/../x", "a/../../x", r"..\x", r"a\..\..\x", "C:/../x", "./../x", "//..//x"] {
            assert_eq!(normalise(name.as_bytes()), Err(Refusal::denied()), "{name}");
        }
        for name in ["", "/", ".", "a/..", r"C:\"] {
            assert_eq!(normalise(name.as_bytes()), Err(Refusal::not_found()), "{name}");
        }
    }

    #[test]
    fn other_backslashes_are_separators() {
        for (text, expected) in [(r"boot\x64\y", "boot/x64/y"), (r"\xfg", "xfg"), (r"a\x", "a/x"), (r"\x+f", "x+f")] {
            assert_eq!(joined(&bytes(text)).unwrap(), expected.as_bytes(), "{text}");
        }
        assert_eq!(joined(&bytes(r"..\xff/../..")), Err(Refusal::denied()));
    }
}

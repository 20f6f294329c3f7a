//! The content type of a file, by its name. Firmware depends on it: EDK2 starts `application/efi`, and makes a RAM disk
//! of the two types for images.

/// The types by the ending of the name, in lower case.
const KINDS: &[(&str, &[&str])] = &[
    ("application/efi", &["efi"]),
    ("application/vnd.efi-iso", &["iso"]),
    ("application/vnd.efi-img", &["img"]),
    (
        "text/plain; charset=utf-8",
        &["cfg", "conf", "txt", "ipxe", "ks", "preseed", "seed", "log", "md5", "sha256", "sh"],
    ),
    ("text/html; charset=utf-8", &["html", "htm"]),
    ("text/css; charset=utf-8", &["css"]),
    ("text/javascript; charset=utf-8", &["js"]),
    ("application/json", &["json", "ign"]),
    ("application/xml", &["xml"]),
    ("application/yaml", &["yaml", "yml"]),
    ("application/gzip", &["gz", "tgz"]),
    ("application/x-xz", &["xz"]),
    ("application/zstd", &["zst"]),
    ("application/zip", &["zip"]),
    ("application/x-tar", &["tar"]),
    ("application/vnd.debian.binary-package", &["deb", "udeb"]),
    ("application/x-rpm", &["rpm"]),
    ("image/png", &["png"]),
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/svg+xml", &["svg"]),
];

/// The type of all other files.
const BYTES: &str = "application/octet-stream";

pub(super) fn of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    // Bytes such as the 0xff of a client that reads option 67 to its end are not part of the name that is served.
    let name = name.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let Some((_, end)) = name.rsplit_once('.') else { return BYTES };
    let end = end.to_ascii_lowercase();
    KINDS.iter().find(|(_, ends)| ends.contains(&end.as_str())).map_or(BYTES, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_gets_the_type_of_the_file() {
        for (path, kind) in [
            ("EFI/BOOT/BOOTX64.EFI", "application/efi"),
            ("snponly.efi", "application/efi"),
            ("debian.iso", "application/vnd.efi-iso"),
            ("boot.img", "application/vnd.efi-img"),
            ("initrd.gz", "application/gzip"),
            ("pxelinux.0", BYTES),
            ("linux", BYTES),
            ("a.efi/linux", BYTES),
            ("grub/grub.cfg", "text/plain; charset=utf-8"),
            ("bootx64.efi\u{fffd}", "application/efi"),
        ] {
            assert_eq!(of(path), kind, "{path}");
        }
    }
}

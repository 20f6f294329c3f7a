//! The behaviour of clients, from their sources and from captures of real boots.

use std::time::Duration;

use crate::error::ErrorCode;

/// The traits of one client.
///
/// ```
/// use tuffet::probe::habits;
///
/// assert!(habits::ALL.iter().any(|(name, habits)| *name == "grub" && *habits == habits::GRUB));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Habits {
    /// The common name of the client.
    pub name: &'static str,
    /// The options that it asks for, in order: `blksize=1432 tsize=0`.
    pub options: &'static str,
    /// The options of an earlier request for the size, from another port, and the ERROR that ends it.
    pub asks_size: Option<(&'static str, ErrorCode, &'static str)>,
    /// How long it waits before it repeats its request or its last ACK.
    pub patience: Duration,
    /// How many timeouts it allows in one transfer, with or without progress.
    pub timeouts: usize,
    /// The client's answer to DATA out of order.
    pub on_other_data: OnOtherData,
    /// After how many blocks it pauses, and for how long.
    pub pause: Option<(usize, Duration)>,
    /// Whether it ends the transfer with ERROR 0 when it has `tsize` bytes, without an ACK.
    pub closes_when_full: bool,
    /// Whether it leaves, with ERROR 8, if an OACK has options that it did not ask for, or larger values.
    pub strict: bool,
}

/// The answer of a client to DATA out of order.
///
/// ```
/// use tuffet::probe::habits::{OnOtherData, PHONE};
///
/// assert_eq!(PHONE.on_other_data, OnOtherData::Ignore);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOtherData {
    /// It ignores the packet.
    Ignore,
    /// It sends an ACK of the last block in order, for each such packet.
    AckLast,
    /// The same, but only once after each block in order.
    AckLastOnce,
    /// It sends an ACK of the received block, if that is an old one.
    AckOld,
}

const PLAIN: Habits = Habits {
    name: "",
    options: "",
    asks_size: None,
    patience: Duration::from_secs(1),
    timeouts: usize::MAX,
    on_other_data: OnOtherData::AckLast,
    pause: None,
    closes_when_full: false,
    strict: false,
};

/// iPXE, and programs that use its PXE interface.
pub const IPXE: Habits =
    Habits { name: "iPXE", options: "blksize=1432 tsize=0", patience: Duration::from_millis(400), ..PLAIN };
/// UEFI firmware. It requests each file twice.
pub const EDK2: Habits = Habits {
    name: "EDK2",
    options: "blksize=1468 windowsize=4",
    asks_size: Some(("tsize=0 blksize=1468 windowsize=4", ErrorCode::OPTION_NEGOTIATION, "User aborted the transfer")),
    patience: Duration::from_secs(4),
    timeouts: 24,
    strict: true,
    ..PLAIN
};
/// pxelinux.0.
pub const PXELINUX: Habits = Habits {
    name: "pxelinux",
    options: "tsize=0 blksize=1408",
    patience: Duration::from_millis(200),
    closes_when_full: true,
    on_other_data: OnOtherData::Ignore,
    strict: true,
    ..PLAIN
};
/// GRUB, which unpacks while the server waits.
pub const GRUB: Habits = Habits {
    name: "GRUB",
    options: "blksize=1024 tsize=0",
    on_other_data: OnOtherData::AckOld,
    pause: Some((50, Duration::from_secs(3))),
    ..PLAIN
};
/// U-Boot, which gives up after ten timeouts in one transfer.
pub const UBOOT: Habits = Habits {
    name: "U-Boot",
    options: "timeout=5 tsize=0 blksize=1468",
    patience: Duration::from_secs(5),
    timeouts: 10,
    on_other_data: OnOtherData::AckLastOnce,
    strict: true,
    ..PLAIN
};
/// U-Boot with `tftpwindowsize` set.
pub const UBOOT_WINDOWS: Habits =
    Habits { name: "U-Boot with windows", options: "timeout=5 tsize=0 blksize=1468 windowsize=8", ..UBOOT };
/// busybox's tftp, which closes its port right after its last ACK.
pub const BUSYBOX: Habits =
    Habits { name: "busybox", options: "tsize=0", patience: Duration::from_millis(100), ..PLAIN };
/// RFC 1350 and nothing else: phones, printers, switches.
pub const PHONE: Habits = Habits { name: "plain client", on_other_data: OnOtherData::Ignore, ..PLAIN };
/// curl.
pub const CURL: Habits = Habits {
    name: "curl",
    options: "tsize=0 blksize=512 timeout=6",
    patience: Duration::from_secs(6),
    strict: true,
    ..PLAIN
};
/// The boot ROM of a Raspberry Pi.
pub const RASPBERRY: Habits = Habits { name: "Raspberry Pi", options: "tsize=0 blksize=1024", timeouts: 10, ..PLAIN };
/// The Windows boot manager, without its own variable windows.
pub const WINDOWS: Habits = Habits {
    name: "Windows boot manager",
    options: "tsize=0 blksize=1456 windowsize=4 msftwindow=31416",
    timeouts: 10,
    ..PLAIN
};

/// All clients, by names for the command line.
pub const ALL: &[(&str, Habits)] = &[
    ("busybox", BUSYBOX),
    ("curl", CURL),
    ("edk2", EDK2),
    ("grub", GRUB),
    ("ipxe", IPXE),
    ("plain", PHONE),
    ("pxelinux", PXELINUX),
    ("raspberry-pi", RASPBERRY),
    ("u-boot", UBOOT),
    ("u-boot-windows", UBOOT_WINDOWS),
    ("windows", WINDOWS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_typed_and_options_read() {
        for (name, habits) in ALL {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
            let options = [Some(habits.options), habits.asks_size.map(|asks| asks.0)];
            for option in options.into_iter().flatten().flat_map(str::split_whitespace) {
                assert!(option.contains('='), "{name}: {option}");
            }
        }
    }
}

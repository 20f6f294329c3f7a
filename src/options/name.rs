use std::{fmt, str::FromStr};

use crate::error::Error;

macro_rules! options {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// An option that this crate understands. Its name may be in upper or lower case on the wire (RFC 2347).
        ///
        /// ```
        /// use tuffet::options::OptionName;
        ///
        /// assert_eq!("BlkSize".parse::<OptionName>()?, OptionName::Blksize);
        /// assert_eq!(OptionName::Blksize.as_str(), "blksize");
        /// # Ok::<(), tuffet::Error>(())
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum OptionName {
            $($(#[$doc])* $variant,)*
        }

        impl OptionName {
            /// All options.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire, in lower case.
            ///
            /// ```
            /// assert_eq!(tuffet::options::OptionName::Windowsize.as_str(), "windowsize");
            /// ```
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

options! {
    /// Bytes in a block (RFC 2348).
    Blksize = "blksize",
    /// Bytes in a block, a power of two (tftp-hpa).
    Blksize2 = "blksize2",
    /// The longest time between two retransmits, in seconds (RFC 2349).
    Timeout = "timeout",
    /// The same in microseconds (tftp-hpa).
    Utimeout = "utimeout",
    /// The size of the file, in bytes (RFC 2349).
    Tsize = "tsize",
    /// Blocks on the way before an ACK is due (RFC 7440).
    Windowsize = "windowsize",
    /// The number of the block after 65535.
    Rollover = "rollover",
}

impl OptionName {
    /// The option of this name, if this crate understands it.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|option| option.as_str().eq_ignore_ascii_case(name))
    }
}

/// Parses a name in upper or lower case. Other names are [`Error::Config`].
impl FromStr for OptionName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::of(name).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|option| option.as_str()).collect();
            Error::Config(format!("{name:?} is not an option; they are {}", all.join(", ")))
        })
    }
}

impl fmt::Display for OptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for &option in OptionName::ALL {
            assert_eq!(option.to_string().to_uppercase().parse::<OptionName>().unwrap(), option);
        }
        let all = "blksize, blksize2, timeout, utimeout, tsize, windowsize, rollover";
        let why = "size".parse::<OptionName>().unwrap_err().to_string();
        assert_eq!(why, format!("\"size\" is not an option; they are {all}"));
    }
}

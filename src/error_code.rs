//! The codes of ERROR packets.

use std::fmt;

/// The code of an ERROR packet (RFC 1350 appendix; code 8: RFC 2347).
///
/// ```
/// use tuffet::{ErrorCode, Refusal};
///
/// assert_eq!(Refusal::exists().code(), ErrorCode::FILE_EXISTS);
/// assert_eq!(ErrorCode(9).to_string(), "9", "any code can travel");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// 0: see the text.
    pub const NOT_DEFINED: Self = Self(0);
    /// 1: there is no such file.
    pub const FILE_NOT_FOUND: Self = Self(1);
    /// 2: the policy forbids it.
    pub const ACCESS_VIOLATION: Self = Self(2);
    /// 3: no space is left, or the file is too big.
    pub const DISK_FULL: Self = Self(3);
    /// 4: the request makes no sense.
    pub const ILLEGAL_OPERATION: Self = Self(4);
    /// 5: no transfer has this TID.
    pub const UNKNOWN_TID: Self = Self(5);
    /// 6: the file exists and may not be replaced.
    pub const FILE_EXISTS: Self = Self(6);
    /// 7: obsolete, from the days of mail mode.
    pub const NO_SUCH_USER: Self = Self(7);
    /// 8: client and server cannot agree on the options.
    pub const OPTION_NEGOTIATION: Self = Self(8);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! The calls that differ from system to system. No other file of the directory handler names a system.
//!
//! `linux` opens and reads without a wait for the disk, and makes files without a name; other systems use the plain
//! calls. `unix` knows owners, modes, locks and identities of files.

#[cfg(target_os = "linux")]
mod acl;
#[cfg(target_os = "linux")]
mod attributes;
#[cfg(unix)]
mod denied;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod not_linux;
#[cfg(not(unix))]
mod not_unix;
#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub(super) use denied::why_denied;
#[cfg(target_os = "linux")]
pub(super) use linux::*;
#[cfg(not(target_os = "linux"))]
pub(super) use not_linux::*;
#[cfg(not(unix))]
pub(super) use not_unix::*;
#[cfg(unix)]
pub(super) use unix::*;

/// The access to a file that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    /// Create or replace a file.
    Write,
}

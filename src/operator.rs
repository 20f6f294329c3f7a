//! How texts for the operator name a setting.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// From now on, texts for the operator name options of the program `tuffet`. Other programs do not have them.
#[doc(hidden)]
pub fn name_options() {
    IS_PROGRAM.store(true, Relaxed);
}

/// The name of a setting in a text for the operator: of the library, or of the option of `tuffet`.
pub(crate) fn setting(library: &'static str, option: &'static str) -> &'static str {
    if IS_PROGRAM.load(Relaxed) { option } else { library }
}

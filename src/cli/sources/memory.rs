//! `memory:`, uploaded files that disappear with the server.

use std::ffi::OsStr;

use tuffet::Handler;

use super::{Kind, Opened, Result, Serve, Uploads};

pub struct Memory;

impl Kind for Memory {
    fn name(&self) -> &'static str {
        "memory:"
    }

    fn is(&self, text: &OsStr, _: Option<&str>) -> bool {
        text == self.name()
    }

    fn open(&self, _: &OsStr, args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
        Ok(Box::new(opened.memory.clone().overwrite(args.overwrite)))
    }

    fn takes_uploads(&self) -> Uploads {
        Uploads::Always
    }
}

//! The open sources, and what survives a reload: the files in memory, and the caches of the web servers that are still
//! used.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use tuffet::{
    Handler,
    handlers::{Directory, Memory},
};

use super::{
    super::{restart::Restart, upstreams::Questions},
    Result,
};

#[derive(Default)]
pub struct Opened {
    pub(super) memory: Memory,
    /// The table of machines, which the rules use.
    #[cfg(feature = "full")]
    pub machines: tuffet::rules::Machines,
    /// The boot files of machines.
    #[cfg(feature = "full")]
    pub boots: tuffet::dhcp::CurrentProxy,
    before: HashMap<String, Arc<dyn Handler>>,
    now: RefCell<HashMap<String, Arc<dyn Handler>>>,
    /// The questions to servers that were not open before.
    questions: RefCell<Questions>,
    pub(super) directories: RefCell<Vec<Directory>>,
    /// The present or future user of the server, for the log.
    pub(super) user: Option<Arc<str>>,
    pub restart: Restart,
}

impl Opened {
    pub fn as_user(user: Option<String>) -> Self {
        Self { user: user.map(Into::into), ..Self::default() }
    }

    /// The source with this key. A reload keeps it as it is while the key stays the same.
    pub(super) fn keep<H: Handler>(
        &self,
        key: String,
        open: impl FnOnce() -> Result<Arc<H>>,
    ) -> Result<Box<dyn Handler>> {
        let known = self.before.get(&key).or(self.now.borrow().get(&key)).cloned();
        let handler = known.map_or_else(|| open().map(|handler| handler as Arc<dyn Handler>), Ok)?;
        self.now.borrow_mut().insert(key, handler.clone());
        Ok(Box::new(handler))
    }

    /// Adds a question to a server behind this one.
    #[cfg(feature = "http")]
    pub(super) fn ask(
        &self,
        name: String,
        answer: impl Future<Output = std::result::Result<String, tuffet::Refusal>> + Send + 'static,
    ) {
        self.questions.borrow_mut().push(name, answer);
    }

    /// The questions that were not asked yet.
    pub fn questions(&self) -> Questions {
        self.questions.take()
    }

    /// For a reload: the sources that are open now may be used again.
    #[cfg(feature = "full")]
    pub fn again(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            machines: self.machines.clone(),
            boots: self.boots.clone(),
            before: self.now.borrow().clone(),
            user: self.user.clone(),
            restart: self.restart.clone(),
            ..Self::default()
        }
    }

    /// All served directories.
    pub fn directories(&self) -> Vec<Directory> {
        self.directories.borrow().clone()
    }
}

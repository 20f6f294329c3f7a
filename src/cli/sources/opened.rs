//! What is open, and what of it outlives a reload: the files in memory, and the caches of web servers that are wanted after
//! it as well.

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
    /// What whoever learns of machines tells the rules.
    #[cfg(feature = "full")]
    pub machines: tuffet::rules::Machines,
    /// What machines are told to boot.
    pub boots: super::super::dhcp::Live,
    before: HashMap<String, Arc<dyn Handler>>,
    now: RefCell<HashMap<String, Arc<dyn Handler>>>,
    /// To those that were not open before.
    questions: RefCell<Questions>,
    pub(super) directories: RefCell<Vec<Directory>>,
    /// Who the server is, or will be, for people.
    pub(super) user: Option<Arc<str>>,
    pub restart: Restart,
}

impl Opened {
    pub fn as_user(user: Option<String>) -> Self {
        Self { user: user.map(Into::into), ..Self::default() }
    }

    /// The source with this key, which a reload keeps as it is for as long as it has the key.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "what needs no asking is opened anew"))]
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

    /// Remembers what a server behind this one is to be asked.
    #[cfg(feature = "http")]
    pub(super) fn ask(
        &self,
        name: String,
        answer: impl Future<Output = std::result::Result<String, tuffet::Refusal>> + Send + 'static,
    ) {
        self.questions.borrow_mut().push(name, answer);
    }

    /// The questions that nobody has asked yet.
    pub fn questions(&self) -> Questions {
        self.questions.take()
    }

    /// For a reload: what is open now may be used again.
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

    /// All directories that are served.
    pub fn directories(&self) -> Vec<Directory> {
        self.directories.borrow().clone()
    }
}

//! Stubs for parts that the small program, or a system, lacks: options that do not exist, and functions that do
//! nothing.
#![allow(dead_code, reason = "a system may lack a part of it alone")]

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
};

use clap::{ArgMatches, Args};
use tuffet::{Handler, Server, ServerBuilder, ServerHandle};

use super::{
    Result,
    args::{Arguments, Serve},
    command_line,
    logging::Transfers,
    serve,
    sources::{Opened, Source},
};

/// The options of a part that is lacking: none.
#[derive(Args, Debug)]
#[group(skip)]
pub struct NoOptions {}

/// Stands for the sources, servers and pages of a part that the small program lacks.
#[derive(Clone, Default)]
pub struct Nothing;

impl NoOptions {
    pub fn apply(&self, builder: ServerBuilder) -> ServerBuilder {
        builder
    }

    pub fn file(&self) -> Option<&Path> {
        None
    }

    pub fn ignores_case(&self) -> bool {
        false
    }

    pub fn sources(&self) -> impl Iterator<Item = Source> {
        std::iter::empty()
    }

    pub fn watch(&self, builder: ServerBuilder) -> Result<(Option<Nothing>, ServerBuilder)> {
        Ok((None, builder))
    }

    pub fn bind(
        &self,
        _: &Serve,
        _: (&Opened, &Arc<Transfers>),
        builder: ServerBuilder,
    ) -> Result<(Option<Nothing>, ServerBuilder)> {
        Ok((None, builder))
    }

    pub fn open(&self, _: &Serve, _: &super::sandbox::Entrance) -> Result<Nothing> {
        Ok(Nothing)
    }

    pub fn program(&self) -> Option<PathBuf> {
        None
    }
}

impl Nothing {
    pub fn watch(&self, builder: ServerBuilder) -> ServerBuilder {
        builder
    }

    pub fn begin(self) -> Result<Self> {
        Ok(self)
    }

    pub fn ask(self) {}

    pub fn add(&self, bar: Self) -> Self {
        bar
    }

    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    pub fn is_hidden(&self) -> bool {
        true
    }

    pub fn inc(&self, _: u64) {}

    pub fn finish_and_clear(&self) {}
}

pub mod access {
    pub use super::NoOptions as Access;
}

pub mod bars {
    use super::*;

    pub use super::{Nothing as MultiProgress, Nothing as ProgressBar};

    /// A number of bytes, with a unit.
    pub struct BinaryBytes(pub u64);

    pub fn screen(_: bool) -> MultiProgress {
        Nothing
    }

    pub fn bar(_: &str, _: Option<u64>) -> ProgressBar {
        Nothing
    }

    pub fn set_size(_: &ProgressBar, _: Option<u64>) {}

    pub fn watch(_: MultiProgress, _: &ServerHandle, _: &Receiver<()>) {}

    impl fmt::Display for BinaryBytes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                few @ ..10_000 => write!(f, "{few} B"),
                some @ ..10_000_000 => write!(f, "{} KiB", some >> 10),
                many => write!(f, "{} MiB", many >> 20),
            }
        }
    }
}

pub mod config {
    use super::*;

    pub use super::NoOptions as ConfigArgs;

    pub fn arguments() -> Result<(Arguments, ArgMatches)> {
        Ok(command_line::read())
    }

    pub struct Reload(Opened);

    impl Reload {
        pub fn new(_: &Serve, opened: Opened, _: ServerHandle) -> Self {
            Self(opened)
        }

        pub fn reload(&mut self) -> Option<&Serve> {
            serve::look(&self.0.directories());
            None
        }
    }
}

pub mod dhcp {
    use super::*;

    pub use super::NoOptions as Dhcp;

    pub fn look(_: Option<&Nothing>, _: &Server, _: &str, _: &Serve) -> Result<String> {
        Ok(String::new())
    }

    pub fn tell(_: &str, _: &Serve) {}

    pub fn serve(sockets: Option<Nothing>, _: &Server) -> Result<Option<Nothing>> {
        Ok(sockets)
    }
}

pub mod rules {
    use super::*;

    pub use super::NoOptions as Names;

    pub fn apply(_: &Serve, _: &Opened, handler: impl Handler) -> Result<Box<dyn Handler>> {
        Ok(Box::new(handler))
    }
}

pub mod sandbox {
    use super::*;

    pub use super::NoOptions as Sandbox;

    pub struct Plan;

    pub struct Entrance;

    pub struct Entered {
        pub user: Option<String>,
    }

    pub fn become_user(_: &str) -> Result<Vec<(&'static str, std::ffi::OsString)>> {
        Ok(Vec::new())
    }

    pub fn nobody() -> Option<String> {
        None
    }

    pub fn watch(_: &Serve) -> impl Fn() + Send + use<> {
        || ()
    }

    impl Plan {
        pub fn new(_: &Serve) -> Self {
            Self
        }

        pub fn lacks(&self, _: &Self) -> Vec<String> {
            Vec::new()
        }
    }

    impl Entrance {
        pub fn new(_: &Serve) -> Result<Self> {
            Ok(Self)
        }

        pub fn for_explain(_: &Serve) -> Result<Self> {
            Ok(Self)
        }

        pub fn user(&self) -> Option<String> {
            None
        }

        pub fn ids(&self) -> Option<String> {
            None
        }

        pub fn enter(self) -> Result<Entered> {
            Ok(Entered { user: None })
        }
    }

    impl Entered {
        pub fn tell(&self) {}
    }
}

pub mod service {
    use std::{io, net::UdpSocket, time::Duration};

    use super::*;

    pub fn sockets() -> Result<Vec<UdpSocket>> {
        Ok(Vec::new())
    }

    pub fn ready() {}

    pub fn reload<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    pub fn stopping(_: usize, _: Duration) {}

    pub fn watch(_: ServerHandle) -> io::Result<()> {
        Ok(())
    }
}

pub mod status {
    use super::*;

    pub use super::NoOptions as StatusArgs;

    pub fn serve(status: Option<Nothing>, _: &Server, _: &str) -> Result<Option<Nothing>> {
        Ok(status)
    }
}

pub mod notify {
    pub use super::NoOptions as NotifyArgs;

    pub fn helper() -> Option<std::process::ExitCode> {
        None
    }
}

#[cfg(not(feature = "http"))]
pub mod upstreams {
    pub use super::Nothing as Questions;
}

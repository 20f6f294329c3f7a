//! Stubs for parts that the small program, or a system, lacks: options that do not exist, and functions that do
//! nothing.
#![allow(dead_code, reason = "a system may lack a part of it alone")]

pub mod access {
    use clap::Args;
    use tuffet::ServerBuilder;

    #[derive(Args, Debug)]
    pub struct Access {}

    impl Access {
        pub fn apply(&self, builder: ServerBuilder) -> ServerBuilder {
            builder
        }
    }
}

pub mod bars {
    use std::{fmt, sync::mpsc::Receiver};

    use tuffet::ServerHandle;

    /// A number of bytes, with a unit.
    pub struct BinaryBytes(pub u64);

    #[derive(Clone)]
    pub struct MultiProgress;

    #[derive(Clone)]
    pub struct ProgressBar;

    pub fn screen(_: bool) -> MultiProgress {
        MultiProgress
    }

    pub fn bar(_: &str, _: Option<u64>) -> ProgressBar {
        ProgressBar
    }

    pub fn set_size(_: &ProgressBar, _: Option<u64>) {}

    pub fn watch(_: MultiProgress, _: &ServerHandle, _: &Receiver<()>) {}

    impl MultiProgress {
        pub fn add(&self, bar: ProgressBar) -> ProgressBar {
            bar
        }

        pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }

        pub fn is_hidden(&self) -> bool {
            true
        }
    }

    impl ProgressBar {
        pub fn inc(&self, _: u64) {}

        pub fn finish_and_clear(&self) {}
    }

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
    use std::path::Path;

    use clap::{ArgMatches, Args};
    use tuffet::ServerHandle;

    use super::super::{
        Result,
        args::{Arguments, Serve},
        command_line, serve,
        sources::Opened,
    };

    #[derive(Args, Debug)]
    pub struct ConfigArgs {}

    impl ConfigArgs {
        pub fn file(&self) -> Option<&Path> {
            None
        }
    }

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
    use std::sync::Arc;

    use clap::Args;
    use tuffet::{Server, ServerBuilder};

    use super::super::{Result, args::Serve, logging::Transfers, sources::Opened};

    #[derive(Args, Debug)]
    pub struct Dhcp {}

    #[derive(Clone, Default)]
    pub struct CurrentProxy;

    pub struct Sockets;

    impl Dhcp {
        pub fn watch(
            &self,
            _: &Serve,
            (opened, _): (&Opened, &Arc<Transfers>),
            builder: ServerBuilder,
        ) -> Result<(Option<Sockets>, ServerBuilder)> {
            let CurrentProxy = opened.boots;
            Ok((None, builder))
        }
    }

    pub fn look(_: Option<&Sockets>, _: &Server, _: &str, _: &Serve) -> Result<String> {
        Ok(String::new())
    }

    pub fn tell(_: &str, _: &Serve) {}

    pub fn serve(sockets: Option<Sockets>, _: &Server) -> Result<Option<Sockets>> {
        Ok(sockets)
    }
}

pub mod rules {
    use clap::Args;
    use tuffet::Handler;

    use super::super::{
        Result,
        args::Serve,
        sources::{Opened, Source},
    };

    #[derive(Args, Debug)]
    pub struct Names {}

    impl Names {
        pub fn sources(&self) -> impl Iterator<Item = Source> {
            std::iter::empty()
        }

        pub fn ignores_case(&self) -> bool {
            false
        }
    }

    pub fn apply(_: &Serve, _: &Opened, handler: impl Handler) -> Result<Box<dyn Handler>> {
        Ok(Box::new(handler))
    }
}

pub mod sandbox {
    use clap::Args;

    use super::super::{Result, args::Serve};

    #[derive(Args, Debug)]
    pub struct Sandbox {}

    pub struct Plan;

    pub struct Entrance;

    pub fn become_user(_: &str) -> Result<Vec<(&'static str, std::ffi::OsString)>> {
        Ok(Vec::new())
    }

    #[cfg(feature = "full")]
    pub fn nobody() -> Option<String> {
        None
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

    pub struct Entered {
        pub user: Option<String>,
    }

    impl Entered {
        pub fn tell(&self) {}
    }
}

pub mod service {
    use std::{io, net::UdpSocket, time::Duration};

    use tuffet::ServerHandle;

    pub fn sockets() -> super::super::Result<Vec<UdpSocket>> {
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
    use clap::Args;
    use tuffet::{Server, ServerBuilder};

    use super::super::Result;

    #[derive(Args, Debug)]
    pub struct StatusArgs {}

    pub struct Status;

    impl StatusArgs {
        pub fn watch(&self, builder: ServerBuilder) -> Result<(Option<Status>, ServerBuilder)> {
            Ok((None, builder))
        }
    }

    pub fn serve(status: Option<Status>, _: &Server, _: &str) -> Result<Option<Status>> {
        Ok(status)
    }
}

pub mod notify {
    use std::{path::PathBuf, process::ExitCode};

    use clap::Args;
    use tuffet::ServerBuilder;

    use super::super::{Result, args::Serve, sandbox::Entrance};

    #[derive(Args, Debug)]
    pub struct NotifyArgs {}

    pub struct Notifier;

    pub struct NotifierGuard;

    impl NotifyArgs {
        pub fn open(&self, _: &Serve, _: &Entrance) -> Result<Notifier> {
            Ok(Notifier)
        }

        pub fn program(&self) -> Option<PathBuf> {
            None
        }
    }

    impl Notifier {
        pub fn watch(&self, builder: ServerBuilder) -> ServerBuilder {
            builder
        }

        pub fn begin(self) -> Result<NotifierGuard> {
            Ok(NotifierGuard)
        }
    }

    pub fn helper() -> Option<ExitCode> {
        None
    }
}

pub mod upstreams {
    #[derive(Default)]
    pub struct Questions;

    impl Questions {
        pub fn ask(self) {}
    }
}

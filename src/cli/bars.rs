//! Progress bars, on standard error if that is a terminal.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

pub use indicatif::{BinaryBytes, MultiProgress, ProgressBar};
use indicatif::{ProgressDrawTarget, ProgressStyle};
use tuffet::{ServerHandle, options::Direction, stats::Snapshot};

/// The most bars: more than a screen of them would help nobody.
const MOST: usize = 20;
const INTERVAL: Duration = Duration::from_millis(200);

/// The columns that remain for the name, however long the client's address is.
const NAME: usize = 12;

/// The form of bars that take one line of a terminal.
struct Form {
    /// The width of a title, in columns.
    title: usize,
    /// The width of the longest title.
    longest: usize,
    size_known: &'static str,
    size_unknown: &'static str,
}

impl Form {
    fn new(columns: usize) -> Self {
        match columns {
            80.. => Self {
                title: 32,
                // All but the title, and a bar of one column.
                longest: columns - 42,
                size_known: "{prefix:32} {wide_bar} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4}",
                size_unknown: "{prefix:32} {wide_msg} {bytes:>10} {bytes_per_sec:>12}",
            },
            _ => {
                let title = columns.saturating_sub(" 1023.99 MiB".len());
                Self { title, longest: title, size_known: "{prefix} {percent:>3} %", size_unknown: "{prefix} {bytes}" }
            }
        }
    }

    fn now() -> Self {
        #[cfg(unix)]
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stderr()) {
            // Some terminals do not know their size.
            if size.ws_col > 0 {
                return Self::new(size.ws_col.into());
            }
        }
        Self::new(80)
    }
}

/// The place of all bars. They are hidden with `quiet`, or if standard error is no terminal.
pub fn screen(quiet: bool) -> MultiProgress {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    MultiProgress::with_draw_target(target)
}

/// The bar of one transfer, for a [`screen`]. Without a screen it is not drawn, so it leaves no line behind.
pub fn bar(name: &str, size: Option<u64>) -> ProgressBar {
    titled(end(&name.escape_debug().to_string(), Form::now().title), size)
}

fn titled(title: String, size: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_prefix(title);
    set_size(&bar, size);
    bar
}

/// The end of a name that takes at most so many columns. The end tells more than the beginning.
fn end(name: &str, columns: usize) -> String {
    // Chinese characters, for example, take two columns.
    let width = |c: char| if c.is_ascii() { 1 } else { 2 };
    if name.chars().map(width).sum::<usize>() <= columns {
        return name.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |(_, c): &(usize, char)| {
        let rest = left.checked_sub(width(*c));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let from = name.char_indices().rev().take_while(fits).last().map_or(name.len(), |(at, _)| at);
    format!("…{}", &name[from..])
}

/// Changes the bar's look when the size becomes known.
pub fn set_size(bar: &ProgressBar, size: Option<u64>) {
    if let Some(size) = size {
        bar.set_length(size);
    }
    let Form { size_known, size_unknown, .. } = Form::now();
    let template = if size.is_some() { size_known } else { size_unknown };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// Shows the running transfers until the channel is closed.
pub fn watch(screen: MultiProgress, server: &ServerHandle, over: &Receiver<()>) {
    let mut bars = Running { screen, bars: BTreeMap::new(), more: None };
    while over.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        bars.show(&server.transfers());
    }
    bars.show(&[]);
}

struct Running {
    screen: MultiProgress,
    bars: BTreeMap<u64, ProgressBar>,
    /// Shows how many more transfers run.
    more: Option<ProgressBar>,
}

impl Running {
    fn show(&mut self, transfers: &[Snapshot]) {
        self.remove_ended(transfers);
        for transfer in transfers {
            self.show_one(transfer);
        }
        self.count(transfers.len() - self.bars.len());
    }

    fn remove_ended(&mut self, transfers: &[Snapshot]) {
        let screen = &self.screen;
        self.bars.retain(|id, bar| {
            let is_running = transfers.iter().any(|transfer| transfer.id == *id);
            if !is_running {
                bar.finish_and_clear();
                screen.remove(bar);
            }
            is_running
        });
    }

    fn show_one(&mut self, transfer: &Snapshot) {
        if self.bars.len() < MOST && !self.bars.contains_key(&transfer.id) {
            let bar = titled(title(transfer, &Form::now()), transfer.size);
            let bar = match &self.more {
                Some(more) => self.screen.insert_before(more, bar),
                None => self.screen.add(bar),
            };
            self.bars.insert(transfer.id, bar);
        }
        if let Some(bar) = self.bars.get(&transfer.id) {
            if transfer.size != bar.length() {
                set_size(bar, transfer.size);
            }
            bar.set_position(transfer.bytes);
        }
    }

    fn count(&mut self, hidden: usize) {
        if hidden == 0 {
            if let Some(more) = self.more.take() {
                more.finish_and_clear();
                self.screen.remove(&more);
            }
            return;
        }
        let more = self.more.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            self.screen.add(titled(String::new(), None)).with_style(style)
        });
        more.set_message(format!("and {hidden} more"));
    }
}

/// The client and the end of the name, or the latter alone if there is no room for both.
fn title(transfer: &Snapshot, form: &Form) -> String {
    let arrow = if transfer.direction == Direction::Read { "<" } else { ">" };
    let client = format!("{} {arrow} ", transfer.peer.ip());
    let left = form.title.saturating_sub(client.len()).max(NAME);
    match client.len() + left <= form.longest {
        true => client + &end(&transfer.path, left),
        false => end(&transfer.path, form.title),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_at_the_front() {
        assert_eq!(end("pxelinux.0", 10), "pxelinux.0");
        assert_eq!(end("boot/amd64/linux", 6), "…linux");
        // Of 7 columns one is for the mark, and three characters need the rest.
        assert_eq!(end("日本語", 6), "日本語");
        assert_eq!((end("日本語日本語", 7), end("日本語日本語", 6)), ("…日本語".into(), "…本語".into()));
        assert_eq!((end("name", 1), end("name", 0)), ("…".into(), "…".into()));
    }

    #[test]
    fn control_characters_are_not_drawn() {
        assert_eq!(bar("\u{1b}[2J", None).prefix(), "\\u{1b}[2J");
    }

    #[test]
    fn a_bar_without_a_screen_is_not_drawn() {
        assert!(bar("name", Some(9)).is_hidden() && bar("name", None).is_hidden());
    }
}

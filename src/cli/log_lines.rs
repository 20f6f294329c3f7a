//! Log lines on their way to a slow destination: a terminal, a pipe without a reader, a full disk. Logging never waits
//! for it: a thread of its own writes the lines, from a bounded queue.

use std::{
    io::{self, Write},
    iter, mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use tuffet::stats::Counter;

/// The most bytes of waiting lines.
const MOST: usize = 1 << 20;
/// The most bytes in one write.
const BATCH: usize = 32 << 10;
/// How long the end of the program waits without progress for lines to be written.
const STUCK: Duration = Duration::from_secs(1);

/// The destination of lines. One call of `write` writes whole lines, if it can.
pub trait Sink: Write + Send {
    /// Opens the file that has the name now.
    fn reopen(&mut self) {}

    /// A line with a message about the lines themselves.
    fn note(&self, text: &str) -> String;

    /// Reports that it takes no more lines, or that it takes lines again and so many are lost. By default it does
    /// nothing, because an error of standard error can be reported nowhere.
    fn report(&self, state: Result<u64, &io::Error>) {
        _ = state;
    }
}

/// Clones write to the same destination.
#[derive(Clone)]
pub struct LogLines(Arc<Shared>);

struct Shared {
    name: &'static str,
    /// The way to the writing thread. Without one, the logging thread writes.
    queue: OnceLock<Sender<Item>>,
    /// The bytes of the waiting lines.
    waiting: AtomicUsize,
    /// The lines that found no room, and are not reported yet.
    missing: AtomicUsize,
    sink: Mutex<Writer>,
    lost: Counter,
}

enum Item {
    Line(Vec<u8>),
    /// A line found no room.
    Lost,
    Reopen,
    /// Dropped when all lines before it are written.
    Flush(Sender<()>),
}

struct Writer {
    sink: Box<dyn Sink>,
    /// The lines that could not be written, since the last that could.
    lost: u64,
    /// Whether the last write ended within a line.
    is_torn: bool,
}

impl LogLines {
    /// `lost` counts the lines that were not written.
    pub fn new(name: &'static str, sink: impl Sink + 'static, lost: &Counter) -> Self {
        let sink = Mutex::new(Writer { sink: Box::new(sink), lost: 0, is_torn: false });
        let (queue, waiting, missing) = Default::default();
        Self(Arc::new(Shared { name, queue, waiting, missing, sink, lost: lost.clone() }))
    }

    /// Starts a thread that writes from now on.
    pub fn begin(&self) -> io::Result<()> {
        let (shared, (queue, items)) = (self.0.clone(), mpsc::channel());
        thread::Builder::new().name(self.0.name.into()).spawn(move || shared.write_all(&items))?;
        _ = self.0.queue.set(queue);
        Ok(())
    }

    pub fn push(&self, line: Vec<u8>) {
        let Shared { queue, waiting, missing, sink, lost, .. } = &*self.0;
        let Some(queue) = queue.get() else { return self.0.write(&line, &mut lock(sink)) };
        if waiting.fetch_add(line.len(), Relaxed) + line.len() > MOST {
            waiting.fetch_sub(line.len(), Relaxed);
            lost.add(1);
            if missing.fetch_add(1, Relaxed) == 0 {
                _ = queue.send(Item::Lost);
            }
            return;
        }
        _ = queue.send(Item::Line(line));
    }

    /// Makes later lines go to the file that has the name now.
    pub fn reopen(&self) {
        match self.0.queue.get() {
            Some(queue) => _ = queue.send(Item::Reopen),
            None => lock(&self.0.sink).sink.reopen(),
        }
    }

    /// Waits until all lines are written, or no more lines are taken.
    pub fn flush(&self) {
        let Shared { queue, waiting, .. } = &*self.0;
        let Some(queue) = queue.get() else { return };
        let (flushed, is_flushed) = mpsc::channel();
        _ = queue.send(Item::Flush(flushed));
        let mut before = waiting.load(Relaxed);
        while is_flushed.recv_timeout(STUCK) == Err(RecvTimeoutError::Timeout) {
            let now = waiting.load(Relaxed);
            if mem::replace(&mut before, now) == now {
                return;
            }
        }
    }
}

/// Each write is one or several lines.
impl Write for LogLines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines.to_vec());
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// Runs on the writing thread. It writes as many waiting lines at once as fit into one write.
    fn write_all(&self, items: &Receiver<Item>) {
        while let Ok(first) = items.recv() {
            let (mut writer, mut lines) = (lock(&self.sink), Vec::new());
            for item in iter::once(first).chain(items.try_iter()) {
                match item {
                    Item::Line(line) => {
                        self.waiting.fetch_sub(line.len(), Relaxed);
                        lines.extend(line);
                    }
                    Item::Lost => {
                        let count = self.missing.swap(0, Relaxed) as u64;
                        lines.extend(writer.sink.note(&lost(count)).into_bytes());
                    }
                    Item::Reopen => {
                        self.write(&mem::take(&mut lines), &mut writer);
                        writer.sink.reopen();
                    }
                    Item::Flush(_flushed) => self.write(&mem::take(&mut lines), &mut writer),
                }
                if lines.len() >= BATCH {
                    break;
                }
            }
            self.write(&lines, &mut writer);
        }
    }

    fn write(&self, lines: &[u8], writer: &mut Writer) {
        if lines.is_empty() {
            return;
        }
        let before = writer.lost;
        let mut text = Vec::new();
        if writer.is_torn {
            text.push(b'\n');
        }
        if before > 0 {
            text.extend(writer.sink.note(&lost(before)).into_bytes());
        }
        let head = text.len();
        text.extend_from_slice(lines);
        let (written, result) = write_some(&mut writer.sink, &text);
        if written > 0 {
            writer.is_torn = text[written - 1] != b'\n';
        }
        let missing = count(&text[written.max(head)..]);
        writer.lost = missing + if written < head { before } else { 0 };
        self.lost.add(missing);
        match result {
            Ok(()) if before > 0 => writer.sink.report(Ok(before)),
            Err(error) if before == 0 => writer.sink.report(Err(&error)),
            _ => {}
        }
    }
}

/// How many bytes were written, and the error that stopped it.
fn write_some(sink: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < text.len() {
        match sink.write(&text[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process has made this file description non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn lost(count: u64) -> String {
    let lines = if count == 1 { "line is" } else { "lines are" };
    format!("{count} {lines} missing here: the log could not be written in time")
}

/// A lock that no panic poisons.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, channel, sync_channel};

    use super::*;

    /// Takes a line only when it is allowed one.
    struct Slow {
        allowed: Receiver<usize>,
        asked: SyncSender<()>,
        left: usize,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                _ = self.asked.try_send(());
                match self.allowed.recv() {
                    Ok(0) | Err(_) => return Err(io::ErrorKind::StorageFull.into()),
                    Ok(more) => self.left = more,
                }
            }
            let count = bytes.len().min(self.left);
            self.left -= count;
            lock(&self.taken).extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Slow {
        fn note(&self, text: &str) -> String {
            format!("# {text}\n")
        }
    }

    struct Rig {
        lines: LogLines,
        allow: Sender<usize>,
        is_asked: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
        lost: Counter,
    }

    fn slow() -> Rig {
        let ((allow, allowed), (asked, is_asked)) = (channel(), sync_channel(1));
        let (taken, lost) = (Arc::<Mutex<Vec<u8>>>::default(), Counter::new("lost", ""));
        let lines = LogLines::new("slow", Slow { allowed, asked, left: 0, taken: taken.clone() }, &lost);
        Rig { lines, allow, is_asked, taken, lost }
    }

    fn text(taken: &Mutex<Vec<u8>>) -> String {
        String::from_utf8(lock(taken).clone()).unwrap()
    }

    /// Waits until all lines are written, also by a thread that a busy machine does not let run.
    fn wait_for(lines: &LogLines) {
        lines.flush();
        while lines.0.waiting.load(Relaxed) > 0 {
            thread::yield_now();
        }
        // The writing thread holds it until it has written the lines that wait no more.
        drop(lock(&lines.0.sink));
    }

    #[test]
    fn logging_never_waits_and_lost_lines_are_counted() {
        let Rig { lines, allow, is_asked, taken, lost } = slow();
        lines.begin().unwrap();
        lines.push(b"first\n".to_vec());
        is_asked.recv().unwrap();
        // From here on the writing thread waits, but this one does not.
        let line = vec![b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<_>>();
        (0..2 * MOST / 1024).for_each(|_| lines.push(line.clone()));
        assert_eq!(lost.value(), (MOST / 1024) as u64);
        allow.send(usize::MAX).unwrap();
        wait_for(&lines);
        lines.push(b"last\n".to_vec());
        wait_for(&lines);
        let text = text(&taken);
        assert!(text.starts_with("first\nxxx"));
        assert!(
            text.ends_with("x\n# 1024 lines are missing here: the log could not be written in time\nlast\n"),
            "{}",
            text.len()
        );
        assert_eq!(text.lines().filter(|line| line.len() == 1023).count(), MOST / 1024);
    }

    #[test]
    fn a_disk_that_is_full_costs_lines_and_no_more() {
        let Rig { mut lines, allow, taken, lost, .. } = slow();
        // Room for half a line, and none for the rest.
        [3, 0].into_iter().for_each(|room| allow.send(room).unwrap());
        lines.push(b"one\ntwo\n".to_vec());
        assert_eq!((text(&taken).as_str(), lost.value()), ("one", 2));
        allow.send(0).unwrap();
        lines.push(b"three\n".to_vec());
        assert_eq!(lost.value(), 3);
        allow.send(usize::MAX).unwrap();
        lines.write_all(b"four\n").unwrap();
        let expected = "one\n# 3 lines are missing here: the log could not be written in time\nfour\n";
        assert_eq!((text(&taken).as_str(), lost.value()), (expected, 3));
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let Rig { lines, allow: _allow, is_asked, .. } = slow();
        lines.begin().unwrap();
        lines.push(b"first\n".to_vec());
        is_asked.recv().unwrap();
        let (tell, is_over) = channel();
        thread::spawn(move || {
            lines.flush();
            _ = tell.send(());
        });
        is_over.recv_timeout(Duration::from_secs(20)).expect("an end");
    }
}

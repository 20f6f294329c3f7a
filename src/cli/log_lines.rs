//! Log lines on their way to a slow destination: a terminal, a pipe without a reader, a full disk. Logging never waits
//! for it: a thread of its own writes the lines, from a bounded queue.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
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
    queue: Mutex<Queue>,
    /// A line waits, or the last waiting line is written.
    changed: Condvar,
    sink: Mutex<Writer>,
    lost: Counter,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Item>,
    bytes: usize,
    /// Whether a thread writes. Without one, the logging thread writes.
    has_thread: bool,
    /// Whether the thread is writing.
    is_busy: bool,
    /// The time of the last write.
    moved: Option<Instant>,
}

enum Item {
    Line(Vec<u8>),
    /// The number of lines that found no room.
    Lost(u64),
    Reopen,
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
        Self(Arc::new(Shared { name, queue: Mutex::default(), changed: Condvar::new(), sink, lost: lost.clone() }))
    }

    /// Starts a thread that writes from now on.
    pub fn begin(&self) -> io::Result<()> {
        let shared = self.0.clone();
        lock(&self.0.queue).has_thread = true;
        let begun = thread::Builder::new().name(self.0.name.into()).spawn(move || shared.write_all());
        if begun.is_err() {
            lock(&self.0.queue).has_thread = false;
        }
        begun.map(drop)
    }

    pub fn push(&self, line: Vec<u8>) {
        let mut queue = lock(&self.0.queue);
        if !queue.has_thread {
            drop(queue);
            return self.0.write(&line, &mut lock(&self.0.sink));
        }
        if queue.bytes + line.len() <= MOST {
            queue.bytes += line.len();
            queue.waiting.push_back(Item::Line(line));
        } else {
            self.0.lost.add(1);
            match queue.waiting.back_mut() {
                Some(Item::Lost(count)) => *count += 1,
                _ => queue.waiting.push_back(Item::Lost(1)),
            }
        }
        self.0.changed.notify_all();
    }

    /// Makes later lines go to the file that has the name now.
    pub fn reopen(&self) {
        let mut queue = lock(&self.0.queue);
        if !queue.has_thread {
            drop(queue);
            return lock(&self.0.sink).sink.reopen();
        }
        queue.waiting.push_back(Item::Reopen);
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, or no more lines are taken.
    pub fn flush(&self) {
        let mut queue = lock(&self.0.queue);
        let begin = Instant::now();
        while !queue.waiting.is_empty() || queue.is_busy {
            let left = STUCK.saturating_sub(queue.moved.map_or(begin, |moved| moved.max(begin)).elapsed());
            if left.is_zero() {
                return;
            }
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
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
    /// Runs on the writing thread.
    fn write_all(&self) {
        loop {
            let items = self.take();
            let mut writer = lock(&self.sink);
            let mut lines = Vec::new();
            for item in items {
                match item {
                    Item::Line(line) => lines.extend(line),
                    Item::Lost(count) => lines.extend(writer.sink.note(&lost(count)).into_bytes()),
                    Item::Reopen => {
                        self.write(&mem::take(&mut lines), &mut writer);
                        writer.sink.reopen();
                    }
                }
            }
            self.write(&lines, &mut writer);
            drop(writer);
            let mut queue = lock(&self.queue);
            (queue.is_busy, queue.moved) = (false, Some(Instant::now()));
            self.changed.notify_all();
        }
    }

    /// The waiting lines, up to the size of one write.
    fn take(&self) -> Vec<Item> {
        let mut queue = lock(&self.queue);
        while queue.waiting.is_empty() {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.is_busy = true;
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH {
            let Some(item) = queue.waiting.pop_front() else { break };
            bytes += if let Item::Line(line) = &item { line.len() } else { 0 };
            items.push(item);
        }
        queue.bytes -= bytes;
        items
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

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
        lines.flush();
        lines.push(b"last\n".to_vec());
        lines.flush();
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

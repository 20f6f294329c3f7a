//! Sources of readers, and sinks of writers: files, pipes, programs, sockets.

use std::{mem, pin::pin};

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Chunks, Source};
use crate::{
    Bytes,
    error::Refusal,
    generators::{Co, Gen},
};

/// The most bytes that one read asks for.
const CHUNK: usize = 32 << 10;

impl Source {
    /// The bytes of an asynchronous reader, up to 32 KiB of them at once. A failed read becomes the refusal of its
    /// [`ErrorKind`](std::io::ErrorKind).
    ///
    /// The trait is that of `futures`. A tokio reader gets it through
    /// [`compat()`](https://docs.rs/tokio-util/latest/tokio_util/compat/trait.TokioAsyncReadCompatExt.html).
    ///
    /// ```
    /// use futures_lite::{AsyncReadExt, io::Cursor};
    /// use tuffet::Source;
    ///
    /// let twice = Source::async_read(Cursor::new("once ").chain(Cursor::new("twice")));
    /// assert_eq!(futures_lite::future::block_on(twice.collect(100))?, b"once twice");
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    pub fn async_read(reader: impl AsyncRead + 'static) -> Self {
        Gen::new(|co| chunks(co, reader)).into()
    }
}

impl<C: Chunks> Source<C> {
    /// Writes all bytes, and closes the writer. Returns how many bytes it wrote. In this way an upload can be stored
    /// as it arrives.
    ///
    /// ```
    /// use tuffet::{Request, Source, write};
    ///
    /// # async fn open(_: &str) -> std::io::Result<futures_lite::io::Cursor<Vec<u8>>> { Ok(Default::default()) }
    /// let handler = write(async |request: Request, data: Source| {
    ///     let place = open(request.path()).await?;
    ///     let length = data.write_to(place).await?;
    ///     println!("{length} bytes of {}", request.path());
    ///     Ok(())
    /// });
    /// # let _: &dyn tuffet::Handler = &handler;
    /// ```
    ///
    /// # Errors
    /// The source's own failure, or the refusal of the writer's error.
    pub async fn write_to(mut self, writer: impl AsyncWrite) -> Result<u64, Refusal> {
        let (mut writer, mut length) = (pin!(writer), 0);
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            writer.write_all(&chunk).await?;
            length += chunk.len() as u64;
        }
        writer.close().await?;
        Ok(length)
    }
}

async fn chunks(co: Co<Bytes>, reader: impl AsyncRead) -> Result<(), Refusal> {
    let (mut reader, mut buffer) = (pin!(reader), vec![0; CHUNK]);
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            length => co.yield_(chunk(&mut buffer, length)).await,
        }
    }
}

/// Gives a full buffer away, and copies the bytes of any other: a few bytes should not hold a whole buffer.
fn chunk(buffer: &mut Vec<u8>, length: usize) -> Bytes {
    match length == buffer.len() {
        true => mem::replace(buffer, vec![0; CHUNK]).into(),
        false => Bytes::copy_from_slice(&buffer[..length]),
    }
}

#[cfg(feature = "net")]
mod blocking {
    use std::{
        fs::File,
        io::{self, ErrorKind, Read, Seek, Write},
    };

    use smol::unblock;

    use super::*;
    use crate::{
        generators::{SendCo, SendGen},
        source::{IntoSource, SendChunks, SendSource},
    };

    impl Source {
        /// The bytes of a reader that may block: a file, the output of a program. A thread for blocking work reads
        /// them, up to 32 KiB at once and only when they are wanted.
        ///
        /// ```
        /// use std::process::{Command, Stdio};
        /// use tuffet::{Refusal, Request, Source, read};
        ///
        /// let handler = read(|request: Request| {
        ///     let mut program = Command::new("mkconfig").arg(request.path()).stdout(Stdio::piped()).spawn()?;
        ///     let output = program.stdout.take().ok_or(Refusal::internal())?;
        ///     Ok::<_, Refusal>(Source::reader(output))
        /// });
        /// # let _: &dyn tuffet::Handler = &handler;
        /// ```
        pub fn reader(reader: impl Read + Send + 'static) -> SendSource {
            SendGen::new(|co| blocking_chunks(co, reader)).into()
        }

        /// The rest of this file, from its present position. The size is known if the file is a regular one and not
        /// empty; bytes that are appended later do not count. A file of size 0 is read to its end: those of `/proc`
        /// say 0 and are not empty.
        ///
        /// ```no_run
        /// use std::fs::File;
        /// use tuffet::read;
        ///
        /// // A file is a source by itself, and so is a result with one.
        /// let handler = read(|_| File::open("/etc/hostname"));
        /// # let _: &dyn tuffet::Handler = &handler;
        /// ```
        ///
        /// # Errors
        /// If the metadata or the position of the file cannot be read, or the file is a directory.
        pub fn file(mut file: File) -> io::Result<SendSource> {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(ErrorKind::IsADirectory.into());
            }
            if !metadata.is_file() || metadata.len() == 0 {
                return Ok(Self::reader(file));
            }
            let size = metadata.len().saturating_sub(file.stream_position()?);
            Ok(Self::reader(file.take(size)).with_size(size))
        }
    }

    impl<C: Chunks> Source<C> {
        /// Writes all bytes to a writer that may block, and flushes it. Returns how many bytes it wrote. A thread for
        /// blocking work writes, 32 KiB at once or a little more. If the source fails, what was written remains.
        ///
        /// ```
        /// use std::fs::{self, File};
        /// use tuffet::{Request, Source, write};
        ///
        /// let handler = write(async |request: Request, data: Source| {
        ///     let part = format!("/srv/configs/{}.part", request.peer().ip());
        ///     data.write_to_blocking(File::create(&part)?).await?;
        ///     fs::rename(part, "/srv/configs/last")?;
        ///     Ok(())
        /// });
        /// # let _: &dyn tuffet::Handler = &handler;
        /// ```
        ///
        /// # Errors
        /// The source's own failure, or the refusal of the writer's error.
        pub async fn write_to_blocking(mut self, mut writer: impl Write + Send + 'static) -> Result<u64, Refusal> {
            let (mut length, mut buffer, mut over) = (0, Vec::with_capacity(CHUNK), false);
            while !over {
                match self.next().await.transpose()? {
                    Some(chunk) => buffer.extend_from_slice(&chunk),
                    None => over = true,
                }
                if over || buffer.len() >= CHUNK {
                    length += buffer.len() as u64;
                    let write = move || {
                        writer.write_all(&buffer)?;
                        if over {
                            writer.flush()?;
                        }
                        buffer.clear();
                        io::Result::Ok((writer, buffer))
                    };
                    (writer, buffer) = unblock(write).await?;
                }
            }
            Ok(length)
        }
    }

    impl IntoSource for File {
        type Chunks = SendChunks;

        fn into_source(self) -> Result<SendSource, Refusal> {
            Ok(Source::file(self)?)
        }
    }

    async fn blocking_chunks(co: SendCo<Bytes>, mut reader: impl Read + Send + 'static) -> Result<(), Refusal> {
        let mut buffer = vec![0; CHUNK];
        loop {
            // The thread keeps them until the read ends, whatever becomes of the transfer meanwhile.
            let (length, back) = unblock(move || (read(&mut reader, &mut buffer), (reader, buffer))).await;
            (reader, buffer) = back;
            match length? {
                0 => return Ok(()),
                length => co.yield_(chunk(&mut buffer, length)).await,
            }
        }
    }

    fn read(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match reader.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::{future::block_on, io::Cursor, stream};

    use super::*;

    #[test]
    fn a_reader_gives_its_bytes_in_order() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let source = Source::async_read(Cursor::new(bytes.clone()));
            assert!(block_on(source.collect(1 << 20)).unwrap() == bytes, "{size}");
            #[cfg(feature = "net")]
            assert!(block_on(Source::reader(std::io::Cursor::new(bytes.clone())).collect(1 << 20)).unwrap() == bytes);
            let mut place = Cursor::new(Vec::new());
            assert_eq!(block_on(Source::from(bytes.clone()).write_to(&mut place)).unwrap(), size as u64);
            assert!(place.into_inner() == bytes);
            #[cfg(feature = "net")]
            {
                let mut place = tempfile::tempfile().unwrap();
                let pieces: Vec<Vec<u8>> = bytes.chunks(1000).map(<[u8]>::to_vec).collect();
                let pieces = Source::chunks(stream::iter(pieces));
                assert_eq!(block_on(pieces.write_to_blocking(place.try_clone().unwrap())).unwrap(), size as u64);
                std::io::Seek::rewind(&mut place).unwrap();
                assert!(block_on(Source::reader(place).collect(1 << 20)).unwrap() == bytes, "{size}");
            }
        }
    }

    #[test]
    fn streams_of_what_can_be_a_chunk_are_sources() {
        let failing = stream::iter([Ok(Bytes::from("begun")), Err(std::io::ErrorKind::PermissionDenied.into())]);
        let failing = Source::chunks::<std::io::Result<Bytes>>(failing);
        assert_eq!(block_on(failing.collect(100)), Err(Refusal::denied()));
        assert_eq!(block_on(Source::chunks(stream::iter(["a", "b"])).collect(100)).unwrap(), b"ab");
    }

    #[test]
    fn a_writer_that_is_full_ends_the_upload() {
        let mut place = [0; 3];
        let refusal = block_on(Source::from("1234").write_to(Cursor::new(&mut place[..]))).unwrap_err();
        assert_eq!(refusal, Refusal::internal());
        #[cfg(feature = "net")]
        {
            let buffered = std::io::BufWriter::new(std::io::Cursor::new([0; 3]));
            assert_eq!(block_on(Source::from("1234").write_to_blocking(buffered)), Err(Refusal::internal()));
        }
        let failed = Source::chunks(stream::iter([Ok("12"), Err(Refusal::denied())]));
        assert_eq!(block_on(failed.write_to(Cursor::new(Vec::new()))), Err(Refusal::denied()));
    }

    #[cfg(feature = "net")]
    #[test]
    fn files_know_their_size() {
        use std::{
            fs::{self, File},
            io::{Read, Write},
        };

        use crate::source::IntoSource;

        let path = std::env::temp_dir().join(format!("tuffet-source-{}", std::process::id()));
        fs::write(&path, "0123456789").unwrap();
        let mut file = File::open(&path).unwrap();
        file.read_exact(&mut [0; 4]).unwrap();
        let source = file.into_source().unwrap();
        assert_eq!(source.size(), Some(6));
        File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        assert_eq!(block_on(source.collect(100)).unwrap(), b"456789", "as it was");
        fs::remove_file(path).unwrap();
        let missing = File::open("/nothing/there").into_source();
        assert_eq!(missing.unwrap_err(), Refusal::not_found());
        assert!(Source::file(File::open(std::env::temp_dir()).unwrap()).is_err(), "a directory is no file");
    }

    #[cfg(all(feature = "net", target_os = "linux"))]
    #[test]
    fn files_of_proc_have_content_and_no_size() {
        let mut source = Source::file(std::fs::File::open("/proc/self/status").unwrap()).unwrap();
        assert_eq!(source.size(), None);
        block_on(source.read_ahead(64 << 10)).unwrap();
        assert!(source.size().is_some_and(|size| size > 100));
    }
}

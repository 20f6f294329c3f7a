//! netascii, the text mode of RFC 764: line ends travel as CR LF, a lone CR as CR NUL.
//!
//! Both directions keep their state between chunks, so a pair may be split anywhere.

use bytes::Bytes;

const CR: u8 = b'\r';
const LF: u8 = b'\n';
const NUL: u8 = 0;

/// Turns local text (lines end with LF) into netascii.
///
/// Text that already has CR LF becomes CR NUL CR LF, and becomes the same text again at the other end. So a peer
/// stores the bytes that were sent.
///
/// ```
/// use tuffet::netascii::Encoder;
///
/// assert_eq!(Encoder::default().encode(b"two\nlines\n"), "two\r\nlines\r\n");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder(());

/// Turns netascii into local text.
///
/// ```
/// use tuffet::netascii::Decoder;
///
/// let mut decoder = Decoder::default();
/// assert_eq!(decoder.decode(b"two\r"), "two", "what follows the CR is not known yet");
/// assert_eq!(decoder.decode(b"\nlines"), "\nlines");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    after_cr: bool,
}

impl Encoder {
    /// Encodes the next chunk.
    ///
    /// ```
    /// let mut encoder = tuffet::netascii::Encoder::default();
    /// assert_eq!(encoder.encode(b"a\rb\n"), "a\r\0b\r\n");
    /// ```
    pub fn encode(&mut self, chunk: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(chunk.len() + chunk.len() / 16);
        for &byte in chunk {
            match byte {
                LF => out.extend([CR, LF]),
                CR => out.extend([CR, NUL]),
                other => out.push(other),
            }
        }
        out.into()
    }
}

impl Decoder {
    /// Decodes the next chunk. A CR at the end of the chunk is kept until the next byte is known.
    ///
    /// ```
    /// let mut decoder = tuffet::netascii::Decoder::default();
    /// assert_eq!(decoder.decode(b"a\r\nb\r\0"), "a\nb\r");
    /// ```
    pub fn decode(&mut self, chunk: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(chunk.len() + 1);
        for &byte in chunk {
            match (std::mem::take(&mut self.after_cr), byte) {
                (true, LF) => out.push(LF),
                (true, NUL) => out.push(CR),
                (after_cr, byte) => {
                    // A CR before any other byte is against the rules; it is kept as it came.
                    if after_cr {
                        out.push(CR);
                    }
                    match byte {
                        CR => self.after_cr = true,
                        other => out.push(other),
                    }
                }
            }
        }
        out.into()
    }

    /// The rest at the end of the text: a last CR that nothing followed.
    ///
    /// ```
    /// let mut decoder = tuffet::netascii::Decoder::default();
    /// assert_eq!(decoder.decode(b"last\r"), "last");
    /// assert_eq!(decoder.finish(), "\r");
    /// ```
    pub fn finish(&mut self) -> Bytes {
        if std::mem::take(&mut self.after_cr) { Bytes::from_static(&[CR]) } else { Bytes::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], size: usize) -> Vec<u8> {
        let mut decoder = Decoder::default();
        let mut out: Vec<u8> = text.chunks(size).flat_map(|chunk| decoder.decode(chunk)).collect();
        out.extend(decoder.finish());
        out
    }

    #[test]
    fn the_pairs_of_the_rfc() {
        assert_eq!(Encoder::default().encode(b"a\nb\rc\r\n")[..], *b"a\r\nb\r\0c\r\0\r\n");
        assert_eq!(decode(b"a\r\nb\r\0c", 9), b"a\nb\rc");
        assert_eq!(decode(b"a\rb\r\r\nc\r", 9), b"a\rb\r\nc\r", "lone CRs are kept");
    }

    #[test]
    fn text_is_the_same_again_however_it_is_cut() {
        let text: Vec<u8> =
            (0..4000u32).map(|i| b"\r\n\0ab"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 5]).collect();
        for size in [1, 2, 3, 511, 512] {
            let mut encoder = Encoder::default();
            let wire: Vec<u8> = text.chunks(size).flat_map(|chunk| encoder.encode(chunk)).collect();
            assert_eq!(decode(&wire, size), text);
        }
    }
}

//! The requested part of a file (RFC 9110 section 14).

/// The meaning of a `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole file: there is no range, or there are several, or its unit is unknown.
    Whole,
    /// This many bytes (second value), from this byte on (first value).
    Of(u64, u64),
    /// No byte of the file is in the range.
    Nothing,
}

impl Part {
    /// `size` is that of the file. A malformed range counts as one without a byte of the file. The beginning of an
    /// empty file is the whole file, as in nginx.
    pub(super) fn new(range: &str, size: u64) -> Self {
        let Some((unit, set)) = range.split_once('=') else { return Self::Whole };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let mut specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
        match (specs.next(), specs.next()) {
            (Some(spec), None) => Self::one(spec, size).unwrap_or(Self::Nothing),
            _ => Self::Whole,
        }
    }

    fn one(spec: &str, size: u64) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        let (first, last) = (first.trim(), last.trim());
        if first.is_empty() {
            let length = number(last)?.min(size);
            return match length {
                0 => (size == 0).then_some(Self::Whole),
                _ => Some(Self::Of(size - length, length)),
            };
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if (first, size) == (0, 0) {
            return Some(Self::Whole);
        }
        let end = last.saturating_add(1).min(size);
        (first <= last && first < end).then(|| Self::Of(first, end - first))
    }
}

/// A number; one that is too large counts as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_file() {
        for (range, expected) in [
            ("bytes=0-0", Part::Of(0, 1)),
            ("bytes=0-99", Part::Of(0, 100)),
            ("bytes=0-999", Part::Of(0, 100)),
            ("bytes=10-", Part::Of(10, 90)),
            ("bytes=99-", Part::Of(99, 1)),
            ("bytes=-1", Part::Of(99, 1)),
            ("bytes=-1000", Part::Of(0, 100)),
            ("Bytes = 5 - 6 ", Part::Of(5, 2)),
            ("bytes=5-6,", Part::Of(5, 2)),
            ("bytes=5-99999999999999999999999", Part::Of(5, 95)),
            ("bytes=100-", Part::Nothing),
            ("bytes=99999999999999999999999-", Part::Nothing),
            ("bytes=-0", Part::Nothing),
            ("bytes=6-5", Part::Nothing),
            ("bytes=-", Part::Nothing),
            ("bytes=", Part::Whole),
            ("bytes=x-5", Part::Nothing),
            ("bytes=+5-6", Part::Nothing),
            ("bytes=5", Part::Nothing),
            ("bytes=0-1,5-6", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("nonsense", Part::Whole),
        ] {
            assert_eq!(Part::new(range, 100), expected, "{range}");
        }
        for (range, expected) in [
            ("bytes=0-", Part::Whole),
            ("bytes=0-0", Part::Whole),
            ("bytes=-1", Part::Whole),
            ("bytes=1-", Part::Nothing),
            ("bytes=-", Part::Nothing),
        ] {
            assert_eq!(Part::new(range, 0), expected, "{range} of an empty file");
        }
    }
}

//! The options of a request, read once.

use super::*;

/// The known options of a request, each with its value. What the server grants of them depends on limits, which
/// are known step by step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskedOptions {
    /// In the order of the request.
    items: [Option<Item>; OptionName::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Item {
    option: OptionName,
    /// Its place in the request.
    place: usize,
    /// `None` if the value is not valid.
    value: Option<u64>,
}

impl AskedOptions {
    pub(crate) fn of(options: &Options) -> Self {
        let (mut asked, mut len) = (Self::default(), 0);
        for (place, (name, value)) in options.iter().enumerate() {
            let Some(option) = OptionName::of(name) else { continue };
            // Of a name that stands twice the first counts.
            if asked.items[..len].iter().flatten().any(|item| item.option == option) {
                continue;
            }
            let value = match option {
                OptionName::Blksize => up_to(value, wide(BLKSIZE)),
                OptionName::Blksize2 => within(value, 8..=u64::MAX),
                OptionName::Timeout => within(value, TIMEOUT_S),
                OptionName::Utimeout => within(value, UTIMEOUT_US),
                OptionName::Tsize => within(value, 0..=u64::MAX),
                OptionName::Windowsize => up_to(value, wide(WINDOWSIZE)),
                OptionName::Rollover => within(value, 0..=1),
            };
            asked.items[len] = Some(Item { option, place, value });
            len += 1;
        }
        asked
    }

    /// The agreed options.
    pub(crate) fn agree(&self, direction: Direction, mode: Mode, limits: &Limits, size: Option<u64>) -> Agreed {
        self.grant(direction, mode, limits, size, |_, _| {})
    }

    /// The agreed options, and the OACK for them. See [`answer`]. `options` are those of the request.
    pub(crate) fn answer(
        &self,
        options: &Options,
        direction: Direction,
        mode: Mode,
        limits: &Limits,
        size: Option<u64>,
    ) -> (Agreed, Options) {
        let (mut oack, mut pairs, mut next) = (Options::new(), options.iter(), 0);
        let agreed = self.grant(direction, mode, limits, size, |place, value| {
            if let Some((name, _)) = pairs.nth(place - next) {
                oack.push(name, value.to_string());
            }
            next = place + 1;
        });
        (agreed, oack)
    }

    /// Whether the answer to this RRQ has the size of the file in it, if that is known.
    pub(crate) fn tells_size(&self, mode: Mode, limits: &Limits) -> bool {
        self.agree(Direction::Read, mode, limits, Some(1)).tsize().is_some()
    }

    /// The size of the upload that this WRQ announces. It is a statement of the client, not a wish, so no limit applies
    /// to it.
    pub(crate) fn told_size(&self) -> Option<u64> {
        self.agree(Direction::Write, Mode::Octet, &Limits::default(), None).tsize()
    }

    /// Tells of each option that is granted its place in the request, and its value.
    fn grant(
        &self,
        direction: Direction,
        mode: Mode,
        limits: &Limits,
        size: Option<u64>,
        mut granted: impl FnMut(usize, u64),
    ) -> Agreed {
        let mut agreed = Agreed::plain(mode);
        let (mut has_blksize, mut has_timeout) = (false, false);
        for &Item { option, place, value } in self.items.iter().flatten() {
            if limits.only.as_ref().is_some_and(|only| !only.contains(&option)) {
                continue;
            }
            if option == OptionName::Tsize {
                agreed.tsize_asked = true;
            }
            if !limits.answer {
                continue;
            }
            let value = match (option, value) {
                (OptionName::Blksize, Some(asked)) if !has_blksize => {
                    has_blksize = true;
                    agreed.blksize = (asked as u16).min(limits.blksize.max(*BLKSIZE.start()));
                    agreed.blksize.into()
                }
                (OptionName::Blksize2, Some(asked)) if !has_blksize => {
                    has_blksize = true;
                    let most = asked.min(32768).min(limits.blksize.max(*BLKSIZE.start()).into());
                    agreed.blksize = 1 << most.ilog2();
                    agreed.blksize.into()
                }
                (OptionName::Timeout, Some(seconds)) if !has_timeout => {
                    has_timeout = true;
                    agreed.timeout = Some(Duration::from_secs(seconds));
                    seconds
                }
                (OptionName::Utimeout, Some(micros)) if !has_timeout => {
                    has_timeout = true;
                    agreed.timeout = Some(Duration::from_micros(micros));
                    micros
                }
                (OptionName::Tsize, told) => {
                    agreed.tsize = match direction {
                        // In netascii the size on the wire is known only at the end. The size of an empty file is not
                        // told: curl takes `tsize 0` for an error.
                        Direction::Read => size.filter(|&size| mode == Mode::Octet && size > 0),
                        Direction::Write => told,
                    };
                    match agreed.tsize {
                        Some(size) => size,
                        None => continue,
                    }
                }
                (OptionName::Windowsize, Some(asked)) => {
                    agreed.windowsize = (asked as u16).min(limits.windowsize.clamp(1, WIDEST));
                    agreed.windowsize.into()
                }
                (OptionName::Rollover, Some(one)) => {
                    agreed.rollover = if one == 1 { Rollover::One } else { Rollover::Zero };
                    one
                }
                _ => continue,
            };
            granted(place, value);
        }
        agreed
    }
}

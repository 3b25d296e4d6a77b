//! Boxes of the ISO base media file format (ISO/IEC 14496-12), and the numbers in them.

/// Why a container cannot be read: it is damaged, or intact and of a kind that is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Damaged(&'static str),
    Unsupported(&'static str),
}

pub(super) type Parsed<T> = Result<T, Problem>;

const CUT_OFF: Problem = Problem::Damaged("a box is shorter than its content");

pub(super) fn damaged<T>(what: &'static str) -> Parsed<T> {
    Err(Problem::Damaged(what))
}

pub(super) type Kind = [u8; 4];

pub(super) struct Child<'a> {
    pub kind: Kind,
    pub body: Reader<'a>,
}

/// What is left of a box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Parsed<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Parsed<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn kind(&mut self) -> Parsed<Kind> {
        self.array()
    }

    /// A number of 0, 4 or 8 bytes.
    pub fn sized(&mut self, bytes: u8) -> Parsed<u64> {
        match bytes {
            0 => Ok(0),
            4 => self.u32().map(u64::from),
            _ => self.u64(),
        }
    }

    /// A number of two bytes, of four where it is `wide`.
    pub fn id(&mut self, wide: bool) -> Parsed<u32> {
        if wide { self.u32() } else { self.u16().map(u32::from) }
    }

    /// Version and flags.
    pub fn full(&mut self) -> Parsed<(u8, u32)> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0x00FF_FFFF))
    }

    pub fn full_of_version_0(&mut self) -> Parsed<()> {
        match self.full()? {
            (0, _) => Ok(()),
            _ => damaged("a box has an unknown version"),
        }
    }

    /// A text that ends with a zero.
    pub fn text(&mut self) -> Parsed<&'a [u8]> {
        let Some(end) = self.0.iter().position(|byte| *byte == 0) else { return damaged("a text in it has no end") };
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// The next box inside of this one. Only a box of the file itself may go on to its end.
    pub fn child(&mut self) -> Parsed<Option<Child<'a>>> {
        if self.is_empty() {
            return Ok(None);
        }
        let Head { kind, length } = self.head()?;
        let Some(length) = length else { return damaged("a box inside of another has no length") };
        let length = usize::try_from(length).map_err(|_| CUT_OFF)?;
        Ok(Some(Child { kind, body: Reader(self.take(length)?) }))
    }

    /// Kind of a box, and the length of what follows; none where it goes on to the end of the file.
    pub fn head(&mut self) -> Parsed<Head> {
        let before = self.0.len();
        let (small, kind) = (self.u32()?, self.kind()?);
        let length = if small == 1 { self.u64()? } else { u64::from(small) };
        if kind == *b"uuid" {
            self.take(16)?;
        }
        if length == 0 {
            return Ok(Head { kind, length: None });
        }
        let read = (before - self.0.len()) as u64;
        let Some(length) = length.checked_sub(read) else { return damaged("a box is shorter than its own head") };
        Ok(Head { kind, length: Some(length) })
    }
}

pub(super) struct Head {
    pub kind: Kind,
    pub length: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_told_apart() {
        let mut file = Reader(b"\0\0\0\x0Cfree1234\0\0\0\x01mdat\0\0\0\0\0\0\0\x12ab\0\0\0\x08skip");
        let found: Vec<_> =
            std::iter::from_fn(|| file.child().unwrap()).map(|found| (found.kind, found.body.0)).collect();
        assert_eq!(found, [(*b"free", &b"1234"[..]), (*b"mdat", b"ab"), (*b"skip", b"")]);
        for broken in
            [&b"\0\0\0\x0Cfree123"[..], b"\0\0\0\x07free", b"\0\0\0\0free", b"\0\0\0\x10uuid12345678", b"\0\0"]
        {
            assert!(matches!(Reader(broken).child(), Err(Problem::Damaged(_))), "{broken:?}");
        }
    }

    #[test]
    fn numbers_and_texts() {
        let mut rest = Reader(b"\x01\0\0\x02ab\0\0\x07\0\0\0\x08\0\0\0\0\0\0\0\x09");
        assert_eq!(rest.full().unwrap(), (1, 2));
        assert_eq!(rest.text().unwrap(), b"ab");
        assert_eq!(rest.id(false).unwrap(), 7);
        assert_eq!((rest.sized(0).unwrap(), rest.sized(4).unwrap(), rest.sized(8).unwrap()), (0, 8, 9));
        assert!(rest.is_empty() && rest.u8().is_err() && rest.text().is_err());
    }
}

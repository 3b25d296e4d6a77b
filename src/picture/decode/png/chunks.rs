//! A PNG's chunks (ISO/IEC 15948, 5.3): length, kind, body, checksum.

const SIGNATURE_BYTES: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub kind: [u8; 4],
    /// As much of it as the file has.
    pub body: &'a [u8],
    length: usize,
    checksum: Option<[u8; 4]>,
}

impl Chunk<'_> {
    /// For chunks without which the pixels mean something else.
    pub fn intact(&self) -> Result<(), String> {
        let kind = self.kind.escape_ascii();
        if self.body.len() < self.length {
            return Err(format!("its {kind} chunk is cut off"));
        }
        let found = self.checksum.map(u32::from_be_bytes);
        let sum = zlib_rs::crc32::crc32(zlib_rs::crc32::crc32(0, &self.kind), self.body);
        if found == Some(sum) { Ok(()) } else { Err(format!("the checksum of its {kind} chunk is wrong")) }
    }
}

/// From the signature on; ends where the file does, or where a chunk has no name.
#[derive(Clone, Debug)]
pub(super) struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.get(SIGNATURE_BYTES..).unwrap_or_default() }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (&length, rest) = self.rest.split_first_chunk::<4>()?;
        let (&kind, rest) = rest.split_first_chunk::<4>()?;
        if !kind.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return None;
        }
        let length = u32::from_be_bytes(length) as usize;
        let (body, rest) = rest.split_at(length.min(rest.len()));
        let checksum = rest.first_chunk().copied();
        self.rest = rest.get(4..).unwrap_or_default();
        Some(Chunk { kind, body, length, checksum })
    }
}

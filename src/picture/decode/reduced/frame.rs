use super::bits::Huffman;
use crate::picture::area::Size;
use crate::picture::decode::jpeg_segments::segments;

/// Most tables that a file says. It needs four; each costs some 50 microseconds here, and a file may hold millions.
const HUFFMAN_TABLES_MAX: usize = 64;

/// A baseline frame and its only scan.
pub(super) struct Frame<'a> {
    pub size: Size,
    /// Most blocks of a component in a unit of the scan.
    pub across: usize,
    pub down: usize,
    pub components: Vec<Component>,
    /// Units between restart markers; 0: none.
    pub restart_interval: usize,
    /// Entropy-coded data, and what follows it.
    pub scan: &'a [u8],
}

pub(super) struct Component {
    /// Blocks of this component in a unit of the scan.
    pub across: usize,
    pub down: usize,
    /// In zigzag order.
    pub quantisation: [i32; 64],
    pub dc: Huffman,
    pub ac: Huffman,
}

/// One component as the frame header names it.
struct Named {
    id: u8,
    across: usize,
    down: usize,
    quantisation: usize,
}

impl<'a> Frame<'a> {
    /// None for what is not a baseline file with one scan of one or three components, and for damaged headers.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut quantisations = [None; 4];
        let mut huffmans: [[Option<Huffman>; 4]; 2] = [const { [const { None }; 4] }; 2];
        let mut huffman_count = 0;
        let mut restart_interval = 0;
        let mut named: Option<(Size, Vec<Named>)> = None;
        for (kind, body) in segments(bytes) {
            match kind {
                0xC0 | 0xC1 if named.is_none() => named = Some(frame_header(body)?),
                // Progressive, lossless, arithmetic, a second frame, the number of lines at the end.
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCF | 0xDC => return None,
                0xC4 => {
                    huffman_count += huffman_tables(body, &mut huffmans)?;
                    if huffman_count > HUFFMAN_TABLES_MAX {
                        return None;
                    }
                }
                0xDB => quantisation_tables(body, &mut quantisations)?,
                0xDD => restart_interval = usize::from(u16::from_be_bytes(body.try_into().ok()?)),
                0xDA => {
                    let (size, named) = named?;
                    let (header, scan) = scan_header(body)?;
                    let components = components(header, &named, &quantisations, &huffmans)?;
                    let most = |side: fn(&Component) -> usize| components.iter().map(side).max();
                    let (across, down) = (most(|c| c.across)?, most(|c| c.down)?);
                    if components.iter().any(|c| across % c.across != 0 || down % c.down != 0) {
                        return None;
                    }
                    return Some(Self { size, across, down, components, restart_interval, scan });
                }
                _ => {}
            }
        }
        None
    }
}

fn frame_header(body: &[u8]) -> Option<(Size, Vec<Named>)> {
    let &[8, h1, h0, w1, w0, count, ref rest @ ..] = body else { return None };
    let (parts, []) = rest.as_chunks::<3>() else { return None };
    if parts.len() != usize::from(count) {
        return None;
    }
    let one = |&[id, sampling, table]: &[u8; 3]| {
        let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
        let known = (1..=4).contains(&across) && (1..=4).contains(&down);
        known.then_some(Named { id, across, down, quantisation: usize::from(table) })
    };
    let mut named = parts.iter().map(one).collect::<Option<Vec<_>>>()?;
    match named.as_mut_slice() {
        // Alone in its scan a component comes block by block.
        [one] => (one.across, one.down) = (1, 1),
        [_, _, _] => {}
        _ => return None,
    }
    let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
    Some((Size { width: side(w1, w0), height: side(h1, h0) }, named))
}

/// The scan header's body without its length, and what follows it.
fn scan_header(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    Some((body.get(2..length)?, body.get(length..)?))
}

fn components(
    header: &[u8],
    named: &[Named],
    quantisations: &[Option<[i32; 64]>; 4],
    huffmans: &[[Option<Huffman>; 4]; 2],
) -> Option<Vec<Component>> {
    let (&count, rest) = header.split_first()?;
    let (choices, rest) = rest.split_at_checked(2 * usize::from(count))?;
    // All frequencies, in one go.
    if usize::from(count) != named.len() || rest != [0, 63, 0] {
        return None;
    }
    let one = |(&[id, tables], named): (&[u8; 2], &Named)| {
        let table = |class: usize, n: u8| huffmans[class].get(usize::from(n))?.clone();
        if id != named.id {
            return None;
        }
        Some(Component {
            across: named.across,
            down: named.down,
            quantisation: (*quantisations.get(named.quantisation)?)?,
            dc: table(0, tables >> 4)?,
            ac: table(1, tables & 15)?,
        })
    };
    choices.as_chunks::<2>().0.iter().zip(named).map(one).collect()
}

fn quantisation_tables(mut body: &[u8], tables: &mut [Option<[i32; 64]>; 4]) -> Option<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let bytes = match kind >> 4 {
            0 => 1,
            1 => 2,
            _ => return None,
        };
        let (values, rest) = rest.split_at_checked(64 * bytes)?;
        let mut table = [0; 64];
        for (entry, value) in table.iter_mut().zip(values.chunks_exact(bytes)) {
            *entry = value.iter().fold(0, |sum, &byte| sum << 8 | i32::from(byte));
        }
        *tables.get_mut(usize::from(kind & 15))? = Some(table);
        body = rest;
    }
    Some(())
}

/// How many there were; one more than [`HUFFMAN_TABLES_MAX`] at most.
fn huffman_tables(mut body: &[u8], tables: &mut [[Option<Huffman>; 4]; 2]) -> Option<usize> {
    let mut count = 0;
    while count <= HUFFMAN_TABLES_MAX
        && let Some((&kind, rest)) = body.split_first()
    {
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let (symbols, rest) = rest.split_at_checked(counts.iter().map(|&n| usize::from(n)).sum())?;
        *tables.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? =
            Some(Huffman::new(counts, symbols)?);
        body = rest;
        count += 1;
    }
    Some(count)
}

//! Byte-pair encoding of one piece (`SimpleTokenizer.bpe` of OpenCLIP's `tokenizer.py`).
//!
//! OpenCLIP looks for the pair of the lowest rank, merges all its occurrences from the left, and starts again. Here pairs
//! wait in a heap by rank and position, which comes to the same as long as a merge never makes a pair of a lower rank than
//! its own; [`Merges::new`] refuses a vocabulary where it could.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::vocabulary::{DOWNLOAD_AGAIN, END_OF_WORD, Vocabulary};
use crate::tokenize::TokenizerError;

/// Longest piece that is encoded, in bytes; the rest of a longer one is not looked at. Its first tokens do not depend on what
/// is that far ahead: for a pair to keep its neighbour from merging it needs a lower rank, and so on from pair to pair.
/// Nor does a context hold them all: no token of CLIP is longer than 32 bytes.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Stands for a symbol that was merged into the one before it, and for no neighbour.
const NONE: u32 = u32::MAX;

pub(super) struct Merges {
    /// The token of each byte, inside a word and at its end.
    inside: [u32; 256],
    at_end: [u32; 256],
    /// Rank of a pair of tokens.
    ranks: HashMap<(u32, u32), u32>,
    /// The token that a merge makes, by rank.
    made: Vec<u32>,
}

/// A token of a piece, linked with its neighbours by their places.
#[derive(Clone, Copy)]
struct Symbol {
    token: u32,
    before: u32,
    after: u32,
}

impl Merges {
    /// # Errors
    ///
    /// The vocabulary is not one of CLIP's: a byte or a part of a merge has no token, or a merge comes before its parts.
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let (mut inside, mut at_end) = ([0; 256], [0; 256]);
        for (byte, character) in bytes_to_unicode().into_iter().enumerate() {
            inside[byte] = vocabulary.id(&character.to_string())?;
            at_end[byte] = vocabulary.id(&format!("{character}{END_OF_WORD}"))?;
        }
        let mut ranks = HashMap::with_capacity(vocabulary.merges.len());
        let mut made = Vec::with_capacity(vocabulary.merges.len());
        // The tokens that may be parts of the next merge.
        let mut there: HashSet<u32> = inside.iter().chain(&at_end).copied().collect();
        for (rank, (left, right)) in (0u32..).zip(&vocabulary.merges) {
            let pair = (vocabulary.id(left)?, vocabulary.id(right)?);
            let token = vocabulary.id(&format!("{left}{right}"))?;
            let parts_there = there.contains(&pair.0) && there.contains(&pair.1);
            if !parts_there || !there.insert(token) || ranks.insert(pair, rank).is_some() {
                let what = if parts_there { "makes a token a second time" } else { "comes before its parts are made" };
                return Err(TokenizerError::new(format!("merge {} of {left} and {right} {what}", rank + 1))
                    .hint(DOWNLOAD_AGAIN));
            }
            made.push(token);
        }
        Ok(Self { inside, at_end, ranks, made })
    }

    /// Appends the ids of one piece, which is not empty.
    pub(super) fn encode(&self, piece: &str, ids: &mut Vec<i64>) {
        let length = piece.len().min(PIECE_BYTES_MAX);
        let last = piece.len().saturating_sub(1);
        let mut symbols: Vec<Symbol> = (0u32..)
            .zip(piece.bytes().enumerate().take(length))
            .map(|(place, (at, byte))| Symbol {
                token: if at == last { self.at_end[usize::from(byte)] } else { self.inside[usize::from(byte)] },
                before: place.wrapping_sub(1),
                after: if at + 1 == length { NONE } else { place + 1 },
            })
            .collect();
        let pairs =
            symbols.windows(2).zip(0u32..).filter_map(|(two, place)| self.pair(place, two[0].token, two[1].token));
        let mut waiting: BinaryHeap<_> = pairs.collect();
        while let Some(Reverse((rank, place, left, right))) = waiting.pop() {
            let symbol = symbols[place as usize];
            // One of the two was merged meanwhile.
            if symbol.token != left || symbol.after == NONE || symbols[symbol.after as usize].token != right {
                continue;
            }
            let token = self.made[rank as usize];
            let after = std::mem::replace(&mut symbols[symbol.after as usize].token, NONE);
            debug_assert_eq!(after, right);
            let next = symbols[symbol.after as usize].after;
            symbols[place as usize] = Symbol { token, after: next, ..symbol };
            if next != NONE {
                symbols[next as usize].before = place;
                waiting.extend(self.pair(place, token, symbols[next as usize].token));
            }
            if symbol.before != NONE {
                waiting.extend(self.pair(symbol.before, symbols[symbol.before as usize].token, token));
            }
        }
        ids.extend(symbols.iter().filter(|s| s.token != NONE).map(|s| i64::from(s.token)));
    }

    /// What waits in the heap for the pair at `place`, if a merge exists for it.
    fn pair(&self, place: u32, left: u32, right: u32) -> Option<Reverse<(u32, u32, u32, u32)>> {
        self.ranks.get(&(left, right)).map(|&rank| Reverse((rank, place, left, right)))
    }
}

/// The character that stands for each byte in the vocabulary (`bytes_to_unicode` of `tokenizer.py`): itself where it is
/// printable Latin-1, otherwise one of those from U+0100, in order.
pub(super) fn bytes_to_unicode() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 as char {
        c @ ('!'..='~' | '¡'..='¬' | '®'..='ÿ') => c,
        _ => others.next().unwrap_or_default(),
    })
}

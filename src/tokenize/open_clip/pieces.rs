//! A cleaned word cut into the pieces that are encoded one by one, as the pattern of OpenCLIP's `SimpleTokenizer` cuts it.

use std::sync::LazyLock;

use regex::Regex;

/// What OpenCLIP calls the two special tokens when they are written out in a text.
pub(super) const SOT: &str = "<start_of_text>";
pub(super) const EOT: &str = "<end_of_text>";

/// Letters and numbers that Unicode 17 and 18 added: OpenCLIP's pattern runs on the `regex` module of Python, which knows
/// Unicode 18 in its version 2026.11.15; `regex-syntax` 0.8.12 knows Unicode 16.
const NEW_LETTERS: &str = r"\x{558}\x{58B}\x{58C}\x{88F}\x{C5C}\x{CDC}\x{208F}\x{209D}-\x{209F}\x{A7CE}\x{A7CF}\x{A7D2}\x{A7D4}\x{A7DD}\x{A7E2}\x{A7F1}\x{AB6C}\x{AB6D}\x{107BB}-\x{107BF}\x{10940}-\x{10959}\x{10EC5}-\x{10EC7}\x{10ED9}-\x{10EEE}\x{11B0A}\x{11DB0}-\x{11DDB}\x{11DF1}\x{16EA0}-\x{16EB8}\x{16EBB}-\x{16ED3}\x{16FF2}\x{16FF3}\x{187F8}-\x{187FF}\x{18CD6}-\x{18CDA}\x{18D09}-\x{18D20}\x{18D80}-\x{18DF2}\x{18E00}-\x{19191}\x{191A0}-\x{191D2}\x{1B123}-\x{1B128}\x{1B168}\x{1D6A6}\x{1DF1F}-\x{1DF24}\x{1DF2B}-\x{1DF81}\x{1DF90}-\x{1DF96}\x{1DFCD}-\x{1DFFF}\x{1E6C0}-\x{1E6DE}\x{1E6E0}-\x{1E6E2}\x{1E6E4}\x{1E6E5}\x{1E6E7}-\x{1E6ED}\x{1E6F0}-\x{1E6F4}\x{1E6FE}\x{1E6FF}\x{2B73A}-\x{2B73F}\x{2B81E}\x{2CEA2}-\x{2CEAD}\x{323B0}-\x{33479}\x{3D000}-\x{3FC3F}";
const NEW_NUMBERS: &str = r"\x{11DE0}-\x{11DE9}\x{1246F}\x{12475}-\x{1247F}\x{12550}-\x{12686}\x{16FF4}-\x{16FF6}";

static PIECE: LazyLock<Regex> = LazyLock::new(|| {
    let (letter, number) = (format!(r"\p{{L}}{NEW_LETTERS}"), format!(r"\p{{N}}{NEW_NUMBERS}"));
    // Case is ignored, so that U+017F counts as the s of 's. That also makes U+0345 match none of the three sets (one of its
    // cases is a letter, itself it is not): OpenCLIP loses it.
    let pattern =
        format!(r"(?i:{SOT}|{EOT}|'s|'t|'re|'ve|'m|'ll|'d)|[{letter}]+|[{number}]|[^\s{letter}{number}\x{{345}}]+");
    Regex::new(&pattern).expect("a constant pattern")
});

/// The pieces of a word. Characters that the pattern does not match are dropped.
pub(super) fn of(word: &str) -> impl Iterator<Item = &str> {
    PIECE.find_iter(word).map(|found| found.as_str())
}

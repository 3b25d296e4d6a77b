//! The heuristics that distinguish mojibake from text: `ftfy/badness.py`, and `UTF8_DETECTOR_RE` of `ftfy/chardata.py`.
//!
//! About 400 characters occur in mojibake; they are put into categories here, and some neighbours of them are far more
//! likely mojibake than meant. Categories are the insides of a set in a pattern.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

// `MOJIBAKE_CATEGORIES`
const COMMON: &str = r"\x{a0}\x{ad}·´–—―…’";
const C1: &str = r"\x{80}-\x{9f}";
const BAD: &str = r"¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\x{fffd}ªº";
const LAW: &str = "¶§";
const CURRENCY: &str = "¢£¥₧€";
const START: &str = r"¡«¿©΄΅‘‚“„•‹\x{f8ff}";
const END: &str = "®»˝”›™";
const NUMERIC: &str = "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№";
const KAOMOJI: &str = "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°";
const UPPER: &str = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
const LOWER: &str = "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ";
const UPPER_COMMON: &str = "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я";
const LOWER_COMMON: &str = "α-ωάέήίΰа-џ";
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";

// `UTF8_CLUES`: what the bytes of UTF-8 become in encodings that are like Latin-1. First bytes of two, three and four:
const FIRST_OF_2: &str = "ĂÂÄĀÅÃÆĆČÇĎĐÉĚÊËĖÈĒĘÐĞĢÍÎÏİÌĪĶĹĻŁŃŇŅÑÓÔÖŐÒŌØÕŘŚŠŞŢÞÚÛÜŰÙŪŲŮÝŹŽŻß×ΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫάέήίВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ";
const FIRST_OF_3: &str = "áăâäàāąåãæćčçďéěêëėèēęģíîïìīįķĺļŕźΰαβγδεζηθικλμνξοабвгдежзийклмноп";
const FIRST_OF_4: &str = "đðğóšπσру";
/// Those of the other bytes that seldom stand for themselves beside mojibake.
const CONTINUATION_STRICT: &str =
    r"\x{80}-¿ĄÆĽŁØŖŚŠŞŤŸŹŽŻŒąæƒľłøŗśšşťźžżœˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ†‡‰‹›€№™";
/// With these, all of them. The space may have been U+00A0.
const CONTINUATION_COMMON: &str = " –—―‘’‚“”„•…";

/// `BADNESS_RE`.
static BADNESS: LazyLock<Regex> = LazyLock::new(|| {
    let alternatives = [
        format!("[{C1}]"),
        format!("[{BAD}{LOWER}{UPPER}{BOX}{START}{END}{CURRENCY}{NUMERIC}{LAW}][{BAD}]"),
        format!("[a-zA-Z][{LOWER_COMMON}{UPPER_COMMON}][{BAD}]"),
        format!("[{BAD}][{LOWER}{UPPER}{BOX}{START}{END}{CURRENCY}{NUMERIC}{LAW}]"),
        format!("[{LOWER}{LOWER_COMMON}{BOX}{END}{CURRENCY}{NUMERIC}][{UPPER}]"),
        format!("[{BOX}{END}{CURRENCY}{NUMERIC}][{LOWER}]"),
        format!("[{LOWER}{BOX}{END}][{CURRENCY}]"),
        format!("{SPACE}[{UPPER}][{CURRENCY}]"),
        format!("[{UPPER}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{LOWER}{UPPER}{BOX}{CURRENCY}{END}][{START}][{NUMERIC}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{BOX}{LAW}][{END}][{START}]"),
        format!("[{CURRENCY}{NUMERIC}{BOX}][{START}]"),
        format!("[a-z][{UPPER}][{START}{CURRENCY}]"),
        format!("[{BOX}][{KAOMOJI}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{START}{END}{LAW}][{BOX}]"),
        format!("[{BOX}][{END}]"),
        format!("[{LOWER}{UPPER}][{START}{END}]{WORD}"),
        // A ligature, when no plain letter follows.
        "[Œœ][^A-Za-z]".to_owned(),
        // A degree sign after a capital letter.
        format!("[{UPPER}]°"),
        // Windows-1252, two characters.
        format!(r"[ÂÃÎÐ][€œŠš¢£Ÿž\x{{a0}}\x{{ad}}®©°·»{START}{END}–—´]"),
        "×[²³]".to_owned(),
        // Windows-1252 of Arabic.
        format!("(?:[ØÙ][{COMMON}{CURRENCY}{BAD}{NUMERIC}{START}ŸŠ®°µ»]){{2}}"),
        // Windows-1252 of some scripts of South Asia.
        "à[²µ¹¼½¾]".to_owned(),
        // Macintosh.
        "√[±∂†≠®™´≤≥¥µø]".to_owned(),
        "≈[°¢]".to_owned(),
        "‚Ä[ìîïòôúùû†°¢π]".to_owned(),
        "‚[âó][àä°ê]".to_owned(),
        // Windows-1251: of characters in the U+2000 range, of Latin-1 and Cyrillic, of Latin-1 mojibake.
        "вЂ".to_owned(),
        format!("[ВГРС][{C1}{BAD}{START}{END}{CURRENCY}°µ][ВГРС]"),
        "ГўВЂВ.[A-Za-z ]".to_owned(),
        // Windows-1252 of à, á and U+00A0.
        r"Ã[\x{a0}¡]".to_owned(),
        format!("[a-z]{SPACE}?[ÃÂ] "),
        "^[ÃÂ] ".to_owned(),
        format!("[a-z.,?!{END}]Â[ {START}{END}]"),
        // Windows-1253, as above.
        r"β€[™\x{a0}Ά\x{ad}®°]".to_owned(),
        format!("[ΒΓΞΟ][{C1}{BAD}{START}{END}{CURRENCY}°][ΒΓΞΟ]"),
        // Windows-1257 of the U+2000 range.
        "ā€".to_owned(),
    ];
    Regex::new(&alternatives.join("|")).expect("a constant pattern")
});

/// Python's `\s` and `\w`: 3.11 knows Unicode 14.
const SPACE: &str = r"[\s\x1C-\x1F]";
const WORD: &str = r"[[\p{L}\p{N}_]&&\p{Age=14.0}]";

/// `UTF8_DETECTOR_RE`, with what must not come before it in front.
static MOJIBAKE: LazyLock<Regex> = LazyLock::new(|| {
    let next = format!("[{CONTINUATION_STRICT}{CONTINUATION_COMMON}]");
    let sequences = format!("[{FIRST_OF_2}]{next}|[{FIRST_OF_3}]{next}{{2}}|[{FIRST_OF_4}]{next}{{3}}");
    Regex::new(&format!("(?:^|[^{CONTINUATION_STRICT}])((?:{sequences})+)")).expect("a constant pattern")
});

/// `is_bad`: whether anything in `text` looks like mojibake.
pub(super) fn is_bad(text: &str) -> bool {
    BADNESS.is_match(text)
}

/// Where `text` has runs of what is likely UTF-8 in a wrong encoding.
pub(super) fn mojibake(text: &str) -> impl Iterator<Item = Range<usize>> {
    MOJIBAKE.captures_iter(text).filter_map(|found| found.get(1)).map(|run| run.range())
}

//! The encodings of one byte a character that ftfy tries, in its order (`CHARMAP_ENCODINGS` of `ftfy/chardata.py`), as Python's
//! codecs have them. The sloppy ones (`ftfy/bad_codecs/sloppy.py`) take Latin-1 for what they leave unassigned, and
//! the byte 1A for U+FFFD.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::tokenize::clean::windows_1252::WINDOWS_1252;

/// An encoding. Its bytes below 80 are ASCII.
pub(super) struct Page {
    /// The characters of the bytes 80 to FF.
    upper: &'static str,
    pub(super) is_sloppy: bool,
    /// Whether a space may stand for the byte A0. Not in Macintosh text, where that would match an en dash and a space.
    pub(super) restores_byte_a0: bool,
    bit: u16,
}

impl Page {
    const fn new(bit: u16, upper: &'static str, is_sloppy: bool) -> Self {
        Self { upper, is_sloppy, restores_byte_a0: bit != MACINTOSH_BIT, bit }
    }
}

const MACINTOSH_BIT: u16 = 8;

pub(super) static ALL: [Page; 10] = [
    Page::new(0, LATIN_1, false),
    Page::new(1, WINDOWS_1252, true),
    Page::new(2, WINDOWS_1251, true),
    Page::new(3, WINDOWS_1250, true),
    Page::new(4, WINDOWS_1253, true),
    Page::new(5, WINDOWS_1254, true),
    Page::new(6, WINDOWS_1257, true),
    Page::new(7, ISO_8859_2, false),
    Page::new(MACINTOSH_BIT, MACINTOSH, false),
    Page::new(9, CP437, false),
];

const LATIN_1: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\
    \u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}\
    ®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬ\
    ЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČ\
    ÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}\
    ΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ";
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾\
    ¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
const WINDOWS_1257: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ\
    °±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙";
const ISO_8859_2: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\
    \u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}\
    ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const MACINTOSH: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊ\
    ÁËÈÍÎÏÌÓÔÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
const CP437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ\
    ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Encodings, as a set.
#[derive(Clone, Copy)]
pub(super) struct Set(u16);

impl Set {
    pub(super) fn has(self, page: &Page) -> bool {
        self.0 & (1 << page.bit) != 0
    }

    fn sloppy() -> Self {
        Self(ALL.iter().filter(|page| page.is_sloppy).fold(0, |set, page| set | 1 << page.bit))
    }
}

/// Of each character beyond ASCII: the encodings that have it, and its byte in each.
static BYTES: LazyLock<HashMap<char, (Set, [u8; ALL.len()])>> = LazyLock::new(|| {
    let mut bytes = HashMap::new();
    for page in &ALL {
        let lossy = page.is_sloppy.then_some((char::REPLACEMENT_CHARACTER, SUBSTITUTE));
        for (c, byte) in page.upper.chars().zip(0x80..=0xff).chain(lossy) {
            let (set, of_page) = bytes.entry(c).or_insert((Set(0), [0; ALL.len()]));
            set.0 |= 1 << page.bit;
            of_page[usize::from(page.bit)] = byte;
        }
    }
    bytes
});

/// The byte that a sloppy encoding keeps for a lost character.
const SUBSTITUTE: u8 = 0x1a;

/// The encodings that have every character of `text` (`possible_encoding`).
pub(super) fn possible(text: &str) -> Set {
    let all = ALL.iter().fold(0, |set, page| set | 1 << page.bit);
    Set(text.chars().fold(all, |set, c| match c {
        '\u{1a}' => set & !Set::sloppy().0,
        c if c.is_ascii() => set,
        c => set & BYTES.get(&c).map_or(0, |(pages, _)| pages.0),
    }))
}

/// The bytes of `text`, if the encoding has all its characters.
pub(super) fn encode(text: &str, page: &Page) -> Option<Vec<u8>> {
    let byte = |c: char| match c {
        c if c.is_ascii() => Some(c as u8),
        c => BYTES.get(&c).filter(|(pages, _)| pages.has(page)).map(|(_, bytes)| bytes[usize::from(page.bit)]),
    };
    text.chars().map(byte).collect()
}

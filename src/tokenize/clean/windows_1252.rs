//! Windows-1252, in which browsers and ftfy read what Latin-1 has as C1 controls.

/// The characters of the bytes 80 to FF. What is unassigned has the character of Latin-1.
pub(super) const WINDOWS_1252: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈ\
    ÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";

pub(super) fn is_c1(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}')
}

/// A C1 control as the character that its byte has in (sloppy) windows-1252; any other as it is.
pub(super) fn c1_as_windows_1252(c: char) -> char {
    if !is_c1(c) {
        return c;
    }
    WINDOWS_1252.chars().nth(c as usize - 0x80).unwrap_or(c)
}

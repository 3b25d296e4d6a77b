//! Payload paths, as Qdrant reads them: `price`, `a.b`, `parts[].n`, `list[3]`, `"a key with blanks"`.
//! The grammar is that of Qdrant's `JsonPath`; a test compares the two.

/// Whether Qdrant takes `text` for a payload path.
pub fn is_path(text: &str) -> bool {
    let Some(mut rest) = behind_key(text) else { return false };
    while !rest.is_empty() {
        let behind = match rest.strip_prefix('.') {
            Some(key) => behind_key(key),
            None => behind_index(rest),
        };
        let Some(behind) = behind else { return false };
        rest = behind;
    }
    true
}

/// What follows the key that `text` begins with.
fn behind_key(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find(['"', '\\']).filter(|end| quoted[*end..].starts_with('"'))?;
        return Some(&quoted[end + 1..]);
    }
    let rest = text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
    (rest.len() < text.len()).then_some(rest)
}

/// What follows the place in a list, `[3]` or `[]` for all of them, that `text` begins with.
fn behind_index(text: &str) -> Option<&str> {
    let (index, rest) = text.strip_prefix('[')?.split_once(']')?;
    let is_index = index.bytes().all(|b| b.is_ascii_digit()) && index.parse::<usize>().is_ok();
    (index.is_empty() || is_index).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_distinguished_from_other_text() {
        for path in ["a", "a.b-c_d", "parts[].n", "a[0][12]", "\"a b\".\"\"", "größe", "clipstream.version"] {
            assert!(is_path(path), "{path}");
        }
        for other in
            ["", ".", "a.", "a b", "a[", "a[-1]", "a[x]", "a]", "\"a", "\"a\\\"\"", "a[99999999999999999999]", "a..b"]
        {
            assert!(!is_path(other), "{other}");
        }
    }

    /// Every text of up to five of the characters that matter.
    #[cfg(feature = "embedded")]
    #[test]
    fn qdrant_s_own_reader_says_the_same() {
        let characters = ['a', '1', '.', '[', ']', '"', '\\', ' ', '-'];
        let mut texts = vec![String::new()];
        for length in 0..5 {
            let longer: Vec<String> = texts
                .iter()
                .filter(|text| text.len() == length)
                .flat_map(|text| characters.map(|c| format!("{text}{c}")))
                .collect();
            texts.extend(longer);
        }
        for text in texts {
            assert_eq!(is_path(&text), text.parse::<qdrant_edge::JsonPath>().is_ok(), "{text}");
        }
    }
}

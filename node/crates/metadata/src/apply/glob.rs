//! Globs of immutable tags: `*` is any run of characters, `?` any one.

/// Whether all of `text` matches. Linear in the product of the lengths, at worst.
pub(super) fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where to go on when a character does not fit: after the last star, one character further.
    let mut retry: Option<(usize, usize)> = None;
    while from < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star, taken)) = retry else { return false };
                retry = Some((star, taken + 1));
                at = star;
                from = taken + 1;
            }
        }
    }
    glob[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        for (glob, text) in
            [("v*", "v1.0"), ("*", "x"), ("v?.?", "v1.2"), ("*-rc*", "1-rc-rc2"), ("a*b*c", "aXbYbc"), ("x", "x")]
        {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("v*", "1v"), ("", "x"), ("v?", "v"), ("a*b", "abc"), ("V*", "v1"), ("*.*", "x")] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }
}

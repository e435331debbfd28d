//! Globs of immutable tags: `*` is any run of characters, `?` any one.

use domain::limits::TAG_BYTES_MAX;

/// Whether it can match a tag at all: characters of tags, `*` and `?`, as long as a tag at most.
pub(super) fn is_well_formed(glob: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-*?".contains(&byte);
    !glob.is_empty() && glob.len() <= TAG_BYTES_MAX && glob.bytes().all(fits)
}

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
    use super::{is_well_formed, matches};

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

    #[test]
    fn a_glob_is_made_of_what_tags_are_made_of() {
        for glob in ["*", "v?.*", "release-1.2_x", &"x".repeat(128)] {
            assert!(is_well_formed(glob), "{glob}");
        }
        for glob in ["", "a/b", "[v]", "v *", "ü*", &"x".repeat(129)] {
            assert!(!is_well_formed(glob), "{glob}");
        }
    }
}

//! Ids of upload sessions.

use domain::UploadId;
use domain::upload_id::uuid;

use super::{brief, decimal};

/// Reads the bytes as an id.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = UploadId::parse(text);
    assert_eq!(read, UploadId::parse(text), "the same twice");
    match (&read, oracle(text)) {
        (Ok(id), Some((session, node, mac))) => {
            assert_eq!((u128::from_be_bytes(id.session), u128::from(id.node.0)), (session, node), "{text}");
            assert_eq!(id.mac.map(|byte| format!("{byte:02x}")).concat(), mac, "{text}");
            assert_eq!(id.to_string(), text, "one session has one spelling");
            assert!(text.starts_with(&uuid(&id.session)));
        }
        (Err(error), None) => brief(error),
        (read, expected) => panic!("{text:?} was read as {read:?}, expected {expected:?}"),
    }
}

/// The UUID's value, the node and the digits of the MAC, by their places in the text: 36 characters of UUID, a dot, the
/// node in decimal, a dot, 64 digits of MAC.
fn oracle(text: &str) -> Option<(u128, u128, &str)> {
    let is_hex = |text: &str| text.chars().all(|char| matches!(char, '0'..='9' | 'a'..='f'));
    let (uuid, rest) = text.split_at_checked(36)?;
    let groups = [uuid.get(..8)?, uuid.get(9..13)?, uuid.get(14..18)?, uuid.get(19..23)?, uuid.get(24..)?];
    if groups.join("-") != uuid || !groups.iter().all(|group| is_hex(group)) {
        return None;
    }
    let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    let node = rest.strip_prefix('.')?.strip_suffix('.')?;
    let number = decimal(node).filter(|number| *number <= u128::from(u64::MAX))?;
    let is_plain = node == "0" || !node.starts_with('0');
    (is_plain && is_hex(mac)).then_some((u128::from_str_radix(&groups.concat(), 16).ok()?, number, mac))
}

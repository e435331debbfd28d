use super::*;

#[test]
fn foreign_bytes_are_errors() {
    assert!(decode_proposal(Bytes::from_static(b"\xff\xff")).is_err());
    assert!(decode_outcome(Bytes::new()).is_err());
}

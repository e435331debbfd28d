//! No request makes a parser take more memory than a multiple of what was sent. One test in a process of its own: it is
//! the peak of the whole process that is read.

use domain::limits::{MANIFEST_BYTES_MAX, REQUEST_HEAD_BYTES_MAX};
use domain::manifest::{index_entries, parse};
use domain::media_type::{OCI_INDEX, OCI_MANIFEST};
use domain::query::Query;
use domain::{entity_tag, path};
use tests::skip::skipped;

/// Most memory for each byte of input. Short annotations take most: two texts and a row of a map for twelve bytes.
const MULTIPLE: usize = 24;

/// Peak of this process's resident memory. Unit: bytes. None where the system does not tell.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib * 1024)
}

/// `before`, then as many numbered elements as fit into `bytes`, then `after`.
fn filled(bytes: usize, before: &str, after: &str, element: impl Fn(usize) -> String) -> String {
    let mut text = before.to_owned();
    for at in 0.. {
        let element = element(at);
        if text.len() + element.len() + after.len() > bytes {
            break;
        }
        text.push_str(&element);
    }
    text + after
}

fn bodies() -> Vec<(&'static str, String)> {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let index = r#"{"schemaVersion":2,"manifests":[]"#;
    let of = |before: &str, after: &str, element: &dyn Fn(usize) -> String| {
        filled(MANIFEST_BYTES_MAX, before, after, element)
    };
    let listed = format!(r#"{{"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,"annotations":{{"":"""#);
    vec![
        ("annotations", of(&format!(r#"{index},"annotations":{{"":"""#), "}}", &|at| format!(r#","{at:x}":"""#))),
        ("annotations of an entry", of(&listed, "}}]}", &|at| format!(r#","{at:x}":"""#))),
        ("schemaVersion as an array", of(r#"{"schemaVersion":[0"#, "]}", &|_| ",0".repeat(500))),
        ("schemaVersion as an object", of(r#"{"schemaVersion":{"":0"#, "}}", &|at| format!(r#","{at:x}":0"#))),
        ("unknown and deep", of(&format!(r#"{index},"x":"#), "", &|_| "[".repeat(1000))),
        (
            "descriptors",
            of(r#"{"schemaVersion":2,"manifests":[{}"#, "]}", &|at| {
                format!(r#",{{"digest":"sha256:{at:064x}","size":1}}"#)
            }),
        ),
        (
            "urls",
            of(&format!(r#"{{"manifests":[],"layers":[{{"digest":"{digest}","size":1,"urls":[0"#), "]}]}", &|_| {
                ",0".to_owned()
            }),
        ),
    ]
}

#[test]
fn memory_stays_within_a_multiple_of_what_was_sent() {
    let (bodies, Some(start)) = (bodies(), peak()) else {
        skipped("the peak of a process's memory is read from /proc");
        return;
    };
    let most = MULTIPLE * MANIFEST_BYTES_MAX;
    for (name, body) in &bodies {
        assert!(body.len() > MANIFEST_BYTES_MAX / 2, "{name} is as large as a manifest may be");
        for content_type in [OCI_INDEX, OCI_MANIFEST] {
            let _ = parse(body.as_bytes(), Some(content_type));
        }
        let _ = index_entries(body.as_bytes());
        let taken = peak().expect("it was there before") - start;
        println!("{name}: at most {} KiB so far", taken / 1024);
        assert!(taken <= most, "{name} took {taken} bytes");
    }
    let head = filled(REQUEST_HEAD_BYTES_MAX, "", "", |_| "&a".to_owned());
    assert!(
        Query::parse(&head).pairs().len() > 1000 && path::parse(&head).is_none() && entity_tag::list(&head).len() == 1
    );
    assert!(peak().expect("it was there before") - start <= most, "a head takes no more than a manifest");
}

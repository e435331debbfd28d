//! Rows L1 to L5: tags and repositories, in pages.

use http::Method;
use tests::client::{Answer, Ask};

use crate::row::{At, BOTH, Expect, names, rows};

/// An answer's next page, if it has one.
fn next(answer: &Answer) -> Option<String> {
    let links: Vec<_> = answer.headers.get_all("link").iter().collect();
    assert!(links.len() <= 1, "one Link at most: {links:?}");
    let link = links.first()?.to_str().expect("a Link is text");
    let path = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).expect("a next Link");
    assert!(path.starts_with("/v2/"), "a Link holds a path only: {path}");
    Some(path.to_owned())
}

/// All names of a list, page by page.
async fn all(at: &At, path: String, key: &str, most: usize) -> Vec<String> {
    let (mut found, mut path) = (Vec::new(), Some(path));
    while let Some(page) = path {
        let answer = at.get(page).await.is(200);
        let page = names(&answer, key);
        assert!(page.len() <= most, "{page:?}");
        found.extend(page);
        path = next(&answer);
        assert!(found.len() < 100_000, "the pages have no end");
    }
    found
}

async fn tagged(at: &At, tags: &[&str]) -> String {
    let repository = at.repository();
    let stored = at.image(&repository, BOTH[0]).await;
    for tag in tags {
        at.tag(&repository, tag, &stored).await;
    }
    repository
}

/// In byte order: upper case, then `_`, then lower case.
const TAGS: [&str; 7] = ["0.1", "A", "Z", "_x", "a", "b.1", "b_1"];

rows! {
    async fn l01_a_list_before_any_push_is_404(at) {
        at.get(format!("/v2/{}/tags/list", at.repository())).await.refused(404, "NAME_UNKNOWN");
        at.head(format!("/v2/{}/tags/list", at.repository())).await.is(404);
    }

    async fn l01_a_list_holds_every_tag(at) {
        let repository = tagged(&at, &TAGS).await;
        let answer = at.get(format!("/v2/{repository}/tags/list")).await.is(200).has("content-type", "application/json");
        assert_eq!(names(&answer, "tags"), TAGS);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["name"], repository);
    }

    async fn l02_last_without_n_gives_the_rest(at) {
        let repository = tagged(&at, &TAGS).await;
        let answer = at.get(format!("/v2/{repository}/tags/list?last=Z")).await.is(200);
        assert_eq!(names(&answer, "tags"), TAGS[3..]);
        let answer = at.get(format!("/v2/{repository}/tags/list?last=b_1")).await.is(200);
        assert!(names(&answer, "tags").is_empty());
    }

    async fn l03_pages_are_the_whole_list_in_byte_order(at) {
        let mixed = ["b.1", "a", "_x", "Z", "b_1", "A", "0.1"];
        let repository = tagged(&at, &mixed).await;
        let first = at.get(format!("/v2/{repository}/tags/list?n=2")).await.is(200);
        assert_eq!(names(&first, "tags"), TAGS[..2]);
        assert!(next(&first).is_some());
        assert_eq!(all(&at, format!("/v2/{repository}/tags/list?n=2"), "tags", 2).await, TAGS);
        // A page that holds the last tag has no next one.
        let whole = at.get(format!("/v2/{repository}/tags/list?n=7")).await.is(200);
        assert_eq!((names(&whole, "tags").len(), next(&whole)), (7, None));
    }

    async fn l03_the_catalog_has_pages_too(at) {
        let mut own = Vec::new();
        for _ in 0..5 {
            let repository = at.repository();
            at.push(&repository, b"{}", BOTH[0]).await;
            own.push(repository);
        }
        own.sort();
        // Other rows make repositories meanwhile, so the walk begins at its own.
        let first = format!("/v2/_catalog?n=2&last={}", own[0].trim_end_matches('0'));
        let (mut found, mut path) = (Vec::new(), Some(first));
        while let Some(page) = path.filter(|_| found.len() < own.len()) {
            let answer = at.get(page).await.is(200).has("content-type", "application/json");
            let page = names(&answer, "repositories");
            assert!(page.len() <= 2, "{page:?}");
            found.extend(page);
            path = next(&answer);
        }
        found.truncate(own.len());
        assert_eq!(found, own);
        let whole = all(&at, "/v2/_catalog?n=50".to_owned(), "repositories", 50).await;
        assert!(whole.is_sorted(), "{whole:?}");
        assert!(own.iter().all(|name| whole.contains(name)), "{whole:?}");
    }

    async fn l03_the_catalog_is_in_byte_order(at) {
        let below = at.repository();
        // Neither by length, nor as a dictionary would have it, nor component by component.
        let sorted = ["a", "a--b", "a-b", "a.b", "a/b", "a/b/c", "a0", "a00", "a_b", "ab", "b"];
        for name in ["ab", "a/b/c", "b", "a0", "a", "a_b", "a--b", "a/b", "a00", "a-b", "a.b"] {
            at.push(&format!("{below}/{name}"), b"{}", BOTH[0]).await;
        }
        for n in [1, 2, 3, 11] {
            let (mut found, mut path) = (Vec::new(), Some(format!("/v2/_catalog?n={n}&last={below}")));
            while let Some(page) = path.filter(|_| found.len() < sorted.len()) {
                let answer = at.get(page).await.is(200);
                found.extend(names(&answer, "repositories"));
                path = next(&answer);
            }
            found.truncate(sorted.len());
            assert_eq!(found, sorted.map(|name| format!("{below}/{name}")));
        }
        for (at_name, name) in sorted.iter().enumerate() {
            let answer = at.get(format!("/v2/_catalog?n=1&last={below}/{name}")).await.is(200);
            let after: Vec<String> = names(&answer, "repositories");
            let wanted = sorted.get(at_name + 1).map(|next| format!("{below}/{next}"));
            assert!(wanted.is_none_or(|wanted| after == [wanted]), "after {name}: {after:?}");
        }
    }

    async fn l04_n_of_zero_is_an_empty_page_without_link(at) {
        let repository = tagged(&at, &["a"]).await;
        for (path, key) in [(format!("/v2/{repository}/tags/list"), "tags"), ("/v2/_catalog".to_owned(), "repositories")] {
            let answer = at.get(format!("{path}?n=0")).await.is(200);
            assert!(names(&answer, key).is_empty());
            assert_eq!(next(&answer), None);
        }
    }

    async fn l04_n_above_the_maximum_is_clamped_and_links_on(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let tags: Vec<String> = (0..1001).map(|number| format!("t{number:04}")).collect();
        for some in tags.chunks(100) {
            let query = some.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
            let reference = format!("{}?{query}", stored.digest);
            at.put(&repository, &reference, stored.kind, &stored.body).await.created(&stored.digest);
        }
        for query in ["?n=5000", "?n=99999999999999999999", ""] {
            let answer = at.get(format!("/v2/{repository}/tags/list{query}")).await.is(200);
            assert_eq!(names(&answer, "tags"), tags[..1000]);
            let rest = at.get(next(&answer).expect("more follow")).await.is(200);
            assert_eq!(names(&rest, "tags"), tags[1000..]);
            assert_eq!(next(&rest), None);
        }
    }

    async fn l04_a_bad_n_is_400(at) {
        let repository = tagged(&at, &["a"]).await;
        for n in ["-1", "x", "1.5", ""] {
            at.get(format!("/v2/{repository}/tags/list?n={n}")).await.refused(400, "UNSUPPORTED");
            at.get(format!("/v2/_catalog?n={n}")).await.refused(400, "UNSUPPORTED");
        }
    }

    async fn l04_an_unknown_last_is_a_place_in_the_order(at) {
        let repository = tagged(&at, &["a", "c"]).await;
        for (last, rest) in [("b", &["c"][..]), ("", &["a", "c"]), ("zzz", &[]), ("%20not/a~tag", &["a", "c"])] {
            let answer = at.get(format!("/v2/{repository}/tags/list?last={last}")).await.is(200);
            assert_eq!(names(&answer, "tags"), rest, "{last}");
        }
    }

    async fn l04_a_repository_without_tags_has_an_empty_list(at) {
        let repository = tagged(&at, &["a", "b"]).await;
        for tag in ["a", "b"] {
            at.delete(crate::row::manifest(&repository, tag)).await.is(202);
        }
        let answer = at.get(format!("/v2/{repository}/tags/list")).await.is(200);
        assert!(names(&answer, "tags").is_empty());
        assert_eq!(next(&answer), None);
    }

    async fn l05_no_lasting_tag_is_missed_or_doubled_while_others_come_and_go(at) {
        let lasting: Vec<String> = (0..30).map(|number| format!("k{number:02}")).collect();
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        for tag in &lasting {
            at.tag(&repository, tag, &stored).await;
        }
        let (mut found, mut path) = (Vec::new(), Some(format!("/v2/{repository}/tags/list?n=4")));
        let mut number = 0;
        while let Some(page) = path {
            let passing = format!("k{:02}-passing", (number * 7) % 30);
            at.tag(&repository, &passing, &stored).await;
            let answer = at.get(page).await.is(200);
            found.extend(names(&answer, "tags"));
            path = next(&answer);
            let ask = Ask::new(Method::DELETE, crate::row::manifest(&repository, &passing));
            at.send(ask).await.is(202);
            number += 1;
            assert!(number < 100, "the pages have no end: {found:?}");
        }
        assert!(found.is_sorted(), "{found:?}");
        let kept: Vec<&String> = found.iter().filter(|tag| !tag.ends_with("passing")).collect();
        assert_eq!(kept, lasting.iter().collect::<Vec<_>>());
    }
}

//! Pages of lists: `n`, `last`, and the `Link` to the next page.

use domain::Revision;
use domain::query::{Query, escape, rows};
use registry::Asked;
use registry::listing::PageOf;

use super::error::{Code, Failure};

/// Which page is asked for.
pub(super) fn page(query: &Query) -> Result<PageOf, Failure> {
    let rows = match query.get("n") {
        None => None,
        Some(text) => Some(rows(text).ok_or_else(|| Failure::bad(Code::Unsupported, "n is not a number of rows"))?),
    };
    Ok(PageOf { rows, last: query.get("last").map(str::to_owned) })
}

/// The revision that the page before showed: this one must not show less. Set by us, so nonsense is ignored.
pub(super) fn after_the_page_before(query: &Query, asked: Asked) -> Asked {
    asked.after(query.get("rev").and_then(|text| text.parse().ok()).map(Revision))
}

/// The `Link` to the page after `last`: path-only, one, and keeping what was asked. `n` only where the client gave one.
pub(super) fn link(path: &str, query: &Query, last: &str, revision: Revision) -> String {
    let mut parts = Vec::new();
    for name in ["n", "artifactType"] {
        if let Some(value) = query.get(name) {
            parts.push(format!("{name}={}", escape(value)));
        }
    }
    parts.push(format!("last={}", escape(last)));
    parts.push(format!("rev={revision}"));
    format!("<{path}?{}>; rel=\"next\"", parts.join("&"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_page_is_asked_for_as_this_one_was(
            n in proptest::option::of("\\PC{0,6}"), kind in proptest::option::of("\\PC{0,20}"), last in "\\PC{0,30}",
            revision in any::<u64>()
        ) {
            let asked = [("n", &n), ("artifactType", &kind), ("other", &kind)];
            let asked = asked.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", escape(value))));
            let query = Query::parse(&asked.collect::<Vec<_>>().join("&"));
            let text = link("/v2/a/tags/list", &query, &last, Revision(revision));
            let next = text.strip_prefix("</v2/a/tags/list?").and_then(|text| text.strip_suffix(">; rel=\"next\""));
            let next = next.unwrap_or_else(|| panic!("{text}"));
            prop_assert!(next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%&=-._~".contains(&byte)), "{}", next);
            let next = Query::parse(next);
            prop_assert_eq!((next.get("n"), next.get("artifactType")), (query.get("n"), query.get("artifactType")));
            prop_assert_eq!((next.get("last"), next.get("other")), (Some(last.as_str()), None));
            let asked = after_the_page_before(&next, Asked::default());
            prop_assert_eq!(asked.after, Some(Revision(revision)));
        }
    }

    #[test]
    fn n_is_a_number_or_an_error() {
        let rows = |text: &str| page(&Query::parse(text)).map(|page| page.rows).ok();
        assert_eq!(rows(""), Some(None));
        assert_eq!(rows("n=0"), Some(Some(0)));
        assert_eq!(rows("n=25&last=x"), Some(Some(25)));
        assert_eq!(rows("n=99999999999999999999999"), Some(Some(usize::MAX)));
        for bad in ["n=-1", "n=x", "n=", "n=1.5", "n=+1"] {
            assert_eq!(rows(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_link_is_path_only_and_keeps_the_question() {
        let query = Query::parse("n=2&last=a&artifactType=application%2Fx%2Bjson&other=1");
        let text = link("/v2/a/referrers/d", &query, "sha256:ab", Revision(7));
        assert_eq!(
            text,
            "</v2/a/referrers/d?n=2&artifactType=application%2Fx%2Bjson&last=sha256%3Aab&rev=7>; rel=\"next\""
        );
        assert_eq!(
            link("/v2/_catalog", &Query::default(), "b", Revision(1)),
            "</v2/_catalog?last=b&rev=1>; rel=\"next\""
        );
    }

    #[test]
    fn the_next_page_comes_after_the_one_before() {
        let asked = |text: &str| after_the_page_before(&Query::parse(text), Asked::default()).after;
        assert_eq!(asked("rev=7"), Some(Revision(7)));
        assert_eq!(asked("rev=x"), None);
        assert_eq!(asked(""), None);
    }
}

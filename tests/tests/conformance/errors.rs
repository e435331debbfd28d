//! Rows P1, P2, E1, F19: the base, refusals in general, names.

use http::Method;
use tests::client::Ask;

use crate::row::{At, BOTH, Expect, blob, manifest, names, rows, uploads};

rows! {
    async fn p01_the_base_answers(at) {
        let answer = at.get("/v2/").await.is(200);
        assert_eq!(answer.body, &b"{}"[..]);
    }

    async fn p02_the_base_answers_head(at) {
        assert!(at.head("/v2/").await.is(200).body.is_empty());
    }

    async fn p02_the_base_without_a_slash_redirects(at) {
        let answer = at.get("/v2").await;
        assert!(answer.status.is_redirection(), "{}", answer.status);
        assert!(answer.header("location").ends_with("/v2/"));
        answer.is(301);
    }

    async fn p02_every_answer_names_the_protocol(at) {
        let (repository, unknown) = (at.repository(), BOTH[0].of(b"unknown"));
        let digest = at.push(&repository, b"{}", BOTH[0]).await;
        let path = blob(&repository, &digest);
        let answers = [
            at.get("/v2").await,
            at.get(&path).await,
            at.get(blob(&repository, &unknown)).await,
            at.head(manifest(&repository, "none")).await,
            at.get("/v2/nothing").await,
            at.get("/v2/Upper/tags/list").await,
            at.send(Ask::new(Method::PATCH, &path)).await,
            at.send(Ask::new(Method::GET, &path).header("range", "bytes=9-")).await,
            at.send(Ask::new(Method::GET, &path).header("if-none-match", format!("\"{digest}\""))).await,
            at.delete(&path).await,
        ];
        let statuses = answers.each_ref().map(|answer| answer.status.as_u16());
        assert_eq!(statuses, [301, 200, 404, 404, 404, 400, 405, 416, 304, 202]);
        for answer in answers {
            answer.has("docker-distribution-api-version", "registry/2.0");
        }
    }

    async fn e01_an_unknown_path_is_404(at) {
        for path in ["/v2/team/api/nothing", "/v2/team/api/blobs", "/v2/_nothing"] {
            let answer = at.get(path).await.is(404);
            answer.refused(404, "UNSUPPORTED");
        }
        at.head("/v2/team/api/nothing").await.is(404);
    }

    async fn e01_a_wrong_method_is_405_and_names_the_right_ones(at) {
        let repository = at.repository();
        let wrong = [
            (Method::POST, blob(&repository, &BOTH[0].of(b"{}"))),
            (Method::PATCH, manifest(&repository, "v1")),
            (Method::PUT, format!("/v2/{repository}/tags/list")),
            (Method::DELETE, "/v2/_catalog".to_owned()),
            (Method::POST, format!("/v2/{repository}/referrers/{}", BOTH[0].of(b"{}"))),
            (Method::PUT, "/v2/".to_owned()),
        ];
        for (method, path) in wrong {
            let answer = at.send(Ask::new(method, &path)).await.refused(405, "UNSUPPORTED");
            assert!(answer.header("allow").contains("GET"), "{path}: {:?}", answer.headers);
        }
        let answer = at.get(uploads(&repository)).await.refused(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), "POST");
    }

    async fn e01_a_refused_head_has_no_body(at) {
        let repository = at.repository();
        let none = BOTH[0].of(b"none");
        let unknown = [blob(&repository, &none), manifest(&repository, "none"), manifest(&repository, &none)];
        for path in unknown.into_iter().chain([format!("/v2/{repository}/tags/list"), "/v2/nothing".to_owned()]) {
            assert!(at.head(path).await.is(404).body.is_empty());
        }
        assert!(at.head(format!("/v2/{repository}/tags/list?n=x")).await.is(400).body.is_empty());
        assert!(at.head("/v2/Upper/manifests/a").await.is(400).body.is_empty());
    }

    async fn f19_a_bad_tag_is_400(at) {
        let (repository, long) = (at.repository(), "a".repeat(129));
        let stored = at.image(&repository, BOTH[0]).await;
        for tag in [long.as_str(), ".leading", "-leading", "a+b"] {
            at.put(&repository, tag, stored.kind, &stored.body).await.refused(400, "MANIFEST_INVALID");
            at.get(manifest(&repository, tag)).await.refused(400, "MANIFEST_INVALID");
        }
        assert!(at.tags(&repository).await.is_empty());
        at.tag(&repository, &long[1..], &stored).await;
    }

    async fn f19_a_bad_name_is_400(at) {
        for name in ["Upper/case", "double//slash", "-leading", "trailing-/x", "under___score/_x"] {
            at.send(Ask::new(Method::POST, uploads(name))).await.refused(400, "NAME_INVALID");
            at.get(format!("/v2/{name}/tags/list")).await.refused(400, "NAME_INVALID");
        }
    }

    async fn f19_names_may_hold_the_words_of_the_protocol(at) {
        let own = at.repository();
        for name in ["blobs/manifests/y", "blobs/uploads/y", "manifests", "uploads/tags/list", "referrers/x_catalog"] {
            may_be_called(&at, &format!("{own}/{name}")).await;
        }
    }
}

async fn may_be_called(at: &At, name: &str) {
    let digest = at.push(name, b"{}", BOTH[0]).await;
    at.head(blob(name, &digest)).await.is(200);
    let stored = at.image(name, BOTH[0]).await;
    at.tag(name, "list", &stored).await;
    assert_eq!(at.tags(name).await, ["list"]);
    let answer = at.get(format!("/v2/{name}/referrers/{}", stored.digest)).await.is(200);
    assert!(names(&answer, "manifests").is_empty());
}

//! Rows D1 to D8: what is deleted is gone at once, and can be pushed again.

use serde_json::json;
use tests::content::sha256;
use tests::image::{INDEX, MANIFEST};

use crate::row::{At, BOTH, Expect, LAYER, Stored, blob, image, manifest, rows};

/// A manifest that lacks something is shown by tag and digest, and goes by both.
async fn is_shown_and_deleted(at: &At, repository: &str, stored: &Stored) {
    let tagged = format!("{}?tag=v1", stored.digest);
    at.put(repository, &tagged, stored.kind, &stored.body).await.created(&stored.digest);
    let paths = ["v1", &stored.digest].map(|reference| manifest(repository, reference));
    for path in &paths {
        let answer = at.head(path).await.is(200).has("content-type", stored.kind);
        let answer = answer.has("content-length", stored.body.len().to_string());
        assert!(answer.has("docker-content-digest", &stored.digest).body.is_empty());
        assert_eq!(at.get(path).await.is(200).body, stored.body);
    }
    for path in &paths {
        at.delete(path).await.is(202);
        at.is_gone(path).await;
        at.delete(path).await.refused(404, "MANIFEST_UNKNOWN");
    }
}

rows! {
    async fn d02_sparse_manifests_are_deleted_and_then_what_was_pushed(at) {
        for algorithm in BOTH {
            let (repository, config, layer, late) = (at.sparse_repository(), at.bytes(60), at.bytes(300), at.bytes(301));
            let mut pushed = vec![at.push(&repository, &config, algorithm).await];
            pushed.push(at.push(&repository, &layer, algorithm).await);
            let layers: [(&str, &[u8]); 3] = [(LAYER, &layer), (LAYER, &late), (LAYER, b"never pushed")];
            let lacking = Stored::new(MANIFEST, image(algorithm, &config, &layers, &json!({})), algorithm);
            at.store(&repository, &lacking).await;
            let missing = Stored::new(MANIFEST, at.bytes(40), algorithm);
            let index = Stored::index(algorithm, &[&lacking, &missing], &json!({}));
            // What comes later is named by the manifest that waited for it.
            pushed.push(at.push(&repository, &late, algorithm).await);
            for digest in &pushed {
                at.delete(blob(&repository, digest)).await.refused(405, "DENIED");
            }
            for stored in [&index, &lacking] {
                is_shown_and_deleted(&at, &repository, stored).await;
            }
            for digest in &pushed {
                at.delete(blob(&repository, digest)).await.is(202);
                at.is_gone(&blob(&repository, digest)).await;
            }
            at.is_gone(&blob(&repository, &algorithm.of(b"never pushed"))).await;
            at.delete(blob(&repository, &algorithm.of(b"never pushed"))).await.refused(404, "BLOB_UNKNOWN");
            assert!(at.tags(&repository).await.is_empty());
        }
    }

    async fn d01_a_deleted_tag_is_gone(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        at.tag(&repository, "v1", &stored).await;
        at.delete(manifest(&repository, "v1")).await.is(202);
        at.is_gone(&manifest(&repository, "v1")).await;
        assert!(at.tags(&repository).await.is_empty());
        at.delete(manifest(&repository, "v1")).await.refused(404, "MANIFEST_UNKNOWN");
    }

    async fn d02_manifests_are_deleted_parents_first(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let child = at.image(&repository, algorithm).await;
            let index = Stored::index(algorithm, &[&child], &json!({}));
            at.store(&repository, &index).await;
            for stored in [index, child] {
                at.delete(manifest(&repository, &stored.digest)).await.is(202);
                at.is_gone(&manifest(&repository, &stored.digest)).await;
            }
        }
    }

    async fn d02_a_child_is_deleted_before_its_index(at) {
        let repository = at.repository();
        let child = at.image(&repository, BOTH[0]).await;
        let index = Stored::index(BOTH[0], &[&child], &json!({}));
        at.store(&repository, &index).await;
        at.delete(manifest(&repository, &child.digest)).await.is(202);
        at.is_gone(&manifest(&repository, &child.digest)).await;
        at.head(manifest(&repository, &index.digest)).await.is(200);
    }

    async fn d03_a_digest_never_stored_is_404(at) {
        let repository = at.repository();
        at.image(&repository, BOTH[0]).await;
        for algorithm in BOTH {
            let path = manifest(&repository, &algorithm.of(b"never stored"));
            at.delete(&path).await.refused(404, "MANIFEST_UNKNOWN");
            at.is_gone(&path).await;
            // As after F13 and F14: a body that was refused under a digest is not there either.
            let refused = at.put(&repository, &algorithm.of(b"never stored"), INDEX, b"never stored, and no manifest").await;
            refused.is(400);
            at.delete(&path).await.refused(404, "MANIFEST_UNKNOWN");
        }
    }

    async fn d04_a_deleted_blob_is_gone(at) {
        let (repository, content) = (at.repository(), at.bytes(300));
        for algorithm in BOTH {
            let path = blob(&repository, &at.push(&repository, &content, algorithm).await);
            at.delete(&path).await.is(202);
            at.is_gone(&path).await;
            at.get(&path).await.refused(404, "BLOB_UNKNOWN");
        }
    }

    async fn d04_a_blob_never_pushed_is_404(at) {
        let repository = at.repository();
        at.push(&repository, b"{}", BOTH[0]).await;
        for algorithm in BOTH {
            let path = blob(&repository, &algorithm.of(b"never pushed"));
            at.delete(&path).await.refused(404, "BLOB_UNKNOWN");
            at.is_gone(&path).await;
        }
    }

    async fn d04_a_config_that_manifests_share_goes_after_the_last_of_them(at) {
        for algorithm in BOTH {
            let (repository, config) = (at.repository(), at.bytes(70));
            for _ in 0..3 {
                let shared = blob(&repository, &at.push(&repository, &config, algorithm).await);
                let mut stored = Vec::new();
                for len in [300, 301] {
                    let layer = at.bytes(len);
                    at.push(&repository, &layer, algorithm).await;
                    stored.push(Stored::new(MANIFEST, image(algorithm, &config, &[(LAYER, &layer)], &json!({})), algorithm));
                    at.store(&repository, &stored[stored.len() - 1]).await;
                }
                for stored in &stored {
                    at.delete(&shared).await.refused(405, "DENIED");
                    at.delete(manifest(&repository, &stored.digest)).await.is(202);
                    at.is_gone(&manifest(&repository, &stored.digest)).await;
                    at.head(&shared).await.is(200);
                }
                at.delete(&shared).await.is(202);
                at.is_gone(&shared).await;
                at.delete(&shared).await.refused(404, "BLOB_UNKNOWN");
            }
        }
    }

    async fn d05_the_same_tags_on_new_content_are_visible_at_once(at) {
        let repository = at.repository();
        for _ in 0..3 {
            let image = at.image(&repository, BOTH[0]).await;
            let index = Stored::index(BOTH[0], &[&image], &json!({}));
            let empty = blob(&repository, &at.push(&repository, b"{}", BOTH[0]).await);
            let more = json!({"artifactType": "application/vnd.example.thing", "annotations": {"of": image.digest}});
            let artifact = Stored::new(MANIFEST, crate::row::image(BOTH[0], b"{}", &[(LAYER, b"{}")], &more), BOTH[0]);
            let all = [("index", index), ("image", image), ("tagged-artifact", artifact)];
            for (tag, stored) in &all {
                at.tag(&repository, tag, stored).await;
                assert_eq!(at.get(manifest(&repository, tag)).await.is(200).body, stored.body);
                assert!(at.tags(&repository).await.contains(&(*tag).to_owned()));
            }
            for (tag, stored) in &all {
                at.delete(manifest(&repository, tag)).await.is(202);
                at.is_gone(&manifest(&repository, tag)).await;
                at.delete(manifest(&repository, &stored.digest)).await.is(202);
                at.is_gone(&manifest(&repository, &stored.digest)).await;
            }
            assert!(at.tags(&repository).await.is_empty());
            at.delete(&empty).await.is(202);
            at.is_gone(&empty).await;
        }
    }

    async fn d06_a_deleted_tag_leaves_its_manifest(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        at.tag(&repository, "v1", &stored).await;
        at.delete(manifest(&repository, "v1")).await.is(202);
        for _ in 0..3 {
            assert_eq!(at.get(manifest(&repository, &stored.digest)).await.is(200).body, stored.body);
        }
    }

    async fn d06_a_deleted_manifest_takes_its_tags(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        for tag in ["a", "b", "c"] {
            at.tag(&repository, tag, &stored).await;
        }
        at.delete(manifest(&repository, &stored.digest)).await.is(202);
        for tag in ["a", "b", "c"] {
            at.get(manifest(&repository, tag)).await.refused(404, "MANIFEST_UNKNOWN");
        }
        assert!(at.tags(&repository).await.is_empty());
        at.delete(manifest(&repository, &stored.digest)).await.refused(404, "MANIFEST_UNKNOWN");
    }

    async fn d06_the_very_same_digest_and_tag_come_back(at) {
        let (repository, layer) = (at.repository(), at.bytes(500));
        let config = at.push(&repository, b"{}", BOTH[0]).await;
        let digest = at.push(&repository, &layer, BOTH[0]).await;
        let subject = json!({"subject": crate::row::descriptor(BOTH[0], MANIFEST, b"a subject")});
        let stored = Stored::new(MANIFEST, image(BOTH[0], b"{}", &[(LAYER, &layer)], &subject), BOTH[0]);
        let referrers = format!("/v2/{repository}/referrers/{}", sha256(b"a subject"));
        for _ in 0..3 {
            at.push(&repository, b"{}", BOTH[0]).await;
            at.push(&repository, &layer, BOTH[0]).await;
            at.tag(&repository, "v1", &stored).await;
            assert_eq!(at.get(manifest(&repository, "v1")).await.is(200).body, stored.body);
            assert!(at.get(&referrers).await.is(200).text().contains(&stored.digest));
            assert_eq!(at.get(blob(&repository, &digest)).await.is(200).body, layer);
            at.delete(manifest(&repository, &stored.digest)).await.is(202);
            assert!(!at.get(&referrers).await.is(200).text().contains(&stored.digest));
            at.delete(blob(&repository, &digest)).await.is(202);
            at.delete(blob(&repository, &config)).await.is(202);
            at.is_gone(&blob(&repository, &digest)).await;
        }
    }

    async fn d07_a_blob_that_a_manifest_names_stays(at) {
        let (repository, layer) = (at.repository(), at.bytes(500));
        at.push(&repository, b"{}", BOTH[0]).await;
        let digest = at.push(&repository, &layer, BOTH[0]).await;
        let body = image(BOTH[0], b"{}", &[(LAYER, &layer)], &json!({}));
        let stored = Stored::new(MANIFEST, body, BOTH[0]);
        at.tag(&repository, "v1", &stored).await;
        let refused = at.delete(blob(&repository, &digest)).await.refused(405, "DENIED");
        assert!(refused.header("allow").contains("GET"), "{:?}", refused.headers);
        at.delete(blob(&repository, &sha256(b"{}"))).await.refused(405, "DENIED");
        assert_eq!(at.get(manifest(&repository, "v1")).await.is(200).body, stored.body);
        assert_eq!(at.get(blob(&repository, &digest)).await.is(200).body, layer);
    }

    async fn d08_what_was_deleted_through_one_region_is_gone_in_all(at) {
        let (repository, content) = (at.repository(), at.bytes(400));
        let stored = at.image(&repository, BOTH[0]).await;
        at.tag(&repository, "v1", &stored).await;
        let digest = at.push(&repository, &content, BOTH[0]).await;
        at.delete(manifest(&repository, &stored.digest)).await.is(202);
        // Three turns reach every region.
        for _ in 0..3 {
            at.get(manifest(&repository, "v1")).await.refused(404, "MANIFEST_UNKNOWN");
        }
        for _ in 0..3 {
            at.get(manifest(&repository, &stored.digest)).await.refused(404, "MANIFEST_UNKNOWN");
        }
        for _ in 0..3 {
            assert!(at.tags(&repository).await.is_empty());
        }
        at.delete(blob(&repository, &digest)).await.is(202);
        for _ in 0..3 {
            at.is_gone(&blob(&repository, &digest)).await;
        }
    }
}

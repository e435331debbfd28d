//! Rows D1 to D8: what is deleted is gone at once, and can be pushed again.

use serde_json::json;
use tests::content::sha256;
use tests::image::{INDEX, MANIFEST};

use crate::row::{BOTH, Expect, LAYER, Stored, blob, image, manifest, rows};

rows! {
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

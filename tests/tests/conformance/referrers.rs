//! Rows R1 to R7: what refers to a manifest.

use http::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Ask};
use tests::content::sha256;
use tests::image::{INDEX, MANIFEST};

use crate::row::{At, BOTH, CONFIG, Expect, LAYER, Stored, descriptor, image, manifest, rows};

fn referrers(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/referrers/{digest}")
}

fn entries(answer: &Answer) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&answer.body).expect("an index is JSON");
    assert_eq!((body["schemaVersion"].as_u64(), body["mediaType"].as_str()), (Some(2), Some(INDEX)));
    body["manifests"].as_array().expect("`manifests` is a list").clone()
}

async fn list(at: &At, repository: &str, digest: &str) -> Vec<Value> {
    entries(&at.get(referrers(repository, digest)).await.is(200).has("content-type", INDEX))
}

/// Pushes an image that refers to `subject`; `more` goes into its manifest.
async fn refer(at: &At, repository: &str, subject: &Value, more: &Value) -> Stored {
    let layer = at.bytes(50);
    at.push(repository, b"{}", BOTH[0]).await;
    at.push(repository, &layer, BOTH[0]).await;
    let mut all = json!({"subject": subject});
    for (key, value) in more.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    let stored = Stored::new(MANIFEST, image(BOTH[0], b"{}", &[(LAYER, &layer)], &all), BOTH[0]);
    let answer = at.store(repository, &stored).await;
    answer.has("oci-subject", subject["digest"].as_str().expect("a subject has a digest"));
    stored
}

fn find<'a>(entries: &'a [Value], stored: &Stored) -> &'a Value {
    let found = entries.iter().find(|entry| entry["digest"] == stored.digest.as_str());
    found.unwrap_or_else(|| panic!("{} is not listed in {entries:?}", stored.digest))
}

rows! {
    async fn r01_nothing_refers_to_what_was_never_pushed(at) {
        for algorithm in BOTH {
            assert!(list(&at, &at.repository(), &algorithm.of(b"never pushed")).await.is_empty());
        }
    }

    async fn r01_nothing_refers_to_an_image_by_itself(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let image = at.image(&repository, algorithm).await;
            assert!(list(&at, &repository, &image.digest).await.is_empty());
        }
    }

    async fn r02_a_put_with_a_subject_names_it(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let stored = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        let answer = at.put(&repository, "by-tag", stored.kind, &stored.body).await.created(&stored.digest);
        answer.has("oci-subject", &subject.digest);
    }

    async fn r03_entries_carry_type_size_and_annotations(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let notes = json!({"org.example.key": "value", "org.example.other": "ü"});
        let plain = refer(&at, &repository, &subject.descriptor(), &json!({"annotations": notes})).await;
        let of_type = |kind: &str| json!({"artifactType": kind, "annotations": notes});
        let one = refer(&at, &repository, &subject.descriptor(), &of_type("application/vnd.example.one")).await;
        let two = refer(&at, &repository, &subject.descriptor(), &of_type("application/vnd.example.two")).await;
        let more = json!({
            "subject": subject.descriptor(), "artifactType": "application/vnd.example.index", "annotations": notes,
        });
        let index = Stored::index(BOTH[0], &[&one], &more);
        at.store(&repository, &index).await;
        let found = list(&at, &repository, &subject.digest).await;
        assert_eq!(found.len(), 4);
        let kinds = [
            (&plain, CONFIG),
            (&one, "application/vnd.example.one"),
            (&two, "application/vnd.example.two"),
            (&index, "application/vnd.example.index"),
        ];
        for (stored, kind) in kinds {
            let entry = find(&found, stored);
            assert_eq!(entry["mediaType"], stored.kind);
            assert_eq!(entry["size"], stored.body.len());
            assert_eq!(entry["artifactType"], kind);
            assert_eq!(entry["annotations"], notes);
        }
    }

    async fn r03_an_index_and_its_children_refer_to_one_subject(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let subject = at.image(&repository, algorithm).await;
            let kind = "application/vnd.example.signature";
            let more = json!({"subject": subject.descriptor(), "artifactType": kind});
            let mut all = Vec::new();
            for len in [50, 51] {
                let layer = at.bytes(len);
                at.push(&repository, b"{}", algorithm).await;
                at.push(&repository, &layer, algorithm).await;
                all.push(Stored::new(MANIFEST, image(algorithm, b"{}", &[(LAYER, &layer)], &more), algorithm));
            }
            all.push(Stored::index(algorithm, &[&all[0], &all[1]], &more));
            for (number, stored) in all.iter().enumerate() {
                let reference = format!("{}?tag=t{number}", stored.digest);
                let answer = at.put(&repository, &reference, stored.kind, &stored.body).await.created(&stored.digest);
                let answer = answer.has("oci-subject", &subject.digest).has("oci-tag", format!("t{number}"));
                at.is_at_location(&answer, &stored.body).await;
                assert_eq!(list(&at, &repository, &subject.digest).await.len(), number + 1);
            }
            let path = format!("{}?artifactType={}", referrers(&repository, &subject.digest), kind.replace('/', "%2F"));
            let filtered = entries(&at.get(path).await.is(200).has("oci-filters-applied", "artifactType"));
            for found in [list(&at, &repository, &subject.digest).await, filtered] {
                assert_eq!(found.len(), 3, "{found:?}");
                for stored in &all {
                    let entry = find(&found, stored);
                    assert_eq!((&entry["artifactType"], &entry["mediaType"]), (&json!(kind), &json!(stored.kind)));
                }
            }
        }
    }

    async fn r03_an_entry_without_annotations_has_none(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let stored = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        assert_eq!(find(&list(&at, &repository, &subject.digest).await, &stored).get("annotations"), None);
    }

    async fn r03_a_missing_subject_has_referrers_too(at) {
        let repository = at.repository();
        let subject = descriptor(BOTH[0], MANIFEST, b"missing");
        let stored = refer(&at, &repository, &subject, &json!({})).await;
        find(&list(&at, &repository, &sha256(b"missing")).await, &stored);
    }

    async fn r04_a_filter_gives_only_its_type(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let kind = "application/vnd.example.one+json";
        refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        let wanted = refer(&at, &repository, &subject.descriptor(), &json!({"artifactType": kind})).await;
        let path = format!("{}?artifactType={}", referrers(&repository, &subject.digest), kind.replace('+', "%2B").replace('/', "%2F"));
        let answer = at.get(path).await.is(200).has("oci-filters-applied", "artifactType");
        let found = entries(&answer);
        assert_eq!(found.len(), 1);
        find(&found, &wanted);
    }

    async fn r04_the_type_of_a_config_is_a_type_too(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let plain = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        refer(&at, &repository, &subject.descriptor(), &json!({"artifactType": "application/vnd.example.one"})).await;
        let path = format!("{}?artifactType={}", referrers(&repository, &subject.digest), CONFIG.replace('+', "%2B"));
        let found = entries(&at.get(path).await.is(200).has("oci-filters-applied", "artifactType"));
        assert_eq!(found.len(), 1);
        find(&found, &plain);
    }

    async fn r05_a_malformed_digest_is_400(at) {
        let (here, unknown) = (at.repository(), at.repository());
        at.push(&here, b"{}", BOTH[0]).await;
        for repository in [here, unknown] {
            for digest in ["sha256:short", "sha512:short", "latest", &BOTH[0].of(b"x").to_uppercase()] {
                at.get(referrers(&repository, digest)).await.refused(400, "DIGEST_INVALID");
            }
        }
    }

    async fn r05_a_filter_without_a_match_is_empty(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        let path = format!("{}?artifactType=application/none", referrers(&repository, &subject.digest));
        let answer = at.get(path).await.is(200).has("oci-filters-applied", "artifactType");
        assert!(entries(&answer).is_empty());
    }

    async fn r05_an_index_without_a_type_has_none(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let index = Stored::index(BOTH[0], &[], &json!({"subject": subject.descriptor()}));
        at.store(&repository, &index).await;
        let found = list(&at, &repository, &subject.digest).await;
        assert_eq!(find(&found, &index).get("artifactType"), None);
    }

    async fn r05_a_subject_under_sha512(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[1]).await;
        let stored = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        find(&list(&at, &repository, &subject.digest).await, &stored);
        assert!(list(&at, &repository, &sha256(&subject.body)).await.is_empty(), "another name, another subject");
    }

    async fn r06_a_deleted_referrer_is_not_listed(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let kept = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        let stored = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        at.delete(manifest(&repository, &stored.digest)).await.is(202);
        let found = list(&at, &repository, &subject.digest).await;
        assert_eq!(found.len(), 1);
        find(&found, &kept);
    }

    async fn r06_referrers_of_a_deleted_subject_stay_listed(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let stored = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
        at.delete(manifest(&repository, &subject.digest)).await.is(202);
        find(&list(&at, &repository, &subject.digest).await, &stored);
    }

    async fn r07_more_than_fits_comes_in_pages(at) {
        let repository = at.repository();
        let subject = at.image(&repository, BOTH[0]).await;
        let kind = "application/vnd.example.large";
        let mut wanted = Vec::new();
        for number in 0..3 {
            let note = format!("{number}{}", "x".repeat(2_000_000));
            let more = json!({"artifactType": kind, "annotations": {"org.example.note": note}});
            wanted.push(refer(&at, &repository, &subject.descriptor(), &more).await.digest);
        }
        let mut path = Some(format!("{}?artifactType={kind}", referrers(&repository, &subject.digest)));
        let (mut found, mut pages) = (Vec::new(), 0);
        while let Some(page) = path {
            let answer = at.send(Ask::new(Method::GET, page)).await.is(200).has("oci-filters-applied", "artifactType");
            assert!(answer.body.len() < 4 * 1024 * 1024, "a page has {} bytes", answer.body.len());
            found.extend(entries(&answer).iter().map(|entry| entry["digest"].as_str().unwrap_or_default().to_owned()));
            let link = answer.header("link").to_owned();
            path = link.strip_prefix('<').and_then(|rest| rest.split_once(">; rel=\"next\"")).map(|(next, _)| next.to_owned());
            assert!(path.as_ref().is_none_or(|next| next.starts_with("/v2/") && next.contains("artifactType=")), "{link}");
            pages += 1;
        }
        assert!(pages > 1, "6 MB do not fit into one page");
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    async fn r07_entries_under_the_fallback_tag_are_listed(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let subject = at.image(&repository, algorithm).await;
            let image = at.image(&repository, algorithm).await;
            // An index has no type of its own: what the client's list says of it stands.
            let typed = Stored::index(algorithm, &[&image], &json!({}));
            at.store(&repository, &typed).await;
            let mut entry = typed.descriptor();
            entry["artifactType"] = json!("application/vnd.example.old");
            entry["annotations"] = json!({"org.example.key": "value"});
            let listed = Stored::index(algorithm, &[], &json!({"manifests": [image.descriptor(), entry]}));
            // Clients cut the encoded part to 64 characters, whatever the algorithm.
            let (name, encoded) = subject.digest.split_once(':').expect("a digest has two parts");
            let tag = format!("{name}-{}", &encoded[..64]);
            at.tag(&repository, &tag, &listed).await;
            // One that says its subject itself is listed beside them.
            let own = refer(&at, &repository, &subject.descriptor(), &json!({})).await;
            let found = list(&at, &repository, &subject.digest).await;
            assert_eq!(found.len(), 3, "{found:?}");
            assert_eq!(find(&found, &image)["artifactType"], CONFIG);
            assert_eq!(find(&found, &typed)["artifactType"], "application/vnd.example.old");
            assert_eq!(find(&found, &typed)["annotations"], json!({"org.example.key": "value"}));
            find(&found, &own);
        }
    }
}

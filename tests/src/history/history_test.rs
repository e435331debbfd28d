//! Hand-made histories: those that some order explains pass, and each kind of wrong answer is found.

use std::sync::Arc;

use super::{
    Answer, Condition, Content, Contents, Demand, Event, Name, Outcome, Put, Question, Read, Request, Said, Summary,
    check,
};

/// Two images over one layer, with configs of their own; a referrer of the first; an index over both.
fn contents() -> Arc<Contents> {
    let content = |blobs: &[&str]| Content { blobs: names(blobs), ..Content::default() };
    let signature = Content { subject: Some("m1".into()), artifact_type: Some("sig".into()), ..content(&["empty"]) };
    let index = Content { manifests: names(&["m1", "m2"]), ..Content::default() };
    let all = [("m1", content(&["c1", "layer"])), ("m2", content(&["c2", "layer"])), ("s1", signature), ("i1", index)];
    Arc::new(all.into_iter().map(|(digest, content)| (digest.into(), content)).collect())
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

/// A history in the making.
#[derive(Default)]
struct Book {
    events: Vec<Event>,
    clock: u64,
}

/// What was answered.
struct Told(u16, Option<u64>, Said);

fn done(status: u16, revision: u64) -> Told {
    Told(status, Some(revision), Said::Nothing)
}

fn code(status: u16, code: &str) -> Told {
    Told(status, None, Said::Code(code.into()))
}

fn absent(code: &str, revision: u64) -> Told {
    Told(404, Some(revision), Said::Code(code.into()))
}

fn shows(digest: &str, revision: u64) -> Told {
    Told(200, Some(revision), Said::Digest(digest.into()))
}

fn lists(tags: &[&str], more: bool, revision: u64) -> Told {
    Told(200, Some(revision), Said::Tags { tags: names(tags), more })
}

fn push(digest: &str) -> Request {
    Request::PushBlob { repository: "app".into(), digest: digest.into() }
}

fn mount(from: Option<&str>, digest: &str) -> Request {
    Request::MountBlob { repository: "app".into(), from: from.map(Name::from), digest: digest.into() }
}

fn delete_blob(digest: &str) -> Request {
    Request::DeleteBlob { repository: "app".into(), digest: digest.into() }
}

fn delete(digest: &str) -> Request {
    Request::DeleteManifest { repository: "app".into(), digest: digest.into() }
}

fn untag(tag: &str) -> Request {
    Request::DeleteTag { repository: "app".into(), tag: tag.into() }
}

fn put(digest: &str, tags: &[&str]) -> Request {
    put_if(digest, tags, Condition::Always)
}

fn put_if(digest: &str, tags: &[&str], condition: Condition) -> Request {
    Request::PutManifest(Put { repository: "app".into(), digest: digest.into(), tags: names(tags), condition })
}

fn read(question: Question) -> Request {
    read_as(question, Demand::Usual)
}

fn read_as(question: Question, demand: Demand) -> Request {
    Request::Read(Read { repository: "app".into(), question, demand, min_revision: None })
}

fn tag(tag: &str) -> Request {
    read(Question::Tag(tag.into()))
}

fn page(rows: usize, last: Option<&str>, walk: u64) -> Request {
    read(Question::Tags { rows: Some(rows), last: last.map(Name::from), walk })
}

fn matches(digest: &str) -> Condition {
    Condition::Matches(names(&[digest]))
}

impl Book {
    /// All blobs are there, and `m1` is tagged `a` and `b`: revisions 1 to 5.
    fn prepared() -> Book {
        let mut book = Book::default();
        for (revision, blob) in (1..).zip(["c1", "c2", "layer", "empty"]) {
            book.add(push(blob), done(201, revision));
        }
        book.add(put("m1", &["a", "b"]), done(201, 5));
        book
    }

    /// A request that ended before the next one begins.
    fn add(&mut self, request: Request, told: Told) {
        let start = self.clock;
        self.clock += 2;
        self.add_during(start, start + 1, request, told);
    }

    /// Requests that all run at the same time.
    fn together(&mut self, all: impl IntoIterator<Item = (Request, Told)>) {
        let start = self.clock;
        self.clock += 2;
        for (request, told) in all {
            self.add_during(start, start + 1, request, told);
        }
    }

    fn add_during(&mut self, start: u64, end: u64, request: Request, Told(status, revision, said): Told) {
        let outcome = Outcome::Answered(Answer { status, revision, is_stale: false, said });
        self.events.push(Event { client: self.events.len(), start, end, node: 1, request, outcome });
    }

    fn add_unknown(&mut self, request: Request) {
        let (start, outcome) = (self.clock, Outcome::Unknown);
        self.clock += 2;
        self.events.push(Event { client: 0, start, end: start + 1, node: 0, request, outcome });
    }

    #[track_caller]
    fn passes(&self) -> Summary {
        check(&contents(), &self.events).unwrap_or_else(|findings| panic!("{}", findings.join("\n")))
    }

    /// Fails, and the finding says so.
    #[track_caller]
    fn fails(&self, text: &str) {
        let findings = check(&contents(), &self.events).expect_err("something is wrong in this history");
        assert!(findings.join("\n").contains(text), "{}", findings.join("\n"));
    }
}

#[test]
fn an_honest_history_is_explained() {
    let mut book = Book::prepared();
    book.add(tag("a"), shows("m1", 5));
    book.add(put_if("m2", &["a"], Condition::Absent), Told(412, None, Said::Current(Some("m1".into()))));
    book.add(put_if("m2", &["a"], matches("m1")), done(201, 7));
    book.add(delete_blob("layer"), code(405, "DENIED"));
    book.add(put("i1", &[]), done(201, 8));
    book.add(put("s1", &[]), done(201, 9));
    book.add(
        read(Question::Referrers { subject: "m1".into(), artifact_type: None }),
        Told(200, Some(9), Said::Referrers(names(&["s1"]))),
    );
    book.add(delete("m1"), done(202, 10));
    book.add(tag("b"), absent("MANIFEST_UNKNOWN", 10));
    book.add(put("i1", &["c"]), Told(400, None, Said::Missing(names(&["m1"]))));
    book.add(delete_blob("c1"), done(202, 12));
    book.add(put("m1", &["a"]), Told(400, None, Said::Missing(names(&["c1"]))));
    book.add(mount(None, "c1"), Told(202, None, Said::Nothing));
    book.add(page(5, None, 0), lists(&["a"], false, 13));
    let summary = book.passes();
    assert_eq!((summary.writes, summary.exact, summary.between, summary.walks), (10, 4, 5, 1));
}

#[test]
fn puts_that_change_nothing_name_an_older_revision() {
    let mut book = Book::prepared();
    book.add(put("m1", &["a"]), done(201, 5));
    book.add(put_if("m1", &["b"], Condition::Present), done(201, 5));
    assert_eq!(book.passes().unchanged, 2);
    book.add(put("m2", &["a"]), done(201, 8));
    book.add(put("m1", &["a"]), done(201, 5));
    book.fails("no state in between explains it");
}

#[test]
fn of_puts_that_name_one_revision_one_did_it() {
    let mut book = Book::prepared();
    book.together([
        (put("m2", &["a"]), done(201, 6)),
        (put_if("m2", &["c"], Condition::Absent), done(201, 7)),
        (put("m2", &["a", "c"]), done(201, 7)),
    ]);
    assert_eq!(book.passes().unchanged, 1);
    let mut book = Book::prepared();
    let absent = || put_if("m2", &["c"], Condition::Absent);
    book.together([(absent(), done(201, 7)), (absent(), done(201, 7))]);
    book.fails("no state in between explains it");
}

#[test]
fn a_lost_update_is_found() {
    let mut book = Book::prepared();
    book.together([
        (put_if("m2", &["a"], matches("m1")), done(201, 6)),
        (put_if("s1", &["a"], matches("m1")), done(201, 7)),
    ]);
    book.fails("the state before it gives 412, current m2");
}

#[test]
fn a_missed_precondition_is_found() {
    let mut book = Book::prepared();
    book.add(put_if("m2", &["a"], Condition::Absent), done(201, 6));
    book.fails("the state before it gives 412, current m1");
    let mut book = Book::prepared();
    book.add(put_if("m2", &["new"], Condition::Present), done(201, 6));
    book.fails("the state before it gives 412, current none");
    let mut book = Book::prepared();
    book.add(put_if("m2", &["a"], matches("m1")), Told(412, None, Said::Current(Some("m1".into()))));
    book.fails("it gives 201");
}

#[test]
fn a_stale_read_is_found() {
    let mut book = Book::prepared();
    book.add(put("m2", &["a"]), done(201, 6));
    book.add(tag("a"), shows("m1", 5));
    book.fails("it shows an old state");
    // The same, naming a new revision.
    let mut book = Book::prepared();
    book.add(put("m2", &["a"]), done(201, 6));
    book.add(tag("a"), shows("m1", 6));
    book.fails("the state at revision 6 gives 200, m2");
    // A read before it showed what this one does not.
    let mut book = Book::prepared();
    book.together([(put("m2", &["a"]), done(201, 6)), (tag("a"), shows("m2", 6))]);
    book.add(tag("a"), shows("m1", 5));
    book.fails("it shows an old state");
}

#[test]
fn a_stale_refusal_is_found() {
    let book = |revision| {
        let mut book = Book::prepared();
        book.add(untag("a"), done(202, 6));
        book.add(put("m2", &["a"]), done(201, 7));
        book.add(tag("a"), Told(404, revision, Said::Code("MANIFEST_UNKNOWN".into())));
        book
    };
    book(Some(6)).fails("it shows an old state");
    book(Some(7)).fails("the state at revision 7 gives 200, m2");
    book(None).fails("a read names no revision");
    // A write that was refused names no revision, and holds in no state of its time.
    let mut book = Book::prepared();
    book.add(untag("a"), done(202, 6));
    book.add(put("m2", &["a"]), done(201, 7));
    book.add(untag("a"), code(404, "MANIFEST_UNKNOWN"));
    book.fails("no state in between explains it; the last one: it gives 202");
}

#[test]
fn a_read_that_runs_beside_a_write_may_see_it_or_not() {
    for told in [shows("m1", 5), shows("m2", 6)] {
        let mut book = Book::prepared();
        book.together([(put("m2", &["a"]), done(201, 6)), (tag("a"), told)]);
        assert_eq!(book.passes().exact, 1);
    }
    for told in [absent("MANIFEST_UNKNOWN", 6), shows("m1", 5)] {
        let mut book = Book::prepared();
        book.together([(untag("a"), done(202, 6)), (tag("a"), told)]);
        assert_eq!(book.passes().writes, 6);
    }
}

#[test]
fn what_began_later_happened_later() {
    let mut book = Book::prepared();
    book.add(put("m2", &["a"]), done(201, 8));
    book.add(untag("b"), done(202, 7));
    book.fails("revision 8 was known before this write began");
    // A tag that did not exist is read as if it had been put by what began later.
    let mut book = Book::prepared();
    book.add(tag("new"), shows("m1", 6));
    book.add(put("m1", &["new"]), done(201, 6));
    book.fails("the state at revision 6 gives 404");
    let mut book = Book::prepared();
    book.add(untag("a"), code(404, "MANIFEST_UNKNOWN"));
    book.add(untag("a"), done(202, 6));
    book.fails("it happened from revision 5 to 5");
}

#[test]
fn a_write_that_was_lost_or_done_twice_is_found() {
    let mut book = Book::prepared();
    book.together([(untag("a"), done(202, 6)), (untag("a"), done(202, 7))]);
    book.fails("the state before it gives 404, MANIFEST_UNKNOWN");
    let mut book = Book::prepared();
    book.together([(untag("a"), done(202, 6)), (untag("a"), done(202, 6))]);
    book.fails("2 writes claim this revision");
    let mut book = Book::prepared();
    book.add(put("m2", &["a"]), done(201, 6));
    book.add(read(Question::Manifest("m2".into())), absent("MANIFEST_UNKNOWN", 6));
    book.fails("the state at revision 6 gives 200, m2");
}

#[test]
fn a_resurrected_tag_is_found() {
    let mut book = Book::prepared();
    book.add(delete("m1"), done(202, 6));
    book.add(tag("b"), shows("m1", 7));
    book.fails("the state at revision 7 gives 404");
    let mut book = Book::prepared();
    book.add(untag("a"), done(202, 6));
    book.add(page(9, None, 0), lists(&["a", "b"], false, 6));
    book.fails("the state at revision 6 gives 200, [b]");
}

#[test]
fn a_wrong_list_is_found() {
    for tags in [&["a", "a", "b"][..], &["b", "a"], &["a"], &["a", "b", "c"]] {
        let mut book = Book::prepared();
        book.add(page(9, None, 0), lists(tags, false, 5));
        book.fails("the state at revision 5 gives 200, [a b]");
    }
    let mut book = Book::prepared();
    book.add(page(2, None, 0), lists(&["a", "b"], true, 5));
    book.fails("the state at revision 5 gives 200, [a b]");
}

#[test]
fn pages_follow_each_other() {
    let mut book = Book::prepared();
    book.add(page(1, None, 3), lists(&["a"], true, 5));
    book.add(put("m1", &["c"]), done(201, 6));
    book.add(page(1, Some("a"), 3), lists(&["b"], true, 6));
    book.add(page(1, Some("b"), 3), lists(&["c"], false, 6));
    assert_eq!(book.passes().walks, 1);
    // An entry that the page before ended with comes again.
    let mut book = Book::prepared();
    book.add(page(1, None, 3), lists(&["a"], true, 5));
    book.add(page(1, Some("a"), 3), lists(&["a"], true, 5));
    book.fails("the state at revision 5 gives 200, [b]");
    let mut book = Book::prepared();
    book.add(page(2, None, 3), lists(&["a", "b"], false, 5));
    book.add(page(2, Some("b"), 3), lists(&[], false, 5));
    book.fails("a page follows the last one");
    // It is allowed to show what was there when the page before was read, and nothing older.
    let mut book = Book::prepared();
    let second = |revision| lists(&["b"], false, revision);
    book.together([(put("m1", &["0"]), done(201, 6)), (page(2, None, 3), lists(&["0", "a"], true, 6))]);
    book.events.push(Event { start: 11, ..book.events.last().expect("a page").clone() });
    let Outcome::Answered(answer) = &mut book.events.last_mut().expect("a page").outcome else { panic!("answered") };
    let Told(_, revision, said) = second(5);
    (answer.revision, answer.said) = (revision, said);
    book.events.last_mut().expect("a page").request = page(2, Some("a"), 3);
    book.fails("the page shows an older state than the one before");
}

#[test]
fn bytes_of_a_blob_may_be_read_from_a_region_that_is_behind_but_never_goes_back() {
    let get = || read(Question::GetBlob("empty".into()));
    let mut book = Book::prepared();
    book.add(delete_blob("empty"), done(202, 6));
    book.add(get(), done(200, 5));
    assert_eq!(book.passes().exact, 1, "it had not heard of the delete");
    book.add(read_as(Question::GetBlob("empty".into()), Demand::Strict), done(200, 5));
    book.fails("it shows an old state");

    let mut book = Book::prepared();
    book.add(delete_blob("empty"), done(202, 6));
    book.add(read(Question::HeadBlob("empty".into())), absent("BLOB_UNKNOWN", 6));
    book.add(get(), done(200, 6));
    book.fails("the state at revision 6 gives 404, BLOB_UNKNOWN");

    let mut book = Book::prepared();
    book.add(delete_blob("empty"), done(202, 6));
    book.add(tag("a"), shows("m1", 6));
    book.add(get(), done(200, 5));
    book.fails("it shows an old state: revision 6");
}

#[test]
fn a_read_waits_for_the_revision_it_asks_for() {
    let local = |min_revision| {
        let mut book = Book::prepared();
        let read =
            Read { repository: "app".into(), question: Question::Tag("a".into()), demand: Demand::Local, min_revision };
        book.add(put("m2", &["a"]), done(201, 6));
        book.add(Request::Read(read), shows("m1", 5));
        book
    };
    assert_eq!(local(None).passes().exact, 1);
    local(Some(6)).fails("it shows an old state: revision 6");
}

#[test]
fn what_is_not_there_needs_a_proof_even_locally() {
    let list = |rows, tags: &[&str]| {
        let mut book = Book::prepared();
        book.add(untag("a"), done(202, 6));
        book.add(untag("b"), done(202, 7));
        book.add(put("m1", &["a"]), done(201, 8));
        let question = Question::Tags { rows: Some(rows), last: None, walk: 0 };
        book.add(read_as(question, Demand::Local), lists(tags, false, 7));
        book
    };
    list(9, &[]).fails("it shows an old state");
    assert_eq!(list(0, &[]).passes().exact, 1, "a page of no rows says nothing");
    let mut book = Book::prepared();
    book.add(put("m2", &["c"]), done(201, 6));
    book.add(read_as(Question::Tag("c".into()), Demand::Local), absent("MANIFEST_UNKNOWN", 5));
    book.fails("it shows an old state");
}

#[test]
fn mounts_follow_what_is_linked() {
    let mut book = Book::prepared();
    book.add(mount(Some("base"), "c1"), done(201, 6));
    book.fails("the state before it gives 202");
    let mut book = Book::prepared();
    book.add(mount(Some("app"), "c1"), Told(202, None, Said::Nothing));
    book.fails("it gives 201");
    // The door saw it before it was deleted; or it never can have.
    let mut book = Book::prepared();
    book.together([(delete_blob("empty"), done(202, 6)), (mount(None, "empty"), done(201, 7))]);
    assert_eq!(book.passes().writes, 7);
    let mut book = Book::prepared();
    book.add(delete_blob("empty"), done(202, 6));
    book.add(mount(None, "empty"), done(201, 7));
    book.fails("no state in between explains it; the last one: it gives 202");
    // A mount that did not link.
    let mut book = Book::prepared();
    book.add(delete_blob("empty"), done(202, 6));
    book.add(push("empty"), done(201, 7));
    book.add(mount(None, "empty"), done(201, 8));
    book.add(read(Question::HeadBlob("empty".into())), absent("BLOB_UNKNOWN", 8));
    book.fails("the state at revision 8 gives 200");
}

#[test]
fn a_blob_that_a_manifest_names_stays() {
    let mut book = Book::prepared();
    book.add(delete_blob("layer"), done(202, 6));
    book.fails("the state before it gives 405, DENIED");
    let mut book = Book::prepared();
    book.add(delete_blob("c2"), code(405, "DENIED"));
    book.fails("it gives 202");
}

#[test]
fn a_refusal_names_what_is_missing_and_nothing_else() {
    let mut book = Book::prepared();
    book.add(delete("m1"), done(202, 6));
    book.add(delete_blob("c1"), done(202, 7));
    book.add(delete_blob("layer"), done(202, 8));
    let refused = |missing: &[&str]| (put("m1", &["a"]), Told(400, None, Said::Missing(names(missing))));
    book.together([refused(&["c1", "layer"])]);
    assert_eq!(book.passes().between, 1);
    book.together([refused(&["c1"])]);
    book.fails("it gives 400, missing [c1 layer]");
}

#[test]
fn other_statuses_are_no_answers() {
    for (request, told) in [
        (untag("a"), code(404, "NAME_UNKNOWN")),
        (put("m2", &["a"]), code(400, "MANIFEST_INVALID")),
        (push("c1"), code(404, "BLOB_UPLOAD_UNKNOWN")),
    ] {
        let mut book = Book::prepared();
        book.add(request, told);
        book.fails("no state in between explains it");
    }
    let referrers = read(Question::Referrers { subject: "m1".into(), artifact_type: None });
    for (request, told) in [
        (tag("a"), Told(403, Some(5), Said::Code("DENIED".into()))),
        (tag("c"), absent("NAME_UNKNOWN", 5)),
        (referrers, absent("MANIFEST_UNKNOWN", 5)),
    ] {
        let mut book = Book::prepared();
        book.add(request, told);
        book.fails("the state at revision 5 gives");
    }
    let mut book = Book::prepared();
    book.add(put("m2", &["a"]), Told(201, None, Said::Nothing));
    book.fails("names no revision");
}

#[test]
fn a_write_of_unknown_outcome_may_have_happened_at_any_time_since() {
    let mut book = Book::prepared();
    book.add_unknown(put("m2", &["a"]));
    book.add(tag("a"), shows("m1", 5));
    assert_eq!(book.passes().happened, 0);
    book.add(tag("a"), shows("m2", 6));
    assert_eq!(book.passes().happened, 1);
    book.add(tag("a"), shows("m1", 7));
    // Of the two reads only one can be explained.
    book.fails("the state at revision 6 gives 200, m1");
}
